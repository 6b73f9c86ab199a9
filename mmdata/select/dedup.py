"""Rule `dedup`: of rows that are the same, or nearly, one is kept; or rows that another dataset has are dropped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import annotated_types as at
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmdata.errors import ConfigError, Reason
from mmdata.options import build, semantic
from mmdata.select import hamming
from mmdata.select import semantic as embeddings
from mmdata.select.duplicates import Best, drop_leaked, settle_pairs, settle_same
from mmdata.select.reference import Reference
from mmdata.select.rules import Needs
from mmdata.select.workspace import ID, Identity, Workspace, quoted, stable_hash_sql

# Captions that differ in case and white space only are the same.
_CAPTION = r"regexp_replace(trim(lower(nfc_normalize({}))), '\s+', ' ', 'g')"
_EXACT = {
    "sha256": (Identity("raw_sha256"), Reason.DUPLICATE_CONTENT),
    "url": (Identity("url"), Reason.DUPLICATE_URL),
    "caption": (Identity("caption", _CAPTION), Reason.DUPLICATE_CAPTION),
    "caption_hash": (Identity("caption_hash"), Reason.DUPLICATE_CAPTION),
}
_HASHES = {"phash": Reason.NEAR_DUPLICATE, "caption_simhash": Reason.DUPLICATE_CAPTION}
_SURE_BITS = 6  # two pictures whose hashes differ in more than this are the same only where their embeddings agree too


@dataclass(frozen=True, kw_only=True)
class Dedup:
    """Keep one row of those that are the same by one measure. Rows without a value are never the same.

    by: raw bytes (sha256), link (url), caption (case and white space aside), caption_hash; phash or caption_simhash
    (`distance` bits); embedding (`cosine`). What is dropped is near the row that is kept, never near by way of a third.
    keep_best: column whose greatest value is kept, for instance clip_similarity or original_width_px. Without it, and
    between equals, the first key is: of the source whose name comes first, the first row.
    distance: bits, 4 unless given. Beyond 6, pictures are the same only where their embeddings have this cosine too.
    embedding: column of a scorer. against: a run or dataset folder, or Parquet: rows that are in it are dropped, and
    nothing else is. action: `group` records groups and drops nothing; a split never parts them.
    """

    name: ClassVar[str] = "dedup"
    version: ClassVar[int] = 1
    files: ClassVar[frozenset[str]] = frozenset({"against"})
    by: Literal["sha256", "url", "caption", "caption_hash", "phash", "caption_simhash", "embedding"] = semantic(
        "sha256"
    )
    keep_best: str = semantic("")
    distance: Annotated[int, at.Ge(0), at.Le(hamming.MAX_DISTANCE)] | None = semantic(None)
    cosine: Annotated[float, at.Gt(0), at.Le(1)] | None = semantic(None)
    embedding: str = semantic("")
    against: str = semantic("")
    action: Literal["drop", "group"] = semantic("drop")

    @classmethod
    def parse(cls, options: Mapping[str, Any] | None, where: str) -> Dedup:
        rule = build(cls, options, where)
        if rule.distance is not None and rule.by not in _HASHES:
            raise ConfigError(f"{where}.distance: is for {' and '.join(_HASHES)}, found by: {rule.by}")
        if rule._is_far and (rule.by != "phash" or not rule.embedding):
            raise ConfigError(
                f"{where}.distance: found {rule.distance}; beyond {_SURE_BITS} bits embeddings must agree: "
                "by: phash, with embedding: COLUMN (and cosine)"
            )
        if rule.by == "embedding" and not rule.embedding:
            raise ConfigError(f"{where}.embedding: is required: a scorer's column, for instance image_embedding")
        if (rule.cosine is not None or rule.embedding) and rule.by != "embedding" and not rule._is_far:
            raise ConfigError(f"{where}: cosine and embedding are for by: embedding, or phash beyond {_SURE_BITS} bits")
        if rule.against and (rule.action == "group" or rule.keep_best or rule._is_far):
            raise ConfigError(f"{where}.against: goes without action: group, keep_best, and a distance beyond 6")
        return rule

    @property
    def _bits(self) -> int:
        return 4 if self.distance is None else self.distance

    @property
    def _is_far(self) -> bool:
        return self.by in _HASHES and self._bits > _SURE_BITS

    @property
    def _limit(self) -> float:
        return 0.95 if self.cosine is None else self.cosine

    def needs(self) -> Needs:
        columns = {self.keep_best} if self.keep_best else set()
        vectors = {self.embedding} if self.embedding else set()
        if self.by in _EXACT:
            return Needs(frozenset(columns), frozenset({_EXACT[self.by][0]}))
        return Needs(frozenset(columns | ({self.by} if self.by in _HASHES else set())), vectors=frozenset(vectors))

    def apply(self, work: Workspace) -> None:
        best = Best(self.keep_best, drops=self.action == "drop")
        if self.by in _EXACT:
            same, reason = _EXACT[self.by]
            if self.against:
                Reference(self.against).drop_same(work, same)
            else:
                settle_same(work, same, best, reason)
        elif self.by in _HASHES:
            self._by_hash(work, best)
        else:
            self._by_embedding(work, best)

    def _by_hash(self, work: Workspace, best: Best) -> None:
        name = quoted(self.by)
        found = work.db.execute(f"SELECT {ID}, {name}::UBIGINT AS h FROM kept WHERE {name} IS NOT NULL").fetchnumpy()
        ids, hashes = found[ID], np.ascontiguousarray(found["h"])
        if self.against:
            theirs = np.unique(Reference(self.against).numbers(work, self.by))
            distinct = np.unique(np.concatenate([hashes, theirs]))
            left, right = hamming.near_pairs(distinct, self._bits, work.threads)
            leaked = np.isin(distinct, theirs, assume_unique=True)
            is_theirs = leaked.copy()
            leaked[left] |= is_theirs[right]
            leaked[right] |= is_theirs[left]
            drop_leaked(work, ids[leaked[np.searchsorted(distinct, hashes)]], self.against)
            return
        distinct, nodes = np.unique(hashes, return_inverse=True)
        left, right = hamming.near_pairs(distinct, self._bits, work.threads)
        if self._is_far:
            left, right = self._agreeing(work, ids, distinct, nodes, left, right)
        settle_pairs(work, ids, nodes, left, right, best, _HASHES[self.by])

    def _agreeing(
        self,
        work: Workspace,
        ids: NDArray[np.int64],
        distinct: NDArray[np.uint64],
        nodes: NDArray[np.int64],
        left: NDArray[np.int64],
        right: NDArray[np.int64],
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Pairs near by bits alone, and those farther apart where all rows of one agree with all rows of the other."""
        having, vectors = work.vectors(self.embedding)
        sure = np.bitwise_count(distinct[left] ^ distinct[right]) <= _SURE_BITS
        by_node = np.argsort(nodes, kind="stable")
        starts = np.searchsorted(nodes[by_node], np.arange(len(distinct) + 1))
        place = np.searchsorted(having, ids)
        has = having[np.minimum(place, len(having) - 1)] == ids if len(having) else np.zeros(len(ids), bool)
        agrees = sure.copy()
        for pair in np.flatnonzero(~sure):
            sides = [by_node[starts[node] : starts[node + 1]] for node in (left[pair], right[pair])]
            if all(has[side].all() for side in sides):
                one, other = (embeddings.rounded(vectors[place[side]]) for side in sides)
                every_LR = np.repeat(one, len(other), axis=0), np.tile(other, (len(one), 1))
                agrees[pair] = (embeddings.cosines(*every_LR) >= self._limit).all()
        return left[agrees], right[agrees]

    def _by_embedding(self, work: Workspace, best: Best) -> None:
        ids, vectors = work.vectors(self.embedding)
        theirs = Reference(self.against).vectors(self.embedding) if self.against else np.empty((0, 0), np.float16)
        if not len(ids) or (self.against and not len(theirs)):
            return
        with work.registered("with_vector", pa.table({ID: ids, "place": np.arange(len(ids))})):
            order = work.db.execute(
                f"SELECT place FROM kept JOIN with_vector USING ({ID}) "
                f"ORDER BY {stable_hash_sql(work.seed, 'semantic', 'key')}, key"
            ).fetchnumpy()["place"]
        if self.against:
            vectors = _joined(work, vectors, theirs)
        left, right = embeddings.near_pairs(vectors, order, self._limit, work.threads)
        if self.against:
            leaked = np.minimum(left, right)[np.maximum(left, right) >= len(ids)]
            drop_leaked(work, ids[np.unique(leaked[leaked < len(ids)])], self.against)
        else:
            settle_pairs(work, ids, np.arange(len(ids)), left, right, best, Reason.SEMANTIC_DUPLICATE)


def _joined(work: Workspace, ours: NDArray[np.float16], theirs: NDArray[np.float16]) -> NDArray[np.float16]:
    """Both after each other, as a memory map."""
    if ours.shape[1] != theirs.shape[1]:
        raise ConfigError(f"dedup.against: found embeddings of {theirs.shape[1]} numbers, allowed are {ours.shape[1]}")
    shape = (len(ours) + len(theirs), ours.shape[1])
    both = np.memmap(work.scratch / "vectors-joined", np.float16, "w+", shape=shape)
    both[: len(ours)], both[len(ours) :] = ours, theirs
    return both
