"""A pipeline file made by looking at a table: which columns hold the link, the caption and the hash."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from mmdata.errors import SourceError
from mmdata.shards.storage import is_remote
from mmdata.sources.rows import ROW_FIELDS
from mmdata.sources.url_table import UrlTable

_TEMPLATE = """\
# Made by looking at {table}: {columns}.
# Look at it with `mmdata check`, run it with `mmdata run`.
name: {name}
seed: 17
sources:
  {source}: {entry}
plan: {{rows_per_shard: 10000}}
fetch: {{timeout_s: 20, retries: 2, per_host: 4, contact: ""}}  # contact: a page or address site owners may write to
stages:
  - decode_image: {{side_px: 256, resize: keep_ratio, min_side_px: 64, max_aspect: 4}}
  - hash_image: {{}}
  - channel_stats: {{}}
score:
  - image_text: {{model: ViT-B-32, pretrained: laion2b_s34b_b79k}}  # fetched from the model hub once
select:
  - thresholds: {{clip_similarity: {{min: 0.28}}}}  # LAION-2B's choice for ViT-B-32
  - dedup: {{by: sha256}}
emit: {{samples_per_shard: 10000, formats: [webdataset, parquet], val_share: 0.01}}
"""


def pipeline_for(table: str) -> str:
    """The text of a pipeline file for a table of links. Raises SourceError where no column looks like links."""
    path = table if is_remote(table) else str(Path(table).absolute())
    source = UrlTable(path=path)
    batch = next(iter(source.batches(source.inputs()[0])), None)
    if batch is None:
        raise SourceError(f"{table}: holds no rows")
    own = [name for name in batch.schema.names if name not in ROW_FIELDS.names]
    stem = Path(table.rstrip("/*")).name.split(".")[0].lower()
    name = re.sub(r"[^a-z0-9]+", "-", stem).strip("-") or "links"
    entry = yaml.safe_dump({"kind": "url_table", "path": path}, default_flow_style=True, width=10_000).strip()
    found = f"{batch.num_rows} or more rows; passed through as they are: {', '.join(own) or 'no other columns'}"
    return _TEMPLATE.format(table=table, columns=found, name=name, source=name, entry=entry)
