"""Films: probe, clips, frames, sound track, statistics, alignment of subtitles, augmentation; one stage per file."""
