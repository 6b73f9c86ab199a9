"""What a rule is: one step of selection over the rows still kept, with its options as its fields."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, Protocol

from mmdata.errors import ConfigError
from mmdata.options import nearest
from mmdata.select.workspace import Workspace


class Rule(Protocol):
    """One rule. It ends rows with a reason of its own, or says how often they are repeated; it never adds rows.

    A rule is a frozen dataclass whose fields are its YAML options. A class whose options have free names has a
    `parse(options, where)` of its own. What it does depends on the rows, the options and the seed only: never on the
    order of rows, on threads, or on DuckDB's own hashes and random numbers.

    version: raised when the same options decide otherwise; part of the config hash.
    """

    name: ClassVar[str]
    version: ClassVar[int]

    def columns(self) -> frozenset[str]:
        """Columns of ledger or scores it reads, besides `key`; no others are loaded."""

    def apply(self, work: Workspace) -> None:
        """Call `work.drop` (or `work.set_repeat`) with queries over the rows still kept."""


def check_columns(rules: Sequence[Rule], known: Iterable[str]) -> None:
    """Raise ConfigError for the first rule that reads a column there is not, naming the nearest and all there are."""
    names = sorted(known)
    for index, rule in enumerate(rules):
        for column in sorted(rule.columns()):
            if column not in names:
                raise ConfigError(
                    f"select[{index}].{rule.name}: {column}: no such column{nearest(column, names)}; "
                    f"there are: {', '.join(names)}"
                )
