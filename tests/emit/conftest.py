"""One emitted dataset that the reader tests share."""

from __future__ import annotations

import pytest

from mmdata.config import EmitOptions
from mmdata.select.dedup import Dedup
from mmdata.select.thresholds import Thresholds
from tests.builders import write_run
from tests.emit.emitted import Emitted, emit_run, select_run
from tests.emit.media import STAGES, Mixed, emit_all, shards_of_all


@pytest.fixture(scope="session")
def emitted(tmp_path_factory: pytest.TempPathFactory) -> Emitted:
    """Five staged shards in windows of two, of which thresholds and dedup keep 61 samples of 100 rows."""
    folder = tmp_path_factory.mktemp("emitted")
    run = write_run(folder / "run", shards=5)
    rules = [Thresholds.parse({"clip_similarity": {"min": 0.1}}, "test"), Dedup()]
    counts = select_run(run, 5, folder / "select", rules)
    options = EmitOptions(samples_per_shard=10, window_shards=2)
    return emit_run(run, folder / "dataset", counts, options, shards=5, rules=rules)


@pytest.fixture(scope="session")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Mixed:
    """All modalities in both formats, in windows of three staged shards, with annotations."""
    folder = tmp_path_factory.mktemp("mixed")
    return emit_all(folder, shards_of_all(), EmitOptions(samples_per_shard=4, window_shards=3), STAGES)
