"""A pipeline file made by looking at a table or a folder: what kind of source it is, and stages for what it holds."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from mmdata.errors import SourceError
from mmdata.run.catalog import SOURCES, load_class
from mmdata.shards import storage
from mmdata.shards.storage import is_remote
from mmdata.sources import inputs as files
from mmdata.sources.rows import MEDIA_SUFFIXES, ROW_FIELDS
from mmdata.sources.tar_index import entries

_MANY = 1000  # rows, files or members that are looked at
_TEMPLATE = """\
# Made by looking at {table}: {columns}.
# Look at it with `mmdata check`, run it with `mmdata run`.
name: {name}
seed: 17
sources:
  {source}: {entry}
plan: {{rows_per_shard: {rows}}}
fetch: {{timeout_s: 20, retries: 2, per_host: 4, contact: ""}}  # contact: a page or address site owners may write to
stages:
{stages}
{rest}
emit: {{samples_per_shard: {rows}, formats: [webdataset, parquet], val_share: 0.01}}
"""
_CLIP = "  - image_text: {model: ViT-B-32, pretrained: laion2b_s34b_b79k}  # fetched from the model hub once"
_STAGES = {
    "image_text": """\
  - decode_image: {side_px: 256, resize: keep_ratio, min_side_px: 64, max_aspect: 4}
  - hash_image: {}
  - channel_stats: {}""",
    "video_text": """\
  - probe_video: {min_duration_s: 1}
  - sample_frames: {uniform: 5, side_px: 256}
  - encode_clip: {side_px: 256, fps: 8}
  - sound_track: {}""",
    "audio_text": """\
  - decode_audio: {sample_rate_hz: 16000}
  - audio_stats: {}
  - log_mel: {mel_bands: 80}""",
    "interleaved": "  - decode_document: {side_px: 256, min_side_px: 64, max_aspect: 4, min_images: 1}",
    "instruct": "  - decode_document: {side_px: 336, resize: keep_ratio_largest, resize_only_if_bigger: true}",
}
_BY_SUBTITLES = """\
  - probe_video: {min_duration_s: 1}
  - align_subtitles: {}
  - cut_clips: {mode: subtitles, min_s: 1, max_s: 30}
  - sample_frames: {uniform: 5, side_px: 256}
  - encode_clip: {side_px: 256, fps: 8}
  - sound_track: {}"""
_DEDUP = "  - dedup: {by: sha256}"
_BY_SIMILARITY = f"""\
score:
{_CLIP}
select:
  - thresholds: {{clip_similarity: {{min: 0.28}}}}  # LAION-2B's choice for ViT-B-32
{_DEDUP}"""
_REST = {
    "image_text": _BY_SIMILARITY,
    "video_text": _BY_SIMILARITY.replace("0.28}}}  # LAION-2B's choice for", "0.25}}}  # mean over frames; look at"),
    "audio_text": f"select:\n  - thresholds: {{duration_s: {{min: 0.3, max: 30}}}}\n{_DEDUP}",
    "interleaved": f"score:\n{_CLIP.replace('image_text', 'document_similarity')}\nselect:\n{_DEDUP}",
    "instruct": f"select:\n{_DEDUP}",
}


def pipeline_for(table: str) -> str:
    """The text of a pipeline file for a table or a folder. Raises SourceError where it is none that could be read."""
    path = table if is_remote(table) else str(Path(table).absolute())
    options, modality, batch = _looked_at(path)
    own = [name for name in batch.schema.names if name not in ROW_FIELDS.names]
    stem = Path(table.rstrip("/*")).name.split(".")[0].lower()
    name = re.sub(r"[^a-z0-9]+", "-", stem).strip("-") or "links"
    if not isinstance(yaml.safe_load(name), str):
        name = f"data-{name}"  # 00000.tar: YAML would read a number
    has_subtitles = "subtitles" in own and batch["subtitles"].null_count < batch.num_rows
    return _TEMPLATE.format(
        table=table,
        columns=f"{batch.num_rows} or more rows; passed through as they are: {', '.join(own) or 'no other columns'}",
        name=name,
        source=name,
        entry=yaml.safe_dump(options, default_flow_style=True, width=10_000).strip(),
        rows=10_000 if modality in ("image_text", "instruct") else 1000,
        stages=_BY_SUBTITLES if modality == "video_text" and has_subtitles else _STAGES[modality],
        rest=_REST[modality],
    )


def _looked_at(path: str) -> tuple[dict[str, Any], str, Any]:
    """Options of the source that reads it, its modality, and its first rows."""
    why: SourceError | None = None
    for options in _guesses(path):
        try:
            batch = _first_batch(options)
        except SourceError as error:
            # What a table of links lacks says most: of the other kinds, every table lacks something.
            why = error if why is None or options["kind"] == "url_table" else why
            continue
        if options["kind"] == "url_table" and (modality := _most(batch["url"].to_pylist()[:_MANY])) != "image_text":
            options["modality"] = modality
        return options, str(options.get("modality") or load_class(SOURCES[options["kind"]]).modality), batch
    assert why is not None
    raise why


def _guesses(path: str) -> Iterator[dict[str, Any]]:
    """Sources that may read it, likelier ones first."""
    with files.unreadable(path):
        names = [file.relative for file in files.tree(path)] if files.is_folder(path) else []
    if names:
        yield {"kind": "aishell", "path": path}
        if _share_of_media(names) > 0.3:
            modality = _most(names[:_MANY])
            kind: dict[str, Any] = {"kind": "media_folder", "modality": modality}
            yield ({"kind": "image_folder"} if modality == "image_text" else kind) | {"path": path}
    if path.endswith(".tar") or any(name.endswith(".tar") for name in names):
        yield {"kind": "webdataset", "path": path} | _unless_images(_most(_members(path)))
    yield {"kind": "instruct", "path": path}
    yield {"kind": "interleaved", "path": path}
    yield {"kind": "url_table", "path": path}
    yield {"kind": "media_table", "path": path} | _unless_images(_named_in(path))
    yield {"kind": "parquet_bytes", "path": path} | _unless_images(_by_columns(path))


def _first_batch(options: dict[str, Any]) -> Any:
    source = load_class(SOURCES[options["kind"]])(**{k: v for k, v in options.items() if k != "kind"})
    batch = next(iter(source.batches(source.inputs()[0])), None)
    if batch is None:
        raise SourceError(f"{options['path']}: holds no rows")
    if options["kind"] == "media_table" and batch["row_error"].null_count == 0:
        raise SourceError(f"{options['path']}: {batch['row_error'][0]}")
    return batch


def _unless_images(modality: str) -> dict[str, str]:
    return {} if modality == "image_text" else {"modality": modality}


def _share_of_media(names: list[str]) -> float:
    return sum(_modality_of(name) is not None for name in names) / len(names)


def _most(names: Sequence[str | None]) -> str:
    """The modality that most of these links or names are of, by their suffixes; pictures where none tells."""
    counts = Counter(_modality_of(name) for name in names if name)
    del counts[None]
    return str(counts.most_common(1)[0][0]) if counts else "image_text"


def _modality_of(name: str) -> str | None:
    suffix = re.split(r"[?#]", name)[0].rpartition(".")[2].lower()
    return next((modality for modality, suffixes in MEDIA_SUFFIXES.items() if suffix in suffixes), None)


def _members(path: str) -> list[str | None]:
    """Names in the first tar."""
    first = files.find(path, (".tar",))[0].path
    with files.unreadable(first), storage.open_input(first) as file:
        return [entry.name for entry, _ in zip(entries(file, first), range(_MANY), strict=False)]


def _named_in(path: str) -> str:
    """Modality of the files that a table names; as it is found, no file is looked at."""

    def look() -> str:
        batch = _first_batch({"kind": "media_table", "path": path})
        return _most(batch["media_path"].to_pylist()[:_MANY])

    return _or_images(look)


def _by_columns(path: str) -> str:
    """Modality of embedded media, by the name of their column."""

    def look() -> str:
        from mmdata.sources.parquet_rows import media_column, open_parquet

        first = files.find(path, (".parquet", ".pq"))[0].path
        with open_parquet(first) as parquet:
            name = media_column(parquet.schema_arrow, "", first).casefold()
        return next((f"{kind}_text" for kind in ("video", "audio") if kind in name), "image_text")

    return _or_images(look)


def _or_images(look: Callable[[], str]) -> str:
    try:
        return look()
    except SourceError:
        return "image_text"  # the source itself says what is wrong
