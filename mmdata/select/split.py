"""Train or validation, by a seeded hash of the key of the input row a sample comes from.

Duplicates that are all kept stay on one side: input rows that share a duplicate group are hashed by the same key.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from mmdata.sample import root_key
from mmdata.select.neighbours import components
from mmdata.select.workspace import ID, Workspace, below_share_sql, root_key_sql, stable_hash, stable_hash_sql

TRAIN, VAL = "train", "val"
SPLITS = (TRAIN, VAL)


def split_of(key: str, *, seed: int, val_share: float) -> str:
    """The split of one key; all samples cut from one input row are on one side."""
    return VAL if stable_hash(seed, "split", root_key(key)) < round(val_share * 2**64) else TRAIN


def is_val_sql(key_sql: str, *, seed: int, val_share: float) -> str:
    """SQL that is true for the keys whose `split_of` is val."""
    return below_share_sql(stable_hash_sql(seed, "split", root_key_sql(key_sql)), val_share)


def join_sides(work: Workspace) -> None:
    """Make table `sides`: for kept rows of input rows that share duplicates, the first key of all of those."""
    root, leader = root_key_sql("key"), root_key_sql("leader")
    work.db.execute(f"CREATE OR REPLACE TABLE sides ({ID} BIGINT, side VARCHAR)")
    pairs = work.db.sql(
        f"SELECT DISTINCT {root} AS root, {leader} AS leader FROM kept JOIN groups USING ({ID}) "
        f"WHERE {root} <> {leader}"
    ).to_arrow_table()
    if not pairs.num_rows:
        return
    names = pa.concat_arrays([*pairs["root"].chunks, *pairs["leader"].chunks]).dictionary_encode()
    order = np.argsort(names.dictionary.to_numpy(zero_copy_only=False).astype(str))
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    codes = rank[names.indices.to_numpy()]
    first = components(codes[: pairs.num_rows], codes[pairs.num_rows :], len(order))
    table = pa.table(
        {"root": names.dictionary.take(pa.array(order)), "side": names.dictionary.take(pa.array(order[first]))}
    )
    with work.registered("joined", table):
        work.db.execute(f"INSERT INTO sides SELECT {ID}, side FROM kept JOIN joined ON root = {root}")
