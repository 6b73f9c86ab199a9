"""The packing plan: which samples make up which pack of which step, a pure function of lengths, options and seed.

Every rank computes the same plan. A step is `packs_per_step` packs, rank r of W takes r, r + W, ..., so all ranks have
the same number of packs at every step, and any W that divides packs_per_step sees the same samples at the same step.
The state of a run is the plan's hash and a step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmdata.errors import ConfigError
from mmdata.train.pools import Pool
from mmdata.train.samples import Place
from mmdata.train.sections import PlanOptions

_CARRY_BELOW = 0.9  # a pack less full than this goes back into the next window
_CARRY_SHARE = 0.25  # of a window, at most


@dataclass(frozen=True)
class Pack:
    """Samples that are read as one sequence; none where it only fills up the last step."""

    step: int
    epoch: int
    number: int  # within the step
    samples: tuple[Place, ...]


class Plan:
    """All steps of a run. epoch_of, and packs_of(step, rank, world_size), are what a loader needs."""

    def __init__(self, pools: Sequence[Pool], options: PlanOptions, seed: int) -> None:
        self.pools, self.options, self.seed = list(pools), options, seed
        self._starts = np.cumsum([0, *(len(pool.tokens) for pool in pools)])
        self._tokens = np.concatenate([pool.tokens for pool in pools])
        self._media = np.concatenate([pool.media for pool in pools])
        if not self._tokens.any():
            reasons = {reason: count for pool in pools for reason, count in pool.refused.items()}
            raise ConfigError(f"data: no sample of it can be used; {reasons or 'it is empty'}")
        self.weights = _weights(pools, options)
        self._packs: list[np.ndarray] = []
        self._epochs: list[int] = []
        for epoch in range(options.epochs):
            packs = self._epoch_packs(epoch)
            self._packs += packs
            self._epochs += [epoch] * (len(packs) // options.packs_per_step)
            if 0 < options.max_steps <= len(self._epochs):
                break
        self.num_steps = min(len(self._epochs), options.max_steps or len(self._epochs))
        self._packs = self._packs[: self.num_steps * options.packs_per_step]
        self.hash = self._hash()

    def epoch_of(self, step: int) -> int:
        return self._epochs[step]

    def packs_of(self, step: int, rank: int = 0, world_size: int = 1) -> list[Pack]:
        """This rank's packs of a step. Raises ConfigError where world_size does not divide packs_per_step."""
        group = self.options.packs_per_step
        if group % world_size:
            raise ConfigError(f"plan.packs_per_step: found {group}, which {world_size} processes do not divide")
        epoch, first = self._epochs[step], step * group
        numbers = range(rank, group, world_size)
        return [Pack(step, epoch, number, self.places(self._packs[first + number])) for number in numbers]

    def samples_of(self, step: int) -> np.ndarray:
        """Numbers of all samples of a step, for counts; see `places`."""
        group = self.options.packs_per_step
        return np.concatenate(self._packs[step * group : (step + 1) * group])

    def places(self, samples: np.ndarray) -> tuple[Place, ...]:
        """Where samples lie, given their numbers over all pools."""
        entries = np.searchsorted(self._starts, samples, side="right") - 1
        found = []
        for entry, number in zip(entries.tolist(), (samples - self._starts[entries]).tolist(), strict=True):
            pool = self.pools[entry]
            found.append(Place(entry, int(pool.shard[number]), int(pool.row[number])))
        return tuple(found)

    def by_pool(self, samples: np.ndarray) -> list[tuple[Pool, np.ndarray]]:
        """Samples split by the pool they are of, as rows of its arrays."""
        entries = np.searchsorted(self._starts, samples, side="right") - 1
        return [(pool, samples[entries == e] - self._starts[e]) for e, pool in enumerate(self.pools)]

    def fill(self) -> tuple[int, int, int]:
        """Tokens, media tokens and packs (those that only fill up the last step included) of the whole plan."""
        everything = np.concatenate(self._packs) if self._packs else np.zeros(0, np.int64)
        return int(self._tokens[everything].sum()), int(self._media[everything].sum()), len(self._packs)

    def _epoch_packs(self, epoch: int) -> list[np.ndarray]:
        """Packs of an epoch in the order of its steps; their number is a multiple of packs_per_step."""
        rng = np.random.default_rng([self.seed, epoch, 1])
        order = self._order(epoch)
        packs: list[np.ndarray] = []
        carried = np.zeros(0, np.int64)
        window = self.options.window_samples
        for start in range(0, len(order), window):
            samples = np.concatenate([carried, order[start : start + window]])
            filled = self._fitted(samples)
            is_last = start + window >= len(order)
            carried = np.zeros(0, np.int64)
            if not is_last and self.options.packing:
                filled, carried = self._carry(filled, int(window * _CARRY_SHARE))
            # First-fit-decreasing gives long samples first; in that order training would see lengths fall.
            packs += [filled[number] for number in rng.permutation(len(filled))]
        group = self.options.packs_per_step
        packs += [np.zeros(0, np.int64)] * (-len(packs) % group)
        ordered: list[np.ndarray] = []
        for start in range(0, len(packs), group):
            # Packs of like cost stand next to each other, so ranks that take turns wait little for each other.
            ordered += sorted(packs[start : start + group], key=lambda pack: -int(self._cost(pack)))
        return ordered

    def _cost(self, pack: np.ndarray) -> int:
        return int(self._tokens[pack].sum() + self._media[pack].sum())

    def _order(self, epoch: int) -> np.ndarray:
        """Numbers of the epoch's samples: each pool in its own shuffled order, pools evenly mixed."""
        numbers, places = [], []
        for entry, (pool, weight) in enumerate(zip(self.pools, self.weights, strict=True)):
            usable = np.flatnonzero(pool.tokens)
            first, last = round(weight * len(usable) * epoch), round(weight * len(usable) * (epoch + 1))
            chosen = _stream(usable, pool.shard, first, last, (self.seed, entry), self.options.window_samples)
            offset = np.random.default_rng([self.seed, epoch, entry, 2]).random()
            numbers.append(chosen + self._starts[entry])
            places.append((np.arange(len(chosen)) + offset) / max(1, len(chosen)))
        return np.concatenate(numbers)[np.argsort(np.concatenate(places), kind="stable")]

    def _fitted(self, samples: np.ndarray) -> list[np.ndarray]:
        """First-fit-decreasing into packs that neither tokens nor media tokens overflow."""
        if not self.options.packing:
            return [samples[number : number + 1] for number in range(len(samples))]
        tokens, media = self._tokens[samples], self._media[samples]
        media_limit = self.options.media_per_pack or self.options.tokens_per_pack
        room = np.full(len(samples), self.options.tokens_per_pack, np.int64)
        media_room = np.full(len(samples), media_limit, np.int64)
        members: list[list[int]] = []
        for position in np.argsort(-tokens, kind="stable"):
            used = len(members) + 1
            fits = (room[:used] >= tokens[position]) & (media_room[:used] >= media[position])
            # A sample with more media than the limit gets a pack of its own: media are never cut.
            pack = int(np.argmax(fits)) if fits.any() else len(members)
            if pack == len(members):
                members.append([])
            members[pack].append(int(samples[position]))
            room[pack] -= tokens[position]
            media_room[pack] -= media[position]
        return [np.array(pack, np.int64) for pack in members]

    def _carry(self, packs: list[np.ndarray], limit: int) -> tuple[list[np.ndarray], np.ndarray]:
        kept, carried = [], [np.zeros(0, np.int64)]
        for pack in reversed(packs):
            full = self._tokens[pack].sum() >= _CARRY_BELOW * self.options.tokens_per_pack
            if full or sum(map(len, carried)) + len(pack) > limit:
                kept.append(pack)
            else:
                carried.append(pack)
        return kept[::-1], np.concatenate(carried)

    def _hash(self) -> str:
        digest = hashlib.sha256(f"{self.options.packs_per_step} {self.options.tokens_per_pack}\n".encode())
        for pool in self.pools:
            digest.update(pool.shard.tobytes() + pool.row.tobytes() + pool.tokens.tobytes())
        for pack in self._packs:
            digest.update(np.int64(len(pack)).tobytes() + pack.tobytes())
        return digest.hexdigest()


def _stream(
    usable: np.ndarray, shard: np.ndarray, first: int, last: int, seed: tuple[int, int], window: int
) -> np.ndarray:
    """Members first to last of an endless stream that passes over `usable` again and again, each time shuffled anew.

    Shards come in shuffled order, and samples change places within windows: reading stays near itself.
    """
    found = [np.zeros(0, np.int64)]
    length = len(usable)
    for turn in range(first // length, -(-last // length)) if length else ():
        rng = np.random.default_rng([*seed, turn, 3])
        shards = rng.permutation(np.unique(shard[usable]))
        rank = np.argsort(shards)[np.searchsorted(np.sort(shards), shard[usable])]
        ordered = usable[np.argsort(rank, kind="stable")]
        for start in range(0, length, window):
            ordered[start : start + window] = rng.permutation(ordered[start : start + window])
        found.append(ordered[max(0, first - turn * length) : max(0, last - turn * length)])
    return np.concatenate(found)


def _weights(pools: Sequence[Pool], options: PlanOptions) -> list[float]:
    """Passes over each pool in an epoch: its weight, less where its modality has more than its share of tokens."""
    if not options.quotas:
        return [pool.weight for pool in pools]
    tokens = dict.fromkeys(options.quotas, 0.0)
    for pool in pools:
        tokens[pool.modality] += pool.weight * float(pool.tokens.sum())
    # The modality that is scarcest for its share is taken whole and sets the size of the epoch.
    total = min(tokens[modality] / share for modality, share in options.quotas.items())
    if not total:
        raise ConfigError(f"plan.quotas: no tokens of {', '.join(m for m, found in tokens.items() if not found)}")
    return [pool.weight * options.quotas[pool.modality] * total / tokens[pool.modality] for pool in pools]
