"""What a step was trained on: each sample with its loss, where it lies, where it came from, and a thumbnail."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2

from mmdata.errors import ConfigError, SampleError
from mmdata.sample import IMAGE_PARTS
from mmdata.train import journal
from mmdata.train.config import load
from mmdata.train.pictures import decode_HWC
from mmdata.train.records import ShardReader

_THUMB_PX = 128
_SHOWN_CHARS = 200
_CSS = "body{font:14px sans-serif} div{display:flex;gap:1em;margin:1em 0} img{height:fit-content} pre{margin:0}"


def explain(run: str, step: int, write_html: bool) -> Iterator[str]:
    """Lines about the samples of a step, highest loss first; with write_html also `step-<step>.html` in the run folder.

    Raises ConfigError where the run has no such step.
    """
    folder = Path(run)
    lines = {line["step"]: line for line in journal.read(folder / journal.SAMPLES)}
    if step not in lines:
        found = f"steps {min(lines)} to {max(lines)}" if lines else "none"
        raise ConfigError(f"{run}: has no step {step}; found {found} in {journal.SAMPLES}")
    data = load(folder / "config.yaml").data
    readers: dict[int, ShardReader] = {}
    blocks = []
    samples = sorted(lines[step]["samples"], key=lambda sample: -(sample[2] or 0.0))
    yield f"step {step}: {len(samples)} samples"
    for key, source, loss, labels, (entry, shard, row) in samples:
        options = data[entry]
        if entry not in readers:
            readers[entry] = ShardReader(options.dataset, options.modality, options.split)
        reader = readers[entry]
        facts = _facts(reader, shard, row)
        told = [
            f"{key}  loss {'-' if loss is None else f'{loss:.4f}'} over {labels} tokens  source {source or '-'}",
            f"  {options.dataset}/{options.modality}/{options.split}/{shard:05d} row {row}",
            *(f"  {name}: {str(value)[:_SHOWN_CHARS]}" for name, value in facts.items() if value is not None),
        ]
        yield from told
        if write_html:
            blocks.append(f"<div>{_thumbnail(reader, shard, row)}<pre>{html.escape(chr(10).join(told))}</pre></div>")
    if write_html:
        path = folder / f"step-{step}.html"
        page = f"<!doctype html><meta charset=utf-8><title>step {step}</title><style>{_CSS}</style>{''.join(blocks)}\n"
        path.write_text(page, encoding="utf-8")
        yield f"wrote {path}"


def _facts(reader: ShardReader, shard: int, row: int) -> dict[str, Any]:
    """Facts of a sample, its URL first."""
    try:
        facts = reader.facts(shard, row)
    except SampleError as error:
        return {"json": f"{error.reason.value} {error.detail}"}
    return {**({"url": facts["url"]} if "url" in facts else {}), **facts}


def _thumbnail(reader: ShardReader, shard: int, row: int) -> str:
    """The first picture of a sample, or nothing where it has none."""
    try:
        media = reader.read(shard, row).media
        parts = [
            part for found in media.values() for medium in found for part in medium.parts if part[0] in IMAGE_PARTS
        ]
        picture_HWC = decode_HWC(*parts[0], _THUMB_PX)
    except (SampleError, IndexError, ValueError, cv2.error):
        return ""
    scale = _THUMB_PX / max(picture_HWC.shape[:2])
    small_HWC = cv2.resize(picture_HWC, None, fx=min(1.0, scale), fy=min(1.0, scale), interpolation=cv2.INTER_AREA)
    encoded = cv2.imencode(".jpg", cv2.cvtColor(small_HWC, cv2.COLOR_RGB2BGR))[1].tobytes()
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(encoded).decode()}">'
