"""The pilot: what it projects holds for the real run, its intervals hold the truth, and it leaves nothing behind."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdata.config import load
from mmdata.errors import ConfigError
from mmdata.run.catalog import resolve
from mmdata.run.census import take_census, write_plan
from mmdata.run.forecast import plan_pipeline
from mmdata.run.intervals import bootstrap, copies, exactly, poisson, wilson
from mmdata.run.pace import ingest_pace, score_pace
from mmdata.run.pilot import Measured
from mmdata.run.pipeline import Places, run_pipeline
from mmdata.run.plan import read_plan
from mmdata.run.prices import cost_of, read_prices
from mmdata.run.projection import Wishes, _loading, num_shards
from mmdata.run.removals import record_list
from mmdata.shards import ledger
from mmdata.shards.folders import RunFolder
from tests.run.test_pipeline import manifest_of
from tests.run.world import World, tree_of
from tests.score.checkpoints import write_tiny_checkpoint

ROWS, PILOT = 300, 100
PRICES = {"cpu_hour": 0.04, "gpu_hour": 2.5, "gb_month": 0.02, "gb_network": 0.09, "currency": "EUR"}


def places(world: World) -> Places:
    return Places(str(world.folder / "runs/small"), str(world.folder / "datasets/small"), in_process=True)


def projection(world: World, wishes: Wishes) -> dict[str, object]:
    out = world.folder / "plan.json"
    plan_pipeline(str(world.folder / "small.yaml"), (), places(world), wishes, str(out))
    tree = json.loads(out.read_text())
    out.unlink()
    return tree


def test_a_full_run_lies_within_the_intervals_of_its_pilot(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.write_table(rows=ROWS)
    world.write_pipeline(run={"max_transient_share": 1.0}, plan={"rows_per_shard": 60})
    world.failing = set(range(65, ROWS, 9))
    (world.folder / "prices.yaml").write_text(yaml.safe_dump(PRICES))
    before = tree_of(world.folder)
    wishes = Wishes(PILOT, workers=2, gpus=4, loader_workers=8, prices=read_prices(str(world.folder / "prices.yaml")))
    tree = projection(world, wishes)
    found = tree["projection"]
    assert len(world.requests) == PILOT == found["sampled"]
    assert tree_of(world.folder) == before
    assert not (world.folder / "runs").exists()
    assert tree["sources"] == [
        {"name": "web", "kind": "url_table", "modality": "image_text", "rows": ROWS, "shards": 5}
    ]

    run_pipeline(str(world.folder / "small.yaml"), (), places(world), "report")
    dataset = world.folder / "datasets/small"
    manifest = manifest_of(dataset)
    full: Counter[str] = Counter(manifest["reasons"])  # type: ignore[arg-type]
    assert len(full) > 3
    for reason, number in full.items():
        interval = found["reasons"].get(reason, found["unseen"])
        assert interval["low"] <= number <= interval["high"], reason
    assert found["reasons"]["ok"]["high"] < ROWS  # the intervals say something
    ledgers = [ledger.read(str(path)) for path in (world.folder / "runs/small/ledger").iterdir()]
    network = sum(number or 0 for table in ledgers for number in table["bytes"].to_pylist())
    staged = sum(path.stat().st_size for path in (world.folder / "runs/small/staged").iterdir())
    emitted = sum(path.stat().st_size for path in dataset.rglob("*") if path.is_file() and path.parent != dataset)
    for name, number in (("network_bytes", network), ("staged_bytes", staged), ("dataset_bytes", emitted)):
        assert found[name]["low"] <= number <= found[name]["high"], name
        assert found[name]["high"] < 1.5 * found[name]["low"], name

    shards = len(list((dataset / "image_text/train").glob("*.tar")))
    (loading,) = found["loading"]
    assert abs(loading["shards"] - shards) <= 2
    assert not loading["is_enough"]
    assert found["cost"]["cpu"]["value"] == pytest.approx(found["cpu_hours"]["value"] * PRICES["cpu_hour"], abs=2e-6)
    assert found["cost"]["currency"] == "EUR"
    shown = capsys.readouterr().out
    assert f"pilot: {PILOT} of {ROWS} rows" in shown
    assert f"emit.samples_per_shard={loading['samples_per_shard']} gives enough" in shown


def test_a_pilot_with_a_scorer_says_its_hours_and_what_it_leaves_out(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.write_table()
    model = write_tiny_checkpoint(world.folder / "clip")
    rules = [{"thresholds": {"clip_similarity": {"min": -1}}}, {"subset": {"count": 3}}]
    world.write_pipeline(score=[{"image_text": {"model": model, "batch_size": 8}}], select=rules)
    found = projection(world, Wishes(40, workers=16))["projection"]
    assert found["hours"]["score.image_text"]["value"] > 0
    assert found["gpu_hours"]["value"] == 0
    assert found["reasons"]["ok"]["value"] > 40  # as if there were no subset
    assert found["wall_hours"]["value"] < found["cpu_hours"]["value"] / 10
    shown = capsys.readouterr().out
    assert "score.image_text, of one worker" in shown
    assert "not projected, as they hang on all rows: subset" in shown


def test_a_pilot_on_ray_finds_what_one_in_this_process_finds(world: World) -> None:
    world.write_table()
    world.write_pipeline()
    (world.folder / "prices.yaml").write_text(yaml.safe_dump(PRICES))
    here = projection(world, Wishes(30))["projection"]
    words = ("--pilot", "30", "--prices", "prices.yaml", "--json", "plan.json", "run.workers=2")
    done = world.mmdata("plan", "small.yaml", *words)
    assert "cost of the run, EUR" in done.stdout
    there = json.loads((world.folder / "plan.json").read_text())["projection"]
    for name in ("rows", "sampled", "reasons", "unseen", "network_bytes", "staged_bytes"):
        assert there[name] == here[name], name
    # A pilot of two workers has other shards, whose compression differs a little.
    assert there["dataset_bytes"]["value"] == pytest.approx(here["dataset_bytes"]["value"], rel=0.1)
    assert there["cost"]["once"]["value"] > 0
    assert not list(world.folder.glob("runs*"))


def test_without_a_pilot_rows_are_counted_and_nothing_else_is_done(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.write_table()
    pipeline = world.write_pipeline()
    before = tree_of(world.folder)
    plan_pipeline(str(pipeline), (), places(world), Wishes(), "")
    assert "60" in capsys.readouterr().out
    assert world.requests == []
    assert tree_of(world.folder) == before
    with pytest.raises(ConfigError, match="need --pilot N"):
        plan_pipeline(str(pipeline), (), places(world), Wishes(gpus=8), "")
    with pytest.raises(ConfigError, match="there is no such folder"):
        plan_pipeline(str(pipeline), (), places(world), Wishes(), str(world.folder / "nowhere/plan.json"))


def test_a_pilot_does_not_ask_for_what_was_removed_from_the_run(world: World) -> None:
    world.write_table()
    world.write_pipeline()
    record_list(RunFolder(places(world).run), [("url", "http://media.example/12.jpg"), ("key", f"web-{13:012d}")])
    found = projection(world, Wishes(60))["projection"]
    assert sorted({f"/{row}.jpg" for row in range(60)} - set(world.requests)) == ["/12.jpg", "/13.jpg"]
    assert found["reasons"]["policy.removed"] == {"low": 2, "value": 2, "high": 2}  # type: ignore[index]


def test_rows_are_drawn_by_seed_and_every_row_as_often(world: World) -> None:
    world.write_table(rows=400)
    path = str(world.write_pipeline())

    def drawn(number: int, *overrides: str) -> list[int]:
        pipeline = load(path, overrides)
        (source,) = take_census(pipeline, resolve(pipeline), number)
        return [row for table in source.drawn for row in table["number"].to_pylist()]

    assert drawn(40) == drawn(40) == sorted(drawn(40))
    assert set(drawn(40)) < set(drawn(80))
    assert drawn(1000) == list(range(400))
    often = Counter(row < 200 for seed in range(60) for row in drawn(20, f"seed={seed}"))
    assert abs(often[True] - 600) < 4 * (1200 * 0.25) ** 0.5


def test_the_plan_of_a_pilot_has_every_drawn_row_once_and_short_shards_first(world: World, tmp_path: Path) -> None:
    world.write_table(rows=900)
    pipeline = load(str(world.write_pipeline()))
    sources = take_census(pipeline, resolve(pipeline), 850)
    run = RunFolder(str(tmp_path / "run"))
    write_plan(run, sources, workers=2)
    plan = read_plan(run)
    assert [shard.rows for shard in plan.shards] == [8, 8, 417, 417]
    numbers = [n for shard in plan.shards for n in ledger.read(run.rows(shard.shard))["number"].to_pylist()]
    assert len(set(numbers)) == 850


@pytest.mark.parametrize(("whole", "sampled", "share"), [(1000, 100, 0.1), (1000, 100, 0.5), (400, 200, 0.03)])
def test_intervals_of_shares_and_means_hold_the_truth_95_times_of_100(whole: int, sampled: int, share: float) -> None:
    rng = np.random.default_rng(3)
    values = np.zeros(whole)
    values[: int(whole * share)] = 1
    sizes = rng.lognormal(3, 0.7, whole)
    shares = means = 0
    for draw in range(300):
        rows = rng.permutation(whole)[:sampled]
        shares += values.mean() in wilson(int(values[rows].sum()), sampled, whole)
        means += sizes.mean() in bootstrap(sizes[rows], whole, draw) if draw < 40 else 0
    assert shares >= 279  # 285 are meant; less than one time in a hundred below 279
    assert means >= 34


def test_intervals_of_many_reasons_hold_all_of_them_together_95_times_of_100() -> None:
    rng = np.random.default_rng(5)
    whole, sampled, reasons = 870, 300, 30
    numbers = rng.integers(1, 30, reasons)
    which = np.repeat(np.arange(reasons + 1), [*numbers, whole - numbers.sum()])
    alone = together = 0
    for _ in range(200):
        hits = np.bincount(which[rng.permutation(whole)[:sampled]], minlength=reasons + 1)[:reasons]
        for many in (1, reasons):
            bounds = [wilson(int(hit), sampled, whole, many).times(whole) for hit in hits]
            held = all(number in bound for number, bound in zip(numbers, bounds, strict=True))
            alone, together = alone + (held and many == 1), together + (held and many > 1)
    assert together >= 183  # 190 are meant
    assert alone < 150


def test_intervals_of_copies_hold_the_number_of_planted_pairs() -> None:
    rng = np.random.default_rng(4)
    whole, pairs, hits = 2000, 150, 0
    group = np.arange(whole)
    group[whole - pairs :] = group[:pairs]
    for _ in range(200):
        some = group[rng.permutation(whole)[:400]]
        hits += pairs in copies(400 - len(np.unique(some)), 400, whole, whole)
    assert hits >= 183


@given(st.integers(0, 50), st.integers(1, 50), st.integers(1, 10_000))
def test_bounds_stand_around_the_value_and_all_rows_leave_no_doubt(hits: int, more: int, rest: int) -> None:
    sampled = hits + more
    share = wilson(hits, sampled, sampled + rest)
    assert 0 <= share.low <= share.value <= share.high <= 1
    assert wilson(hits, sampled, sampled) == exactly(hits / sampled)
    rate = poisson(hits)
    assert rate.low <= hits <= rate.high
    counted = copies(hits, sampled, sampled + rest, sampled + rest)
    assert counted.low <= counted.value <= counted.high <= sampled + rest


def test_exact_bounds_of_counts_are_those_of_the_tables() -> None:
    for events, low, high in ((0, 0.0, 3.6889), (1, 0.0253, 5.5716), (10, 4.7954, 18.3904)):
        assert (poisson(events).low, poisson(events).high) == pytest.approx((low, high), abs=1e-3)


def test_the_slow_end_of_a_shard_counts_once_and_not_for_every_row() -> None:
    arrivals = [1 + 0.01 * row for row in range(400)] + [5 + 0.2 * row for row in range(100)]
    first = {"arrivals_s": [60.0 + row for row in range(8)], "seconds": 90.0, "is_first": True}
    shard = {"arrivals_s": arrivals, "seconds": 26.0, "is_first": False}
    found = ingest_pace([first, shard], batch=16, links=84).seconds(1_000_000, 100, seed=1)
    assert found.value == pytest.approx(1_000_000 * 0.01 + 100 * (26.0 - 5 + 2), rel=0.02)
    short = ingest_pace([first], batch=16, links=84).seconds(800, 1, seed=1)
    assert short.value == pytest.approx(800 * 90 / 9, rel=0.01)
    assert short.low < short.value < short.high


def test_scoring_is_paced_by_whole_batches() -> None:
    shard = {"arrivals_s": [3.0] * 8 + [5.0] * 8 + [7.0] * 2, "seconds": 7.5, "is_first": False}
    pace = score_pace([shard], batch_size=8)
    assert pace is not None
    assert pace.seconds(80, 1, seed=1).value == pytest.approx(1 + 0.5 + 80 * 2 / 8)
    assert score_pace([{"seconds": 0.1}], 8) is None


@settings(max_examples=60)
@given(st.integers(1, 3_000_000), st.integers(1, 40), st.integers(1, 20_000), st.integers(1, 512))
def test_a_suggested_shard_size_gives_every_loader_a_shard(
    samples: int, windows: int, per_shard: int, needed: int
) -> None:
    from mmdata.run.census import SourceRows

    tree = {
        "sources": {"web": {"kind": "url_table", "path": "x"}},
        "emit": {"samples_per_shard": per_shard, "val_share": 0},
    }
    from mmdata.config import of_tree

    pipeline = of_tree(Path("x.yaml"), tree)
    source = SourceRows("web", "url_table", "image_text", shards=windows * pipeline.emit.window_shards)
    measured = Measured(1, {}, *[np.zeros(1)] * 3, Counter(image_text=1), 0, 0.0, 0.0, [], {}, 0.0, frozenset())
    (found,) = _loading(pipeline, [source], measured, samples, needed)
    assert found.shards == num_shards(samples, windows, per_shard)
    if found.samples_per_shard:
        assert num_shards(samples, windows, found.samples_per_shard) >= needed
    else:
        assert samples < 2 * needed * windows


def test_prices_are_checked_by_name_and_number(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text("cpu_hour: 0.04\ngpu_hour: -1\ngb_month: a lot\n")
    with pytest.raises(ConfigError) as error:
        read_prices(str(path))
    for place in ("prices.yaml.gpu_hour", "prices.yaml.gb_month", "prices.yaml.gb_network"):
        assert place in str(error.value)
    path.write_text("cpu_hours: 1\n")
    with pytest.raises(ConfigError, match="did you mean cpu_hour"):
        read_prices(str(path))
    path.write_text("[1]")
    with pytest.raises(ConfigError, match="allowed is a mapping"):
        read_prices(str(path))
    with pytest.raises(ConfigError, match="no such file"):
        read_prices(str(tmp_path / "none.yaml"))
    path.write_text(yaml.safe_dump(PRICES))
    cost = cost_of(read_prices(str(path)), exactly(10), exactly(2), exactly(3e9), exactly(5e9))
    assert cost.once.value == pytest.approx(0.4 + 5 + 0.27)
    assert cost.month.value == pytest.approx(0.1)
