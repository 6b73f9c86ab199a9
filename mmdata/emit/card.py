"""README.md of a dataset: a card that Hugging Face `datasets` loads by, and the facts about the data as text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import yaml

from mmdata.emit.card_choices import choices_text, plain
from mmdata.emit.report_rules import applied

if TYPE_CHECKING:
    from mmdata.emit.manifest import DatasetFacts

_MOST_LINES = 30  # of a table whose length the data decide


def card_text(
    manifest: Mapping[str, Any], facts: DatasetFacts, features: Mapping[str, list[dict[str, Any]]] | None = None
) -> str:
    """The card of a dataset; manifest: the tree of manifest.json. It holds no caption and no link.

    Of a rule `long_tail` it names common concepts.

    features: by modality, of its tars.
    """
    front = yaml.safe_dump(_front_matter(manifest, features or {}), sort_keys=False, allow_unicode=True)
    sections = [
        f"---\n{front}---\n\n# {facts.name}\n",
        _what(manifest),
        _funnel(manifest, facts),
        *choices_text(applied(facts.rules, facts.selection.rules)),
        _table("Sources", ("source", "samples"), manifest["sources"]),
        _table("Licences", ("licence", "samples"), manifest["licences"]),
        _amounts(manifest),
        _pixels(manifest),
        _derived(manifest),
        _loading(manifest),
        f"## Digest\n\n`{manifest['digest']}`: sha256 of the sorted lines `sha256 bytes path` over shards, "
        "sidecars and index. `mmdata verify` checks every file.\n",
    ]
    return "\n".join(section for section in sections if section)


def _front_matter(manifest: Mapping[str, Any], features: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
    samples = manifest["samples"]
    folder, ending = ("parquet/", "parquet") if "parquet" in manifest["formats"] else ("", "tar")
    configs = [
        {
            "config_name": modality,
            "data_files": [
                {"split": split, "path": f"{folder}{modality}/{split}/*.{ending}"} for split in sorted(by_split)
            ],
        }
        for modality, by_split in samples.items()
    ]
    front = {"pretty_name": manifest["name"], "tags": ["mmdata", "webdataset"], "configs": configs}
    if "parquet" not in manifest["formats"]:  # Parquet says its features itself
        told = [
            {"config_name": modality, "features": features[modality]} for modality in features if modality in samples
        ]
        front |= {"dataset_info": told} if told else {}
    return front


def _what(manifest: Mapping[str, Any]) -> str:
    lines = ["| modality | split | samples | shards | bytes |", "|---|---|--:|--:|--:|"]
    for modality, by_split in manifest["samples"].items():
        for split, counts in by_split.items():
            shown = (counts["samples"], counts["shards"], counts["bytes"])
            lines.append(f"| {modality} | {split} | " + " | ".join(f"{number:,}" for number in shown) + " |")
    return "\n".join(lines) + "\n"


def _funnel(manifest: Mapping[str, Any], facts: DatasetFacts) -> str:
    lines = ["## From rows to samples", "", f"{manifest['rows']:,} rows were given.", ""]
    lines += ["| reason | rows |", "|---|--:|"]
    ordered = sorted(manifest["reasons"].items(), key=lambda item: (item[0] != "ok", -item[1], item[0]))
    lines += [f"| {reason} | {number:,} |" for reason, number in ordered]
    if facts.rules:
        lines += ["", "Selected by, in this order:", ""]
        counts = facts.selection.rules
        for number, (name, options) in enumerate(facts.rules):
            text = json.dumps(dict(options), ensure_ascii=False)
            after = f": dropped {counts[number].dropped:,} of {counts[number].given:,}" if number < len(counts) else ""
            lines.append(f"{number + 1}. `{name}: {text.replace('`', ' ')}`{after}")
    return "\n".join(lines) + "\n"


def _table(title: str, head: tuple[str, str], counts: Mapping[str, int]) -> str:
    if not counts:
        return ""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    lines = [f"## {title}", "", f"| {head[0]} | {head[1]} |", "|---|--:|"]
    lines += [f"| {plain(name)} | {number:,} |" for name, number in ordered[:_MOST_LINES]]
    if len(ordered) > _MOST_LINES:
        rest = sum(number for _, number in ordered[_MOST_LINES:])
        lines.append(f"| {len(ordered) - _MOST_LINES} others | {rest:,} |")
    return "\n".join(lines) + "\n"


def _pixels(manifest: Mapping[str, Any]) -> str:
    if set(manifest["samples"]) == {"audio_text"}:
        return ""
    normalise, channels = manifest["normalise"], manifest["channels"]
    text = (
        f"## Pixels\n\nA loader gives a model `(value / 255 - mean) / std` with `{normalise['name']}`: "
        f"mean {normalise['mean']}, std {normalise['std']}.\n"
    )
    if channels:
        text += f"\nMeasured over the kept pictures, range 0 to 1: mean {channels['mean']}, std {channels['std']}.\n"
    return text


def _amounts(manifest: Mapping[str, Any]) -> str:
    """Hours, pictures and frames, where there is anything but single pictures."""
    amounts = {name: amount for name, amount in manifest["amounts"].items() if name != "image_text"}
    if not amounts:
        return ""
    columns = ("rows", "hours", "images", "frames", "mel_frames")
    lines = ["## Amounts", "", "A repeated sample counts once.", ""]
    lines += ["| modality | " + " | ".join(columns).replace("_", " ") + " | sampling rates |"]
    lines += ["|---|" + "--:|" * len(columns) + "---|"]
    for modality, amount in amounts.items():
        shown = [f"{amount[name]:,.2f}" if name == "hours" else f"{amount[name]:,}" for name in columns]
        rates = ", ".join(f"{rate} Hz: {number:,}" for rate, number in amount["sample_rates_hz"].items())
        lines.append(f"| {modality} | " + " | ".join(shown) + f" | {rates or 'no sound'} |")
    return "\n".join(lines) + "\n"


def _derived(manifest: Mapping[str, Any]) -> str:
    if not manifest["derived"]:
        return ""
    lines = ["## Features", "", "Computed with these stages and options; `mel.npy` and `mfcc.npy` are NumPy files:", ""]
    for name, options in manifest["derived"]:
        text = json.dumps(options, ensure_ascii=False)
        lines.append(f"- `{name}: {text.replace('`', ' ')}`")
    return "\n".join(lines) + "\n"


def _loading(manifest: Mapping[str, Any]) -> str:
    if not manifest["samples"]:
        return ""
    lines = ["## Loading", "", "```python", "from datasets import load_dataset", ""]
    first, *others = [(modality, _first_split(by_split)) for modality, by_split in manifest["samples"].items()]
    lines += [f'{"dataset" if not others else first[0]} = load_dataset(DATASET, "{first[0]}", split="{first[1]}")']
    lines += [f'{modality} = load_dataset(DATASET, "{modality}", split="{split}")' for modality, split in others]
    lines += ["```"]
    lines += _without_decoders(manifest)
    if "webdataset" in manifest["formats"]:
        modality, split = first
        shards = manifest["samples"][modality][split]["shards"]
        numbers = f"{{00000..{shards - 1:05d}}}" if shards > 1 else "00000"
        tars = f"{modality}/{split}/{numbers}.tar"
        lines += ["", "```python", "import webdataset as wds", ""]
        lines += [f'dataset = wds.WebDataset(DATASET + "/{tars}", shardshuffle=100)', "```"]
        if modality == "image_text":
            lines += ["", "```sh", "# open_clip wants webdataset <= 0.2.86"]
            command = "python -m open_clip_train.main --dataset-type webdataset --train-data"
            lines += [f"{command} \"$DATASET\"'/{tars}'", "```"]
    return "\n".join(lines) + "\n"


def _first_split(by_split: Mapping[str, Any]) -> str:
    return "train" if "train" in by_split else next(iter(by_split))


def _without_decoders(manifest: Mapping[str, Any]) -> list[str]:
    """How sound and clips are read where torchcodec, or FFmpeg's libraries that it needs, are not there."""
    columns = {"video_text": ("video", "Video"), "audio_text": ("audio", "Audio")}
    found = [modality for modality in columns if modality in manifest["samples"]]
    if not found:
        return []
    lines = [
        "",
        "`datasets` decodes clips and sound with torchcodec, which needs FFmpeg's libraries. Without them take the",
        "bytes and a decoder of your own; tars with sound cannot be loaded by `datasets` without torchcodec.",
        "",
        "```python",
        "from datasets import Audio, Video",
        "",
    ]
    for modality in found:
        name = "dataset" if len(manifest["samples"]) == 1 else modality
        column, feature = columns[modality]
        lines.append(f'{name} = {name}.cast_column("{column}", {feature}(decode=False))')
    return [*lines, "```"]
