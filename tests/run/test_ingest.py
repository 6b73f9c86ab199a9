"""What ingest counts of its stages."""

from __future__ import annotations

from pathlib import Path

import yaml

from mmdata.run.pipeline import Places, run_pipeline
from mmdata.shards.commits import CommitLog
from mmdata.shards.folders import RunFolder
from tests.builders import jpeg


def test_a_stage_is_counted_with_the_samples_that_it_took_and_ended(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for row, data in enumerate([jpeg(0), jpeg(1), b"no picture", jpeg(3, 32, 32)]):
        (tmp_path / "photos" / f"{row}.jpg").write_bytes(data)
        (tmp_path / "photos" / f"{row}.txt").write_text(f"picture number {row}")
    # One child process has all three: none of what one stage ends is another's.
    stages = [{"decode_audio": {}}, {"decode_image": {"side_px": 64, "min_side_px": 40}}, {"hash_image": {}}]
    sources = {"photos": {"kind": "image_folder", "path": "photos"}}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump({"name": "small", "sources": sources, "stages": stages}))
    run_pipeline(str(tmp_path / "small.yaml"), (), Places(str(tmp_path / "run"), in_process=True), "ingest")
    (commit,) = CommitLog(RunFolder(str(tmp_path / "run")), "ingest").commits.values()
    counted = {name: tuple(counts) for name, (*counts, _) in commit.counts["stages"].items()}
    assert commit.counts["reasons"] == {"ok": 2, "content.type_mismatch": 1, "filtered.too_small": 1}
    assert counted["decode_audio"] == (0, 0, 0, 0)
    assert counted["decode_image"] == (4, 2, 1, 1)
    assert counted["hash_image"] == (2, 2, 0, 0)
