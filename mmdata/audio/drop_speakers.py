"""Stage drop_speakers: recordings of people on a list are left out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import annotated_types as at

from mmdata.errors import ConfigError, Reason
from mmdata.options import operational, semantic
from mmdata.sample import Sample
from mmdata.stage import OWN, Resources


@dataclass(kw_only=True)
class DropSpeakers:
    """Drop samples (policy.speaker) whose speaker, by a column of the source's own, is listed; bytes are let go of.

    Names are compared whole, without blanks around them; case counts. listed_speaker: false for all that stay. A list
    in a file is read once, when a run starts: names added to it later need a new run.
    """

    name: ClassVar[str] = "drop_speakers"
    version: ClassVar[int] = 1
    modalities: ClassVar[frozenset[str]] = frozenset({"audio_text", "video_text"})
    reads: ClassVar[frozenset[str]] = frozenset({OWN})
    writes: ClassVar[frozenset[str]] = frozenset({"listed_speaker"})
    isolated: ClassVar[bool] = False  # looks at a column only
    resources: ClassVar[Resources] = Resources(cpus=0.1)

    column: Annotated[str, at.MinLen(1)] = semantic("speaker")
    speakers: list[str] = semantic(factory=list)
    path: str = semantic("")  # a text file with one name a line; lines that begin with # are comments
    unknown: Literal["drop", "keep"] = semantic("drop")  # samples whose row names no speaker
    batch_size: Annotated[int, at.Ge(1)] = operational(256)

    def __post_init__(self) -> None:
        if not self.speakers and not self.path:
            raise ValueError("give speakers, path or both; without a list nobody is left out")

    def check(self) -> None:
        """Raise ConfigError where the list cannot be read."""
        self._names()

    def setup(self) -> None:
        self._listed = self._names()

    def process(self, samples: list[Sample]) -> list[Sample]:
        for sample in samples:
            value = sample.columns.get(OWN, {}).get(self.column)
            speaker = "" if value is None else str(value).strip()
            is_listed = speaker in self._listed
            sample.columns["listed_speaker"] = is_listed
            if is_listed:
                sample.end(Reason.SPEAKER)  # the ledger row says who it is; the detail need not
            elif not speaker and self.unknown == "drop":
                sample.end(Reason.SPEAKER, f"column {self.column} names no speaker")
        return samples

    def _names(self) -> frozenset[str]:
        lines: list[str] = []
        if self.path:
            try:
                lines = Path(self.path).read_text(encoding="utf-8").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(f"drop_speakers.path: {self.path}: cannot be read: {error}") from error
        from_file = [line for line in lines if not line.startswith("#")]
        return frozenset(name.strip() for name in [*self.speakers, *from_file] if name.strip())
