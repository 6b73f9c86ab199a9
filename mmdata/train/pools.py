"""Which samples there are and how long each will be: the index, joined with lengths measured once and kept.

`exact` tokenises every text once, shard by shard, and keeps the result under the run, so a second start reads it;
`index` estimates from the index's words by a ratio measured on a few hundred samples, for data too large to tokenise.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from mmdata.errors import Reason, SampleError
from mmdata.shards import ledger, storage
from mmdata.train.records import ShardReader
from mmdata.train.samples import Measure, SampleLoader

_PILOT = 256
_PILOT_QUANTILE = 0.9  # of tokens a word: most estimates are above the true length, so few packs overflow


@dataclass
class Pool:
    """Samples of one entry of `data`, in the order of its shards. tokens is 0 where a sample cannot be used.

    shard, row, tokens, media, labels: int32 arrays. source: places in source_names. refused: why some cannot be used.
    """

    modality: str
    weight: float
    shard: np.ndarray
    row: np.ndarray
    tokens: np.ndarray
    media: np.ndarray
    labels: np.ndarray
    source: np.ndarray
    source_names: list[str]
    refused: Counter[str]


def pool_of(loader: SampleLoader, entry: int, lengths: str, kept: str) -> Pool:
    """The pool of entry number `entry`. kept: folder for measured lengths. Changes nothing else."""
    options, reader = loader.data[entry], loader.reader(entry)
    ratio = _ratio(loader, entry) if lengths == "index" else 0.0
    tables = []
    for shard in reader.shards:
        index = reader.index(shard)
        if lengths == "index":
            found = _estimated(loader, entry, shard, index, ratio)
        else:
            path = storage.join(kept, f"{_fingerprint(loader, entry, index)[:32]}.parquet")
            if not storage.exists(path):
                storage.write_whole(path, ledger.parquet_bytes(_measured(loader, entry, shard, index.num_rows)))
            found = ledger.read(path)
        found = found.append_column("shard", pa.array(np.full(index.num_rows, shard, np.int32)))
        found = found.append_column("row", pa.array(np.arange(index.num_rows, dtype=np.int32)))
        tables.append(found.append_column("source", index["source"].fill_null("")))
    table = pa.concat_tables(tables).combine_chunks()
    names = sorted(set(table["source"].unique().to_pylist()))
    numbered = {name: number for number, name in enumerate(names)}
    refused = Counter(reason for reason in table["reason"].to_pylist() if reason != Reason.OK.value)
    columns = {name: table[name].to_numpy() for name in ("shard", "row", "tokens", "media", "labels")}
    source_codes = np.array([numbered[name] for name in table["source"].to_pylist()], np.int32)
    return Pool(options.modality, options.weight, **columns, source=source_codes, source_names=names, refused=refused)


def _measured(loader: SampleLoader, entry: int, shard: int, num_rows: int) -> pa.Table:
    rows = [_measure(loader, entry, shard, row) for row in range(num_rows)]
    return _table(rows)


def _measure(loader: SampleLoader, entry: int, shard: int, row: int) -> tuple[Measure, str]:
    try:
        return loader.measure(entry, shard, row), Reason.OK.value
    except SampleError as error:
        return Measure(0, 0, 0), error.reason.value


def _table(rows: list[tuple[Measure, str]]) -> pa.Table:
    return pa.table(
        {
            "tokens": pa.array([measure.tokens for measure, _ in rows], pa.int32()),
            "media": pa.array([measure.media_tokens for measure, _ in rows], pa.int32()),
            "labels": pa.array([measure.labels for measure, _ in rows], pa.int32()),
            "reason": pa.array([reason for _, reason in rows], pa.string()),
        }
    )


def _fingerprint(loader: SampleLoader, entry: int, index: pa.Table) -> str:
    """Of all that a shard's lengths depend on: its index, tokenizer, template, encoders, limits."""
    tokenizer = loader.chat.tokenizer
    backend = getattr(tokenizer, "backend_tokenizer", None)
    facts: list[Any] = [
        hashlib.sha256(backend.to_str().encode() if backend else repr(tokenizer).encode()).hexdigest(),
        str(tokenizer.chat_template), loader.chat.template, loader.chat.begin, loader.chat.system,
        loader.max_tokens, loader.seed, repr(sorted(loader.specs.items())), loader.varied.stretch,
        loader.data[entry].modality, loader.data[entry].prompts,
    ]  # fmt: skip
    digest = hashlib.sha256(json.dumps(facts).encode())
    # What stands at a place of a dataset never changes under its name, and a new version moves it or renames its keys.
    digest.update(json.dumps([loader.data[entry].dataset, index.to_pylist()]).encode())
    return digest.hexdigest()


def _ratio(loader: SampleLoader, entry: int) -> float:
    """Tokens a word of this entry's texts, control text included, from samples spread over its first shard."""
    reader = loader.reader(entry)
    index = reader.index(reader.shards[0])
    rows = sorted(set(np.linspace(0, index.num_rows - 1, min(_PILOT, index.num_rows)).astype(int).tolist()))
    words = index["text_tokens"].to_pylist()
    ratios = []
    for row in rows:
        measure, reason = _measure(loader, entry, reader.shards[0], row)
        if reason == Reason.OK.value:
            ratios.append((measure.tokens - measure.media_tokens) / (1 + (words[row] or 0)))
    return float(np.quantile(ratios, _PILOT_QUANTILE)) if ratios else 0.0


def _estimated(loader: SampleLoader, entry: int, shard: int, index: pa.Table, ratio: float) -> pa.Table:
    reader: ShardReader = loader.reader(entry)
    rows = []
    columns = zip(*(index[name].to_pylist() for name in ("parts", "text_tokens", "duration_s")), strict=True)
    for row, (parts, words, duration_s) in enumerate(columns):
        media = reader.media_of(shard, row, parts)
        usable = [medium for medium in media if medium.kind in loader.specs]
        media_tokens = sum(loader.features(medium, duration_s) for medium in usable)
        text = round(np.ceil(ratio * (1 + (words or 0))))
        tokens = min(media_tokens + text, loader.max_tokens)
        if media_tokens >= loader.max_tokens:
            rows.append((Measure(0, 0, 0), Reason.TOO_LONG.value))
        else:
            rows.append((Measure(tokens, media_tokens, tokens - media_tokens), Reason.OK.value))
    return _table(rows)
