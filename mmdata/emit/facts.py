"""Numbers about what was emitted that add up over windows: sources, licences, pixels, and amounts by modality."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmdata.emit.layout import FRAMES, LAYOUTS
from mmdata.emit.rows import WindowRows

LICENCE_COLUMNS = ("license", "licence")
_MOST_LICENCES = 1000  # of one window; the rest is counted as one
OTHER = "(others)"
_DIGITS = 6


def window_facts(by_modality: Mapping[str, WindowRows]) -> dict[str, Any]:
    """The facts of one window, as JSON: kept rows by source and licence, sums over pixels by channel, and amounts.

    A repeated sample counts once.
    """
    sources: Counter[str] = Counter()
    licences: Counter[str] = Counter()
    pixels = [0.0, [0.0] * 3, [0.0] * 3]
    amounts: dict[str, Any] = {}
    for modality, rows in sorted(by_modality.items()):
        sources.update(_counts(rows.rows["source"]))
        for name in LICENCE_COLUMNS:
            if name in rows.own.column_names:
                licences.update(_counts(rows.own[name]))
                break
        if "channel_mean" in LAYOUTS[modality].ledger_columns.names:
            pixels = _pixel_sums(rows.rows)
        amounts[modality] = _amounts(rows.rows)
    return {
        "sources": dict(sorted(sources.items())),
        "licences": dict(sorted(licences.items())),
        "pixels": pixels,
        "amounts": amounts,
    }


def merged(windows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The facts of the dataset: counts added, and `channels` {mean, std, pixels}, or None where nobody measured it.

    amounts: by modality {rows, hours, images, frames, mel_frames, sample_rates_hz}; what a modality has none of is 0.
    frames: those that are there as pictures; of clips without, all.
    """
    amounts: dict[str, dict[str, Any]] = {}
    sources: Counter[str] = Counter()
    licences: Counter[str] = Counter()
    weight, first, second = 0.0, np.zeros(3), np.zeros(3)
    for window in windows:
        sources.update(window["sources"])
        licences.update(window["licences"])
        _add_amounts(amounts, window.get("amounts", {}))
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
    return {
        "sources": dict(sorted(sources.items())),
        "licences": dict(sorted(licences.items())),
        "channels": channels,
        "amounts": {modality: _in_hours(amount) for modality, amount in sorted(amounts.items())},
    }


def _amounts(rows: pa.Table) -> dict[str, Any]:
    """Whole numbers, so that sums do not depend on their order."""

    def total(name: str, factor: int = 1) -> int:
        values = rows[name].to_pylist() if name in rows.column_names else []
        return sum(round(factor * value) for value in values if value is not None)

    known = rows["num_frames"].to_pylist() if "num_frames" in rows.column_names else [0] * rows.num_rows
    parts = rows["parts"].to_pylist()
    frames_of = {each: len(FRAMES.parts_of(each.split())) for each in set(parts)}
    pictured = [frames_of[each] for each in parts]
    rates = rows["sample_rate_hz"].drop_null() if "sample_rate_hz" in rows.column_names else pa.chunked_array([[]])
    return {
        "rows": rows.num_rows,
        "milliseconds": total("duration_s", 1000),
        "images": total("num_images"),
        "frames": sum(pictures or number or 0 for pictures, number in zip(pictured, known, strict=True)),
        "mel_frames": total("num_mel_frames"),
        "sample_rates_hz": _counts(rates),
    }


def _add_amounts(to: dict[str, dict[str, Any]], window: Mapping[str, Mapping[str, Any]]) -> None:
    for modality, amount in window.items():
        known = to.setdefault(modality, {"sample_rates_hz": Counter()})
        for name, value in amount.items():
            if name == "sample_rates_hz":
                known[name].update(value)
            else:
                known[name] = known.get(name, 0) + value


def _in_hours(amount: Mapping[str, Any]) -> dict[str, Any]:
    rates = dict(sorted(amount["sample_rates_hz"].items(), key=lambda item: item[0].zfill(12)))
    return {
        "rows": amount["rows"],
        "hours": round(amount["milliseconds"] / 3_600_000, _DIGITS),
        **{name: amount[name] for name in ("images", "frames", "mel_frames")},
        "sample_rates_hz": rates,
    }


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
