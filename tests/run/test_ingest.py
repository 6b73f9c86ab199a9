"""What ingest counts of its stages."""

from __future__ import annotations

from pathlib import Path

import yaml

from mmdata.run.pipeline import Places, run_pipeline
from mmdata.shards.commits import CommitLog
from mmdata.shards.folders import RunFolder
from tests.builders import jpeg


def test_a_stage_is_counted_with_the_samples_of_its_modalities_only(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for row in range(3):
        (tmp_path / "photos" / f"{row}.jpg").write_bytes(jpeg(row))
        (tmp_path / "photos" / f"{row}.txt").write_text(f"picture number {row}")
    tree = {
        "name": "small",
        "sources": {"photos": {"kind": "image_folder", "path": "photos"}},
        "stages": [{"decode_audio": {}}, {"decode_image": {"side_px": 64}}],  # one child process has both
    }
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(tree))
    run_pipeline(str(tmp_path / "small.yaml"), (), Places(str(tmp_path / "run"), in_process=True), "ingest")
    (commit,) = CommitLog(RunFolder(str(tmp_path / "run")), "ingest").commits.values()
    counted = {name: (given, ok) for name, (given, ok, *_) in commit.counts["stages"].items()}
    assert counted == {"fetch": (3, 3), "decode_audio": (0, 0), "decode_image": (3, 3)}
