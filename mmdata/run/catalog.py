"""The catalogue: every YAML name and the class behind it. To add a source, stage, scorer or rule, add its line here."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmdata.config import Entry, FetchOptions, Pipeline
from mmdata.errors import ConfigError
from mmdata.options import build, nearest
from mmdata.sample import RAW
from mmdata.sources.messages import MEDIA_REASONS
from mmdata.stage import OWN

if TYPE_CHECKING:
    from mmdata.select.rules import Rule
    from mmdata.sources.rows import Source
    from mmdata.stage import Stage

SOURCES = {
    "url_table": "mmdata.sources.url_table:UrlTable",
    "webdataset": "mmdata.sources.webdataset:WebDataset",
    "parquet_bytes": "mmdata.sources.parquet_bytes:ParquetBytes",
    "image_folder": "mmdata.sources.image_folder:ImageFolder",
    "media_folder": "mmdata.sources.media_folder:MediaFolder",
    "media_table": "mmdata.sources.media_table:MediaTable",
    "aishell": "mmdata.sources.aishell:Aishell",
    "msrvtt": "mmdata.sources.msrvtt:Msrvtt",
    "howto100m": "mmdata.sources.howto100m:Howto100m",
    "interleaved": "mmdata.sources.interleaved:Interleaved",
    "instruct": "mmdata.sources.instruct:Instruct",
}
STAGES = {
    "decode_image": "mmdata.image.decode_image:DecodeImage",
    "decode_document": "mmdata.image.decode_document:DecodeDocument",
    "hash_image": "mmdata.image.hash_image:HashImage",
    "channel_stats": "mmdata.image.channel_stats:ChannelStats",
    "probe_video": "mmdata.video.probe_video:ProbeVideo",
    "align_subtitles": "mmdata.video.align_subtitles:AlignSubtitles",
    "cut_clips": "mmdata.video.cut_clips:CutClips",
    "sample_frames": "mmdata.video.sample_frames:SampleFrames",
    "encode_clip": "mmdata.video.encode_clip:EncodeClip",
    "sound_track": "mmdata.video.sound_track:SoundTrack",
    "frame_stats": "mmdata.video.frame_stats:FrameStats",
    "blur_faces": "mmdata.image.blur_faces:BlurFaces",
    "clean_text": "mmdata.text.clean_text:CleanText",
    "language": "mmdata.text.language:Language",
    "text_stats": "mmdata.text.text_stats:TextStats",
    "caption_rules": "mmdata.text.caption_rules:CaptionRules",
    "text_hash": "mmdata.text.text_hash:TextHash",
    "tokenise": "mmdata.text.tokenise:Tokenise",
    "decode_audio": "mmdata.audio.decode_audio:DecodeAudio",
    "drop_speakers": "mmdata.audio.drop_speakers:DropSpeakers",
    "loudness": "mmdata.audio.loudness:Loudness",
    "denoise": "mmdata.audio.denoise:Denoise",
    "trim_silence": "mmdata.audio.trim_silence:TrimSilence",
    "segment_audio": "mmdata.audio.segment_audio:SegmentAudio",
    "audio_stats": "mmdata.audio.audio_stats:AudioStats",
    "log_mel": "mmdata.audio.log_mel:LogMel",
    "mfcc": "mmdata.audio.mfcc:Mfcc",
}
SCORERS = {
    "image_text": "mmdata.score.image_text:ImageText",
    "document_similarity": "mmdata.score.document_similarity:DocumentSimilarity",
    "audio_text": "mmdata.score.audio_text:AudioText",
    "transcript": "mmdata.score.transcript:Transcript",
}
RULES = {
    "remove": "mmdata.select.remove:Remove",
    "head": "mmdata.select.head:Head",
    "thresholds": "mmdata.select.thresholds:Thresholds",
    "where": "mmdata.select.where:Where",
    "dedup": "mmdata.select.dedup:Dedup",
    "long_tail": "mmdata.select.long_tail:LongTail",
    "balance": "mmdata.select.balance:Balance",
    "subset": "mmdata.select.subset:Subset",
    "mixture": "mmdata.select.mixture:Mixture",
}

# What ingest gives every stage to begin with, and every rule: common columns, always there.
FETCHED = frozenset({RAW, OWN, "caption", "url", "bytes", "raw_sha256", "language", "messages", MEDIA_REASONS})
DOCUMENTS = frozenset({"interleaved", "instruct"})
LOCAL_MODEL = "local-dir:"


@dataclass(frozen=True)
class Resolved:
    """The objects a pipeline file names, with relative paths made absolute."""

    sources: dict[str, Source]
    stages: list[Stage]
    scorers: dict[str, Stage]
    rules: list[Rule]
    fetch: FetchOptions


def resolve(pipeline: Pipeline) -> Resolved:
    """The classes and options behind every name. Raises ConfigError for the first one that is wrong."""
    folder = pipeline.folder
    sources = {name: _make(SOURCES, entry, "kind", folder) for name, entry in pipeline.sources.items()}
    stages = [_make(STAGES, entry, "stage", folder) for entry in pipeline.stages]
    scorers = {entry.name: _make(SCORERS, entry, "scorer", folder) for entry in pipeline.score}
    if len(scorers) < len(pipeline.score):
        raise ConfigError(
            f"{pipeline.path}: score: a scorer may stand there once; give the second a pipeline of its own"
        )
    rules = rules_of(pipeline)
    check_order(pipeline, stages, list(scorers.values()))
    check_documents(pipeline, sources, stages)
    fetch = replace(pipeline.fetch, hash_blocklist=absolute(pipeline.fetch.hash_blocklist, folder))
    return Resolved(sources, stages, scorers, rules, fetch)


def rules_of(pipeline: Pipeline) -> list[Rule]:
    """The rules of selection alone, without importing a stage. Raises ConfigError for the first one that is wrong."""
    return [_make(RULES, entry, "rule", pipeline.folder) for entry in pipeline.select]


def check_order(pipeline: Pipeline, stages: Iterable[Stage], scorers: Iterable[Stage]) -> None:
    """Raise ConfigError where a stage reads what no stage before it writes."""
    have = set(FETCHED)
    for entry, stage in zip([*pipeline.stages, *pipeline.score], [*stages, *scorers], strict=True):
        one_of: frozenset[str] = getattr(stage, "reads_any", frozenset())
        missing = sorted(stage.reads - have) or ([] if one_of & have or not one_of else [" or ".join(sorted(one_of))])
        if missing:
            wanted = {*missing, *one_of}
            classes = {name: load_class(place) for name, place in STAGES.items()}
            writers = [n for n, c in classes.items() if c.writes & wanted and c.modalities & stage.modalities]
            hint = f"; put {' or '.join(writers)} before it" if writers else ""
            raise ConfigError(
                f"{entry.where}: {entry.name} reads {', '.join(missing)}, which no stage before it writes{hint}"
            )
        have |= stage.writes


def check_documents(pipeline: Pipeline, sources: Mapping[str, Source], stages: Iterable[Stage]) -> None:
    """Raise ConfigError where a source gives documents and no stage turns their media into parts."""
    handled = {modality for stage in stages if MEDIA_REASONS in stage.writes for modality in stage.modalities}
    for name, source in sources.items():
        if source.modality in DOCUMENTS - handled:
            where = pipeline.sources[name].where
            raise ConfigError(f"{where}: its rows are documents: put decode_document among the stages")


def absolute(path: str, folder: Path) -> str:
    """A path of the pipeline file as absolute; URLs, models by name and empty values as they are."""
    if path.startswith(LOCAL_MODEL):
        return LOCAL_MODEL + absolute(path.removeprefix(LOCAL_MODEL), folder)
    if not path or "://" in path:
        return path
    return str((folder / path).absolute())


def _make(catalog: Mapping[str, str], entry: Entry, kind: str, folder: Path) -> Any:
    if entry.name not in catalog:
        raise ConfigError(
            f"{entry.where}: no such {kind}: {entry.name}{nearest(entry.name, catalog)}; allowed: {', '.join(catalog)}"
        )
    cls = load_class(catalog[entry.name])
    options = {
        **entry.options,
        **{name: absolute(value, folder) for name, value in _files_of(cls, entry, kind).items()},
    }
    where = entry.where if kind == "kind" else f"{entry.where}.{entry.name}"
    return cls.parse(options, where) if hasattr(cls, "parse") else build(cls, options, where)


def _files_of(cls: Any, entry: Entry, kind: str) -> dict[str, str]:
    """The options of an entry that name a file or folder, as the pipeline file says them."""
    own: frozenset[str] = getattr(cls, "files", frozenset()) if kind == "rule" else frozenset()
    texts = {name: value for name, value in entry.options.items() if isinstance(value, str) and value}
    return {
        name: texts[name]
        for name in sorted(texts.keys() & {"path", "root", "model", *own})
        if name != "model" or name in own or texts[name].startswith(LOCAL_MODEL)
    }


def named_files(pipeline: Pipeline) -> list[str]:
    """What a pipeline file names as files and folders, as it says them; also patterns and URLs."""
    entries = (
        *((SOURCES, "kind", entry) for entry in pipeline.sources.values()),
        *((STAGES, "stage", entry) for entry in pipeline.stages),
        *((SCORERS, "scorer", entry) for entry in pipeline.score),
        *((RULES, "rule", entry) for entry in pipeline.select),
    )
    found = [_files_of(load_class(catalog[entry.name]), entry, kind).values() for catalog, kind, entry in entries]
    return [*(value for values in found for value in values), *filter(None, [pipeline.fetch.hash_blocklist])]


def load_class(place: str) -> Any:
    """The class at `module:Name`."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)
