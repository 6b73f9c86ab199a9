"""Train or validation, by a seeded hash of the key of the input row a sample comes from."""

from __future__ import annotations

from mmdata.sample import root_key
from mmdata.select.workspace import below_share_sql, root_key_sql, stable_hash, stable_hash_sql

TRAIN, VAL = "train", "val"
SPLITS = (TRAIN, VAL)


def split_of(key: str, *, seed: int, val_share: float) -> str:
    """The split of one key; all samples cut from one input row are on one side."""
    return VAL if stable_hash(seed, "split", root_key(key)) < round(val_share * 2**64) else TRAIN


def is_val_sql(key_sql: str, *, seed: int, val_share: float) -> str:
    """SQL that is true for the keys whose `split_of` is val."""
    return below_share_sql(stable_hash_sql(seed, "split", root_key_sql(key_sql)), val_share)
