"""The run's own log: written by a run that works, absent from one that finds everything done."""

from __future__ import annotations

from pathlib import Path

from mmdata.config import RunOptions
from mmdata.errors import BudgetError
from mmdata.run.local import Failed, wait_s
from mmdata.run.log_file import LogFile
from mmdata.shards.folders import RunFolder
from tests.run.test_pipeline import LOCAL
from tests.run.world import World


def test_a_run_says_in_its_log_what_was_done_and_a_finished_one_adds_nothing(world: World) -> None:
    world.write_table()
    pipeline = world.write_pipeline()
    world.mmdata("run", pipeline, LOCAL)
    log = world.folder / "runs" / "small" / "logs" / "driver.log"
    said = log.read_text()
    assert "ingest: begins; 0 shards are done" in said
    assert "ingest: ends;" in said
    world.mmdata("run", pipeline, LOCAL)
    assert log.read_text() == said


def test_a_log_that_nobody_opens_is_not_there(tmp_path: Path) -> None:
    log = LogFile(RunFolder(str(tmp_path / "run")))
    log.close()
    assert not (tmp_path / "run").exists()


def test_an_outage_is_waited_out_twice_as_long_each_time_and_nothing_else_is() -> None:
    options = RunOptions(retry_wait_s=5.0)
    outage, death = BudgetError("down"), RuntimeError("worker died")
    assert [wait_s(options, Failed(outage, attempts)) for attempts in (1, 2, 3, 9)] == [5.0, 10.0, 20.0, 60.0]
    assert wait_s(options, Failed(death, 1)) == 0.0
