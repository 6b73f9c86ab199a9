"""Numbers about what was emitted that add up over windows: sources, licences, and the statistics of the pixels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmdata.emit.rows import WindowRows

LICENCE_COLUMNS = ("license", "licence")
_MOST_LICENCES = 1000  # of one window; the rest is counted as one
OTHER = "(others)"
_DIGITS = 6


def window_facts(rows: WindowRows | None) -> dict[str, Any]:
    """The facts of one window, as JSON: kept rows by source and licence, and sums over pixels by channel."""
    facts: dict[str, Any] = {"sources": {}, "licences": {}, "pixels": [0.0, [0.0] * 3, [0.0] * 3]}
    if rows is None:
        return facts
    facts["sources"] = _counts(rows.rows["source"])
    for name in LICENCE_COLUMNS:
        if name in rows.own.column_names:
            facts["licences"] = _counts(rows.own[name])
            break
    facts["pixels"] = _pixel_sums(rows.rows)
    return facts


def merged(windows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The facts of the dataset: counts added, and `channels` {mean, std, pixels}, or None where nobody measured it."""
    sources: Counter[str] = Counter()
    licences: Counter[str] = Counter()
    weight, first, second = 0.0, np.zeros(3), np.zeros(3)
    for window in windows:
        sources.update(window["sources"])
        licences.update(window["licences"])
        window_weight, window_first, window_second = window["pixels"]
        weight += window_weight
        first += np.array(window_first)
        second += np.array(window_second)
    channels = None
    if weight:
        mean = first / weight
        std = np.sqrt(np.maximum(second / weight - mean**2, 0))
        channels = {
            "mean": [round(float(value), _DIGITS) for value in mean],
            "std": [round(float(value), _DIGITS) for value in std],
            "pixels": int(weight),
        }
    return {"sources": dict(sorted(sources.items())), "licences": dict(sorted(licences.items())), "channels": channels}


def _counts(values: pa.ChunkedArray) -> dict[str, int]:
    counts = Counter({str(item["values"]): item["counts"] for item in pc.value_counts(values).to_pylist()})
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rest = sum(number for _, number in most[_MOST_LICENCES:])
    return dict(sorted(most[:_MOST_LICENCES])) | ({OTHER: rest} if rest else {})


def _pixel_sums(rows: pa.Table) -> list[Any]:
    """Pixels, and by channel the sum of values and of squares (range 0 to 1); from the mean and std of each picture."""
    if not {"channel_mean", "channel_std", "width_px", "height_px"} <= set(rows.column_names):
        return [0.0, [0.0] * 3, [0.0] * 3]
    measured = rows.filter(pc.and_(pc.is_valid(rows["channel_mean"]), pc.is_valid(rows["channel_std"])))
    pixels = measured["width_px"].to_numpy().astype(np.float64) * measured["height_px"].to_numpy()
    mean, std = (
        measured[name].combine_chunks().flatten().to_numpy().astype(np.float64).reshape(-1, 3)
        for name in ("channel_mean", "channel_std")
    )
    first = (pixels[:, None] * mean).sum(axis=0)
    second = (pixels[:, None] * (std**2 + mean**2)).sum(axis=0)
    return [float(pixels.sum()), first.tolist(), second.tolist()]
