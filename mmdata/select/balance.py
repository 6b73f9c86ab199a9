"""Rule `balance`: how much of the dataset every group has, by leaving samples out or repeating them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

import annotated_types as at
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmdata.errors import ConfigError, Reason
from mmdata.options import build, semantic
from mmdata.select.rules import Needs
from mmdata.select.shares import check_shares, targets_of_shares
from mmdata.select.weights import Unit
from mmdata.select.workspace import ID, Workspace, literal, quoted, stable_hash_sql

Amount = Annotated[float, at.Gt(0)]
NONE = "none"  # the group of rows without a value
_MOST_TOLD = 100


@dataclass(frozen=True, kw_only=True)
class Balance:
    """Bring groups to shares, or between floors and caps, counted in samples, hours or tokens.

    by: a column, or several; a group is called by its values with ", " between, `none` where there is no value.
    shares: of the result, by group; groups that are not named share what is left as they do now, and are dropped where
    nothing is. temperature: shares go as amount ** temperature. With either, the result is as large as it can be, or
    `total` units. caps, floors: the most and the least of one group, for each or by group.
    max_repeat: how often one sample may be in the result. tokens: an SQL expression, or {image, video_s, audio_s} for
    tokens of an image and of a second of video and sound, besides the words of the text.
    Which samples: a seeded hash of the key says, so the same ones stay when others come or go nearby.
    """

    name: ClassVar[str] = "balance"
    version: ClassVar[int] = 1
    by: Annotated[str, at.MinLen(1)] | Annotated[list[str], at.MinLen(1)] = semantic()
    unit: Literal["samples", "hours", "tokens"] = semantic("samples")
    shares: dict[str, Annotated[float, at.Ge(0), at.Le(1)]] = semantic(factory=dict)
    temperature: Annotated[float, at.Ge(0), at.Le(1)] | None = semantic(None)
    total: Amount | None = semantic(None)
    caps: Amount | dict[str, Amount] | None = semantic(None)
    floors: Amount | dict[str, Amount] | None = semantic(None)
    max_repeat: Annotated[int, at.Ge(1), at.Le(99)] = semantic(1)
    tokens: str | dict[str, float] = semantic("")

    @classmethod
    def parse(cls, options: Mapping[str, Any] | None, where: str) -> Balance:
        rule = build(cls, options, where)
        Unit.of(rule.unit, rule.tokens, where)
        limited = rule.caps is not None or rule.floors is not None
        if (bool(rule.shares) + (rule.temperature is not None) + limited) != 1:
            raise ConfigError(f"{where}: allowed is one of shares, temperature, and caps with floors")
        if limited and rule.total is not None:
            raise ConfigError(f"{where}.total: is for shares and temperature")
        if rule.floors is not None and rule.max_repeat == 1:
            raise ConfigError(f"{where}.floors: need max_repeat: 2 or more; nothing else makes a group larger")
        check_shares(rule.shares, f"{where}.shares")
        return rule

    @property
    def _columns(self) -> list[str]:
        return [self.by] if isinstance(self.by, str) else self.by

    def needs(self) -> Needs:
        need = Unit(self.unit, self.tokens).needs
        return Needs(need.columns | (set(self._columns) - {"key"}), optional=need.optional)

    def apply(self, work: Workspace) -> None:
        unit = Unit(self.unit, self.tokens)
        unit.check(work)
        names, rows = _rows_by_group(work, self._columns, unit)
        have = rows.amounts(len(names))
        if not len(have):
            return
        wanted = self._targets(dict(zip(names, (have / unit.size).tolist(), strict=True)))
        target = np.array([wanted[name] for name in names]) * unit.size
        repeats = rows.repeats(target, have)
        after = np.bincount(rows.group, rows.weight * repeats, len(names))
        work.clear_repeats()
        _carry_out(
            work,
            rows,
            repeats,
            [
                f"{name}: {kept:.6g} of {number:.6g} {self.unit}"
                for name, kept, number in zip(names, after / unit.size, have / unit.size, strict=True)
            ],
        )
        told = np.lexsort((np.arange(len(names)), -have))[:_MOST_TOLD]
        work.tell(
            {
                "by": self._columns,
                "unit": self.unit,
                "num_groups": len(names),
                "totals": [float(have.sum() / unit.size), float(sum(wanted.values())), float(after.sum() / unit.size)],
                "groups": [[names[g], have[g] / unit.size, wanted[names[g]], after[g] / unit.size] for g in told],
            }
        )

    def _targets(self, have: Mapping[str, float]) -> dict[str, float]:
        """Units that every group is to have."""
        if self.shares or self.temperature is not None:
            shares = self.shares
            if self.temperature is not None:
                powers = {name: amount**self.temperature if amount else 0.0 for name, amount in have.items()}
                shares = {name: power / sum(powers.values()) for name, power in powers.items()}
            whole = self.unit != "hours"
            return targets_of_shares(shares, have, self.total, self.max_repeat, self.unit, whole=whole)
        caps, floors = _by_group(self.caps, have, np.inf), _by_group(self.floors, have, 0.0)
        for name in have:
            if floors[name] > caps[name]:
                raise ConfigError(f"balance: {name}: found floor {floors[name]:g} above cap {caps[name]:g}")
        return {
            name: min(caps[name], max(amount, min(floors[name], amount * self.max_repeat)))
            for name, amount in have.items()
        }


def _by_group(
    limits: float | Mapping[str, float] | None, have: Mapping[str, float], without: float
) -> dict[str, float]:
    if isinstance(limits, Mapping):
        unknown = sorted(set(limits) - set(have))
        if unknown:
            raise ConfigError(f"balance: {', '.join(unknown)}: no rows of this group; there are {', '.join(have)}")
        return {name: limits.get(name, without) for name in have}
    return dict.fromkeys(have, without if limits is None else limits)


@dataclass(frozen=True)
class _Rows:
    """Rows sorted by group, and in it by a seeded hash of their keys."""

    ids: NDArray[np.int64]
    group: NDArray[np.int64]
    weight: NDArray[np.int64]

    def amounts(self, groups: int) -> NDArray[np.float64]:
        return np.bincount(self.group, self.weight, groups).astype(np.float64)

    def repeats(self, target: NDArray[np.float64], have: NDArray[np.float64]) -> NDArray[np.int32]:
        """How often every row is taken so that groups come as near to their targets as whole rows can."""
        repeats = np.empty(len(self.ids), np.int32)
        starts = np.searchsorted(self.group, np.arange(len(have) + 1))
        for group, (start, end) in enumerate(pairwise(starts)):
            full, rest = (int(target[group] // have[group]), target[group] % have[group]) if have[group] else (1, 0.0)
            sums = np.concatenate([[0], np.cumsum(self.weight[start:end])])
            more = int(np.searchsorted(sums, rest))
            if more and (more == len(sums) or rest - sums[more - 1] < sums[more] - rest):
                more -= 1
            repeats[start : start + more] = full + 1
            repeats[start + more : end] = full
        return repeats


def _rows_by_group(work: Workspace, columns: list[str], unit: Unit) -> tuple[list[str], _Rows]:
    label = ", ', ', ".join(f"coalesce({quoted(column)}::VARCHAR, {literal(NONE)})" for column in columns)
    name = f"concat({label})" if len(columns) > 1 else label
    work.db.execute(f"CREATE OR REPLACE TEMP TABLE labels AS SELECT DISTINCT {name} AS label FROM kept")
    names = [row[0] for row in work.db.execute("SELECT label FROM labels ORDER BY label").fetchall()]
    with work.registered(
        "numbered", pa.table({"label": pa.array(names, pa.string()), "number": np.arange(len(names))})
    ):
        query = (
            f"SELECT {ID}, number, {unit.sql()} AS weight, {stable_hash_sql(work.seed, 'balance', 'key')} AS h, key "
            f"FROM kept JOIN numbered ON label = {name}"
        )
        found = work.db.execute(f"SELECT {ID}, number, weight, h FROM ({query})").fetchnumpy()
        order = np.lexsort((found["h"], found["number"]))
        hashes, numbers = found["h"][order], found["number"][order]
        if ((hashes[1:] == hashes[:-1]) & (numbers[1:] == numbers[:-1])).any():  # two keys of one hash: by key then
            found = work.db.execute(f"SELECT {ID}, number, weight FROM ({query}) ORDER BY number, h, key").fetchnumpy()
            order = np.arange(len(order))
    work.db.execute("DROP TABLE labels")
    return names, _Rows(found[ID][order], found["number"][order], found["weight"][order].astype(np.int64))


def _carry_out(work: Workspace, rows: _Rows, repeats: NDArray[np.int32], details: list[str]) -> None:
    again, out = repeats > 1, repeats == 0
    if again.any():
        with work.registered("counted", pa.table({ID: rows.ids[again], "repeat": repeats[again]})):
            work.set_repeat(f"SELECT {ID}, repeat FROM counted")
    told = pa.table({"number": np.arange(len(details)), "detail": pa.array(details, pa.string())})
    left_out = pa.table({ID: rows.ids[out], "number": rows.group[out]})
    with work.registered("left_out", left_out), work.registered("told", told):
        work.drop(
            f"SELECT {ID}, {literal(Reason.BALANCE.value)} AS reason, detail FROM left_out JOIN told USING (number)"
        )
