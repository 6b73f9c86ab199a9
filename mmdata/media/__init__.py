"""What video and sound share: what bytes are, how a decoder gets them, how FFmpeg is run, how pictures are resized."""
