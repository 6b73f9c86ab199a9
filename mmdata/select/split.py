"""Train or validation, by a seeded hash of the key of the input row a sample comes from."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from mmdata.sample import root_key
from mmdata.select.workspace import below_share_sql, root_key_sql, stable_hash, stable_hash_sql

TRAIN, VAL = "train", "val"
SPLITS = (TRAIN, VAL)


def split_of(key: str, *, seed: int, val_share: float) -> str:
    """The split of one key; all samples cut from one input row are on one side."""
    return VAL if stable_hash(seed, "split", root_key(key)) < round(val_share * 2**64) else TRAIN


def splits_of(db: Any, keys: pa.Array, *, seed: int, val_share: float) -> pa.Array:
    """`split_of` for many keys, in their order."""
    number = stable_hash_sql(seed, "split", root_key_sql("key"))
    db.register("split_keys", pa.table({"key": keys}))
    side = f"CASE WHEN {below_share_sql(number, val_share)} THEN '{VAL}' ELSE '{TRAIN}' END"
    splits = db.sql(f"SELECT {side} AS split FROM split_keys").to_arrow_table()["split"].combine_chunks()
    db.unregister("split_keys")
    return splits.cast(pa.string())
