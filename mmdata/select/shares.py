"""From shares to amounts: the largest result that keeps them, and clear words where they cannot be kept."""

from __future__ import annotations

import math
from collections.abc import Mapping

from mmdata.errors import ConfigError

_SLACK = 1e-9


def check_shares(shares: Mapping[str, float], where: str) -> None:
    """Raise ConfigError, with the nearest shares that will do, for shares of more than the whole."""
    total = math.fsum(shares.values())
    if total > 1 + 1e-6:
        raise ConfigError(
            f"{where}: they come to {total:g}, allowed is at most 1; in the same proportions: {_said(shares, total)}"
        )


def targets_of_shares(
    shares: Mapping[str, float],
    have: Mapping[str, float],
    total: float | None,
    max_repeat: int,
    unit: str,
    *,
    whole: bool,
) -> dict[str, float]:
    """Units of every group: shares of `total`, or of the most that there is for them.

    have: units there are by group. whole: amounts are whole numbers, each within one of its share, and add up.
    Raises ConfigError, naming the nearest that can be had, for a group without rows and for a total that is too large.
    """
    shares = _filled(shares, have)
    empty = sorted(name for name, share in shares.items() if share > 0 and not have.get(name))
    if empty:
        there = {name: share for name, share in shares.items() if share > 0 and have.get(name)}
        left = math.fsum(there.values())
        nearest = _said(there, left) if left else "none of the groups named has rows"
        raise ConfigError(
            f"balance: shares of {', '.join(empty)} cannot be had: no rows (there are {', '.join(have) or 'none'}); "
            f"nearest: {nearest}"
        )
    most, narrowest = min((have[name] * max_repeat / share, name) for name, share in shares.items() if share > 0)
    if total is not None and total > most * (1 + _SLACK):
        raise ConfigError(
            f"balance: total {total:g} {unit} cannot be had at these shares with max_repeat {max_repeat}: {narrowest} "
            f"has {have[narrowest]:g} {unit}, which is enough for {most:.6g}; nearest: total: {_floor(most)}"
        )
    size = min(most, most if total is None else total)
    if not whole:
        return {name: share * size for name, share in shares.items()}
    return _apportioned(shares, math.floor(size * (1 + _SLACK)))


def _filled(shares: Mapping[str, float], have: Mapping[str, float]) -> dict[str, float]:
    """Shares that add up to 1: what is left goes to the groups that are not named, as they are now."""
    left = 1 - math.fsum(shares.values())
    unnamed = {name: amount for name, amount in have.items() if name not in shares}
    amount = math.fsum(unnamed.values())
    if left > 1e-6 and not amount:
        raise ConfigError(
            f"balance: shares come to {1 - left:g} and no other group is there for the rest; "
            f"in the same proportions: {_said(shares, 1 - left)}"
        )
    named = {name: share / (1 - left) if left <= 1e-6 else share for name, share in shares.items()}
    return named | {name: max(0.0, left) * has / amount if left > 1e-6 else 0.0 for name, has in unnamed.items()}


def _apportioned(shares: Mapping[str, float], total: int) -> dict[str, float]:
    """Whole numbers that add up to `total`, each within one of its share: largest remainders, then names."""
    exact = {name: share * total for name, share in shares.items()}
    found = {name: math.floor(amount + _SLACK) for name, amount in exact.items()}
    by_remainder = sorted(shares, key=lambda name: (round(found[name] - exact[name], 9), name))
    for name in by_remainder[: total - sum(found.values())]:
        found[name] += 1
    return {name: float(number) for name, number in found.items()}


def _said(shares: Mapping[str, float], total: float) -> str:
    return "{" + ", ".join(f"{name}: {share / total:.4g}" for name, share in shares.items()) + "}"


def _floor(amount: float) -> str:
    return f"{math.floor(amount * 1000) / 1000:.10g}"
