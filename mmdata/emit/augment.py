"""Copies of repeated samples: what `emit.augment` names is varied, everything else stays as it is."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from mmdata.augment import AUGMENTS, MODULES
from mmdata.emit.layout import Layout
from mmdata.errors import SampleError, ShardError
from mmdata.options import build
from mmdata.sample import PART_GROUPS, SOUND_PARTS, Sample
from mmdata.stage import Stage

FEATURES = frozenset({"mel", "mfcc"})  # groups of parts that are computed from the sound
OF_CAPTION = frozenset({"text_tokens", "token_ids"})  # columns that are computed from the caption, token by token

Parts = dict[str, bytes]


class Augmenter:
    """The augmentations of one run, for samples of one modality.

    options: by kind, as in the pipeline file. derived: place (`module:Class`) and options of the stages that computed
    something from sound or caption, and do so again for another.
    """

    def __init__(
        self,
        options: Mapping[str, Mapping[str, Any]],
        derived: Sequence[tuple[str, Mapping[str, Any]]],
        layout: Layout,
    ) -> None:
        self._steps: list[tuple[str, Callable[..., Any], Any]] = []
        for kind in layout.augments:
            if kind in options:
                built = build(AUGMENTS[kind], options[kind], f"emit.augment.{kind}")
                if layout.modality in getattr(built, "modalities", (layout.modality,)):
                    self._steps.append((kind, importlib.import_module(MODULES[kind]).augment, built))
        self._derived = derived

    def __bool__(self) -> bool:
        return bool(self._steps)

    @cached_property
    def _stages(self) -> list[Stage]:
        """Made at the first copy that needs them: librosa takes seconds to start."""
        return [_stage(place, values) for place, values in self._derived]

    def vary(self, parts: Parts, columns: dict[str, Any], key: str) -> tuple[Parts, dict[str, Any]]:
        """Parts of the copy `key`, and the columns in which its row differs from that of the sample itself.

        Raises ShardError where an augmentation fails, or gives other parts than it got: all samples of a shard have
        the same.
        """
        before = dict(columns)
        varied = {part: data for part, data in parts.items() if not _is_feature(part)}
        for kind, augment, options in self._steps:
            try:
                if kind == "caption":
                    columns["caption"] = augment(columns.get("caption") or "", key, options)
                else:
                    varied = augment(varied, columns, key, options)
            except (SampleError, ValueError) as error:
                raise ShardError(f"{key}: emit.augment.{kind}: {error}") from error
        if all(parts.get(part) == varied.get(part) for part in SOUND_PARTS):
            varied |= {part: data for part, data in parts.items() if _is_feature(part)}
        else:
            varied = self._derive(varied, columns, key, FEATURES)
        if columns.get("caption") != before.get("caption"):
            self._derive({}, columns, key, OF_CAPTION)
        if varied.keys() != parts.keys():
            went, came = sorted(parts.keys() - varied.keys()), sorted(varied.keys() - parts.keys())
            raise ShardError(f"{key}: emit.augment: parts {went} went and {came} came")
        return varied, {name: value for name, value in columns.items() if before.get(name) != value}

    def _derive(self, parts: Parts, columns: dict[str, Any], key: str, wanted: frozenset[str]) -> Parts:
        """The parts with what the stages that write `wanted` compute from them; its columns are put into `columns`."""
        sample = Sample(key, parts, columns)
        for stage in self._stages:
            if stage.writes & wanted:
                stage.process([sample])
        if not sample.is_ok:
            raise ShardError(f"{key}: emit.augment: {sample.reason.value}: {sample.detail}")
        return sample.parts


def is_derived(stage: Stage) -> bool:
    """True for stages that compute features from sound or tokens from captions."""
    return bool(stage.writes & (FEATURES | OF_CAPTION))


def _is_feature(part: str) -> bool:
    return any(PART_GROUPS[group].fullmatch(part) for group in FEATURES)


def _stage(place: str, options: Mapping[str, Any]) -> Stage:
    module, _, name = place.partition(":")
    stage: Stage = getattr(importlib.import_module(module), name)(**options)
    stage.setup()
    return stage
