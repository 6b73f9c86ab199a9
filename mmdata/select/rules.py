"""What a rule is: one step of selection over the rows still kept, with its options as its fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import pyarrow as pa

from mmdata.errors import ConfigError
from mmdata.options import nearest
from mmdata.select.workspace import Identity, Workspace


@dataclass(frozen=True)
class Needs:
    """What a rule takes from ledgers, scores and the rules before it, besides `key`; nothing else is loaded.

    columns: loaded with their values. identities: of which it only asks whether two are equal. optional: loaded too,
    null where no ledger has them. vectors: columns of embeddings, read by `work.vectors`. adds: columns it makes.
    """

    columns: frozenset[str] = frozenset()
    identities: frozenset[Identity] = frozenset()
    optional: Mapping[str, pa.DataType] = field(default_factory=dict)
    vectors: frozenset[str] = frozenset()
    adds: Mapping[str, pa.DataType] = field(default_factory=dict)


class Rule(Protocol):
    """One rule. It ends rows with a reason of its own, says how often they are repeated, or adds a column.

    A rule is a frozen dataclass whose fields are its YAML options. A class whose options have free names has a
    `parse(options, where)` of its own. What it does depends on the rows, the options and the seed only: never on the
    order of rows, on threads, or on DuckDB's own hashes and random numbers.

    version: raised when the same options decide otherwise; part of the config hash. A class with options that are
    files names them in `files: ClassVar[frozenset[str]]`.
    """

    name: ClassVar[str]
    version: ClassVar[int]

    def needs(self) -> Needs:
        """What is loaded for it."""

    def apply(self, work: Workspace) -> None:
        """Call `work.drop`, `work.set_repeat`, `work.group` or `work.add_column` with queries over the kept rows."""


def check_columns(rules: Sequence[Rule], known: Iterable[str]) -> None:
    """Raise ConfigError for the first rule that reads a column there is not, naming the nearest and all there are."""
    names = set(known)
    for index, rule in enumerate(rules):
        needs = rule.needs()
        where = f"select[{index}].{rule.name}"
        for column in sorted({*needs.columns, *(same.column for same in needs.identities), *needs.vectors} - {"key"}):
            if column not in names:
                raise ConfigError(
                    f"{where}: {column}: no such column{nearest(column, names)}; there are: {', '.join(sorted(names))}"
                )
        for column in needs.adds:
            if column.lower() in {name.lower() for name in names}:
                raise ConfigError(f"{where}: column {column} is there already; give its column another name")
        names |= set(needs.adds)
