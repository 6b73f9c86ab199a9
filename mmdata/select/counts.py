"""What a selection came to, as numbers that add up: by reason, by rule, by source, and what is kept of every shard."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa


@dataclass(frozen=True)
class RuleCount:
    """What one rule was given, what it dropped by reason, and what else it has to tell: plain values, few of them."""

    name: str
    given: int
    reasons: dict[str, int]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def dropped(self) -> int:
        return sum(self.reasons.values())


@dataclass(frozen=True)
class KeptCount:
    """What is kept of one shard for one modality and split, by the set of parts its samples have.

    parts: extensions as in the ledger's column `parts`: "jpg", "jpg mel.npy".
    samples: rows, counted as often as they are repeated.
    """

    shard: int
    modality: str
    split: str
    parts: str
    rows: int
    samples: int


@dataclass
class SelectionCounts:
    """Counts over all shards. `own`: by modality, the source's own columns over all ledgers."""

    rows: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    rules: list[RuleCount] = field(default_factory=list)
    kept: list[KeptCount] = field(default_factory=list)
    funnel: Counter[tuple[str, str, str]] = field(default_factory=Counter)  # by source, modality and reason
    own: dict[str, pa.Schema] = field(default_factory=dict)

    def kept_of(self, shard: int) -> list[KeptCount]:
        return [count for count in self.kept if count.shard == shard]

    @property
    def num_kept(self) -> int:
        return sum(count.rows for count in self.kept)

    @property
    def mixture(self) -> dict[str, Any]:
        """What the last rule `mixture` says, for manifest.json; empty without one."""
        found = [dict(rule.facts) for rule in self.rules if rule.name == "mixture"]
        return found[-1] if found else {}

    def to_json(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "reasons": dict(sorted(self.reasons.items())),
            "rules": [[r.name, r.given, dict(sorted(r.reasons.items())), _as_stored(r.facts)] for r in self.rules],
            "kept": [[c.shard, c.modality, c.split, c.parts, c.rows, c.samples] for c in self.kept],
            "funnel": [[*place, number] for place, number in sorted(self.funnel.items())],
            "own": {modality: schema_text(schema) for modality, schema in sorted(self.own.items())},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SelectionCounts:
        return cls(
            data["rows"],
            Counter(data["reasons"]),
            [RuleCount(*values) for values in data["rules"]],
            [KeptCount(*values) for values in data["kept"]],
            Counter({(source, modality, reason): n for source, modality, reason, n in data["funnel"]}),
            {modality: schema_of_text(text) for modality, text in data["own"].items()},
        )


def schema_text(schema: pa.Schema) -> str:
    """A schema as text for JSON."""
    return base64.b64encode(schema.serialize().to_pybytes()).decode()


def schema_of_text(text: str) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))


def _as_stored(facts: Mapping[str, Any]) -> Any:
    """Facts as a commit record gives them back, so that what is written from them is the same before and after."""
    return json.loads(json.dumps(facts, sort_keys=True))
