"""The ledger: one row per input row of a shard, kept or not, as ingest left it; and the tables row-aligned with it."""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mmdata.errors import Reason, ShardError
from mmdata.sample import Sample
from mmdata.shards import storage

COMMON = pa.schema(
    [
        ("key", pa.string()),
        ("source", pa.string()),
        ("row", pa.int64()),  # number within the source, over all its files; the digits of the key
        ("modality", pa.string()),
        ("url", pa.string()),  # the link, or the place in storage the bytes came from
        ("status", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("retryable", pa.bool_()),
        ("attempts", pa.int32()),
        ("http_code", pa.int32()),
        ("raw_sha256", pa.string()),
        ("bytes", pa.int64()),  # of the raw media
        ("caption", pa.string()),
        ("language", pa.string()),
        ("parts", pa.string()),  # extensions of the staged parts, sorted, with a blank between: "jpg"
    ]
)
IMAGE = pa.schema(
    [
        ("width_px", pa.int32()),
        ("height_px", pa.int32()),
        ("original_width_px", pa.int32()),
        ("original_height_px", pa.int32()),
        ("phash", pa.uint64()),
        ("channel_mean", pa.list_(pa.float32(), 3)),
        ("channel_std", pa.list_(pa.float32(), 3)),
    ]
)
VIDEO = pa.schema(
    [
        ("width_px", pa.int32()),
        ("height_px", pa.int32()),
        ("original_width_px", pa.int32()),
        ("original_height_px", pa.int32()),
        ("duration_s", pa.float64()),
        ("fps", pa.float64()),
        ("num_frames", pa.int32()),
        ("sample_rate_hz", pa.int32()),  # of the sound track; null without one
        ("num_mel_frames", pa.int32()),
    ]
)
AUDIO = pa.schema([("duration_s", pa.float64()), ("sample_rate_hz", pa.int32()), ("num_mel_frames", pa.int32())])
DOCUMENT = pa.schema(
    [
        ("num_images", pa.int32()),
        ("messages", pa.string()),  # JSON: [{"role": ..., "content": [{"type": "text", "text": ...}, ...]}]
    ]
)
BY_MODALITY = {
    "image_text": IMAGE,
    "video_text": VIDEO,
    "audio_text": AUDIO,
    "interleaved": DOCUMENT,
    "instruct": DOCUMENT,
}
MODALITIES = tuple(BY_MODALITY)
# What stages of the pipeline file may add: in a ledger only where a stage that writes it is configured.
ANNOTATIONS: dict[str, pa.DataType] = {
    # video
    "is_vfr": pa.bool_(),
    "rotation_deg": pa.int32(),  # clockwise turn that the header asks for; what is emitted is upright
    "video_codec": pa.string(),
    "container": pa.string(),
    "has_sound": pa.bool_(),
    "header_duration_s": pa.float64(),
    "duration_corrected": pa.bool_(),
    "frame_times_s": pa.list_(pa.float64()),
    "motion": pa.float32(),
    "static_share": pa.float32(),
    "black_share": pa.float32(),
    "blur_share": pa.float32(),
    "letterbox_share": pa.float32(),
    "speech_in_subtitles": pa.float32(),
    "subtitle_shift_s": pa.float64(),
    "subtitle_correction_s": pa.float64(),
    # audio
    "audio_codec": pa.string(),
    "original_sample_rate_hz": pa.int32(),
    "original_channels": pa.int32(),
    "loudness_lufs": pa.float32(),  # before the gain; null for silence and below 0.4 s
    "true_peak_db": pa.float32(),
    "gain_db": pa.float32(),
    "noise_reduction_db": pa.float32(),
    "trimmed_start_s": pa.float64(),
    "trimmed_end_s": pa.float64(),
    "snr_db": pa.float32(),
    "clipping_share": pa.float32(),
    "silence_share": pa.float32(),
    "bandwidth_hz": pa.float32(),
    "rms_db": pa.float32(),
    "listed_speaker": pa.bool_(),
    "speech_share": pa.float32(),
    "clip_start_s": pa.float64(),
    "clip_end_s": pa.float64(),
    # text
    "caption_original": pa.string(),
    "language_confidence": pa.float32(),
    "text_chars": pa.int32(),
    "text_words": pa.int32(),
    "text_tokens": pa.int32(),
    "token_ids": pa.list_(pa.int32()),
    "text_repetition_share": pa.float32(),
    "text_caps_share": pa.float32(),
    "text_punctuation_share": pa.float32(),
    "text_digit_share": pa.float32(),
    "text_stop_share": pa.float32(),
    "caption_flags": pa.string(),
    "caption_hash": pa.uint64(),
    "caption_simhash": pa.uint64(),
    # documents
    "media_reasons": pa.list_(pa.string()),  # a reason for every medium the document came with, ok where it was kept
    # privacy
    "faces": pa.int32(),
}
RESERVED = {*COMMON.names, *ANNOTATIONS, *(name for schema in BY_MODALITY.values() for name in schema.names)}
_MODALITY = b"mmdata.modality"


def schema_of(modality: str, own: pa.Schema, written: Collection[str] = ()) -> pa.Schema:
    """Schema of a shard's ledger: common columns, those of the modality, annotations, the source's own (renamed).

    written: what the stages of the pipeline write.
    """
    fixed = BY_MODALITY[modality]
    added = [(name, kind) for name, kind in ANNOTATIONS.items() if name in written and name not in fixed.names]
    return pa.schema([*COMMON, *fixed, *pa.schema(added), *own], metadata={_MODALITY: modality.encode()})


def modality_of(schema: pa.Schema) -> str:
    """The modality of a ledger. Raises ShardError where the file says none."""
    modality: str = (schema.metadata or {}).get(_MODALITY, b"").decode()
    if modality not in BY_MODALITY:
        raise ShardError(f"a ledger of modality {modality!r}, allowed are {', '.join(BY_MODALITY)}")
    return modality


def table_of(samples: Sequence[Sample], own: pa.Table, modality: str, written: Collection[str] = ()) -> pa.Table:
    """The ledger of samples in input order; `own` is row-aligned with them and holds the source's own columns."""
    schema = schema_of(modality, own.schema, written)
    arrays = []
    for field in list(schema)[: len(schema) - own.num_columns]:
        match field.name:
            case "key":
                values: list[Any] = [sample.key for sample in samples]
            case "status":
                values = [sample.status.value for sample in samples]
            case "reason":
                values = [sample.reason.value for sample in samples]
            case "detail":
                values = [sample.detail for sample in samples]
            case "parts":
                values = [sample.columns.get("parts") or " ".join(sorted(sample.parts)) for sample in samples]
            case "retryable":
                values = [sample.reason.is_transient for sample in samples]
            case name:
                values = [sample.columns.get(name) for sample in samples]
        arrays.append(pa.array(values, field.type))
    return pa.Table.from_arrays([*arrays, *own.columns], schema=schema)


def parquet_bytes(table: pa.Table) -> bytes:
    """The table as a Parquet file; the same table gives the same bytes."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", row_group_size=65_536, store_schema=True)
    return sink.getvalue()


def read(path: str, columns: Sequence[str] | None = None) -> pa.Table:
    """A ledger or a table aligned with it. Raises ShardError where it is no Parquet or lacks a column."""
    with storage.open_input(path) as file:
        try:
            return pq.read_table(file, columns=list(columns) if columns is not None else None)
        except (pa.ArrowException, OSError, ValueError) as error:  # Arrow says OSError, without errno, of damaged pages
            if isinstance(error, OSError) and error.errno:
                raise
            raise ShardError(f"{path}: cannot be read as a ledger: {error}") from error


def validate(table: pa.Table, where: str) -> None:
    """Raise ShardError, with row and column, where a ledger breaks its own rules."""
    missing = [name for name in COMMON.names if name not in table.column_names]
    if missing:
        raise ShardError(f"{where}: columns {missing} are missing")
    keys: list[str] = table["key"].to_pylist()
    if len(set(keys)) != len(keys):
        raise ShardError(f"{where}: column key: {len(keys) - len(set(keys))} keys are there twice")
    known = {reason.value: reason for reason in Reason}
    for row, (status, reason) in enumerate(zip(table["status"].to_pylist(), table["reason"].to_pylist(), strict=True)):
        if reason not in known:
            raise ShardError(f"{where}: row {row}, column reason: {reason!r} is not in the closed list")
        if known[reason].status.value != status:
            raise ShardError(f"{where}: row {row}, column status: {status!r}, but {reason!r} means another")
