"""A media file of any format to a medium of a sample, by the stages that make datasets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from mmdata.errors import MmdataError, Reason, SampleError
from mmdata.sample import RAW, Sample
from mmdata.shards import storage
from mmdata.train.media import MediaSpec, Medium


def medium_of(path: str, spec: MediaSpec) -> Medium:
    """The file as the encoder's kind of medium: a picture with its own pixels, frames spread over a film, a sound.

    path: or an fsspec URL. Raises SampleError where it is not there or cannot be decoded.
    """
    try:
        data = storage.read_bytes(path)
    except (OSError, MmdataError) as error:
        raise SampleError(Reason.STORAGE, f"{path}: {_said(error)}") from error
    sample = Sample("file-000000000000", {RAW: data}, {"url": path})
    for stage in _stages(spec):
        stage.setup()
        stage.process([sample])
        if not sample.is_ok:
            raise SampleError(sample.reason, f"{PurePosixPath(path).name}: {sample.detail}")
    if spec.kind == "video":
        frames = [("jpg", sample.parts[part]) for part in sample.frame_parts]
        return Medium("video", frames, sample.columns["frame_times_s"])
    return Medium(spec.kind, [(part, data) for part, data in sample.parts.items() if part != RAW])


def _stages(spec: MediaSpec) -> Sequence[Any]:
    if spec.kind == "image":
        from mmdata.image.decode_image import DecodeImage

        return [DecodeImage(keep_original=True)]
    if spec.kind == "video":
        from mmdata.video.probe_video import ProbeVideo
        from mmdata.video.sample_frames import SampleFrames

        return [ProbeVideo(), SampleFrames(uniform=spec.frames, side_px=spec.side_px, resize_only_if_bigger=True)]
    from mmdata.audio.decode_audio import DecodeAudio
    from mmdata.audio.log_mel import LogMel

    mel = [LogMel(kind="whisper", mel_bands=spec.mel_bands)] if spec.stored else []
    return [DecodeAudio(), *mel]


def _said(error: Exception) -> str:
    return "no such file" if isinstance(error, FileNotFoundError) else str(error)
