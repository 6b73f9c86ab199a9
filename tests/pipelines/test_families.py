"""The example pipelines: each passes its check and runs on a small real excerpt in its family's own format."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mmdata.errors import SourceError
from mmdata.run.pipeline import Places, describe, run_pipeline
from mmdata.shards import ledger
from mmdata.shards.tar import read_samples
from tests.pipelines import excerpts
from tests.score.checkpoints import write_tiny_checkpoint

PIPELINES = Path(__file__).parents[2] / "pipelines"
FAMILIES = ("laion", "cc", "webvid", "aishell", "mixed")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("tiny-clip"))


def clip(encoder: str, *scorers: str) -> str:
    """Override of the scorers by the tiny encoder."""
    return f"score=[{', '.join(f'{{{name}: {{model: {encoder!r}, batch_size: 8}}}}' for name in scorers)}]"


def _read(folder: Path, pattern: str) -> list[dict[str, Any]]:
    return [row for path in sorted(folder.glob(pattern)) for row in ledger.read(str(path)).to_pylist()]


class Done:
    """What a run of an example left: ledger rows, selection rows, and samples of the dataset by modality."""

    def __init__(self, folder: Path, name: str, overrides: list[str]) -> None:
        path = str(PIPELINES / f"{name}.yaml")
        assert "nothing was done" in describe(path, overrides)
        run_pipeline(path, overrides, Places(str(folder / "run"), str(folder / "out"), in_process=True), "report")
        self.rows = _read(folder / "run/ledger", "*.parquet")
        self.final = {row["key"]: row for row in _read(folder / "run/selection", "*/*.parquet")}
        self.samples: dict[str, dict[str, dict[str, bytes]]] = {}
        for shard in sorted((folder / "out").glob("*/*/*.tar")):
            with shard.open("rb") as file:
                self.samples.setdefault(shard.parts[-3], {}).update(read_samples(file, str(shard)))

    def reasons(self, modality: str | None = None) -> Counter[str]:
        return Counter(self.final[row["key"]]["reason"] for row in self.rows if modality in (None, row["modality"]))

    def parts(self, modality: str) -> set[tuple[str, ...]]:
        return {tuple(sorted(parts)) for parts in self.samples[modality].values()}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_missing_input_is_said_with_its_place(name: str) -> None:
    if (PIPELINES / "data").exists():
        pytest.skip("pipelines/data is there")
    with pytest.raises(SourceError, match=r"pipelines/data/.*: no such (file|folder)"):
        describe(str(PIPELINES / f"{name}.yaml"), [])


def test_laion(tmp_path: Path, encoder: str) -> None:
    rows = excerpts.photos(tmp_path / "media")
    rows = [*rows, (f"{excerpts.HOST}/gone.jpg", "a dead link"), rows[0], (rows[1][0] + "?v=2", rows[1][1])]
    unsafe = [0.9 if number == 2 else 0.01 for number in range(len(rows))]
    excerpts.write_laion(tmp_path / "list/part-00000.snappy.parquet", rows, punsafe=unsafe)
    with excerpts.served(tmp_path / "media") as server:
        done = Done(
            tmp_path,
            "laion",
            [
                *server,
                f"sources.laion.path={tmp_path / 'list'}",
                clip(encoder, "image_text"),
                "select.3.thresholds.clip_similarity.min=-1",
            ],
        )
    assert done.reasons() == {
        "ok": excerpts.PHOTOS - 1,
        "fetch.http_4xx": 1,
        "filtered.threshold": 1,
        "filtered.duplicate_url": 1,
        "filtered.duplicate_content": 1,
    }
    assert done.parts("image_text") == {("jpg", "json", "txt")}
    assert json.loads(next(iter(done.samples["image_text"].values()))["json"])["clip_similarity"] != 0


def test_cc(tmp_path: Path, encoder: str) -> None:
    rows = [*excerpts.photos(tmp_path / "media"), (f"{excerpts.HOST}/gone.jpg", 'a "quote left open')]
    table = excerpts.write_cc(tmp_path / "Train_GCC-training.tsv", rows)
    with excerpts.served(tmp_path / "media") as server:
        done = Done(
            tmp_path,
            "cc",
            [
                *server,
                f"sources.cc.path={table}",
                clip(encoder, "image_text"),
                "select.2.thresholds.clip_similarity.min=-1",
            ],
        )
    assert done.reasons() == {"ok": excerpts.PHOTOS, "fetch.http_4xx": 1}
    assert {row["caption"] for row in done.rows} >= {'a "quote left open'}


def test_webvid(tmp_path: Path, encoder: str) -> None:
    rows = excerpts.films(tmp_path / "media")
    (tmp_path / "media/broken.mp4").write_bytes(b"\x00\x00\x00\x18ftypisom" + b"\0" * 500)
    table = excerpts.write_webvid(tmp_path / "results_2M_val.csv", [*rows, (f"{excerpts.HOST}/broken.mp4", "broken")])
    with excerpts.served(tmp_path / "media") as server:
        done = Done(
            tmp_path,
            "webvid",
            [
                *server,
                f"sources.webvid.path={table}",
                clip(encoder, "image_text"),
                "select.2.thresholds.clip_similarity.min=-1",
            ],
        )
    assert done.reasons()["ok"] == len(rows)
    (broken,) = [row for row in done.rows if row["status"] != "ok"]
    assert broken["reason"].startswith("decode.")
    frames = {f"{number:03d}.jpg" for number in range(5)}
    assert all(set(parts) >= {*frames, "mp4", "txt", "json"} for parts in done.samples["video_text"].values())
    described = json.loads(next(iter(done.samples["video_text"].values()))["json"])
    assert described["clip_similarity_max"] >= described["clip_similarity"]


def test_aishell(tmp_path: Path) -> None:
    speech = excerpts.shared("data_aishell")
    done = Done(tmp_path, "aishell", [f"sources.speech.path={speech}", "sources.speech.limit=10"])
    assert done.reasons() == {"ok": 10}
    assert done.parts("audio_text") == {("flac", "json", "mel.npy", "mfcc.npy", "txt")}
    assert {row["language"] for row in done.rows} == {"zh"}
    assert all(row["speaker"].startswith("S0") and row["num_mel_frames"] > 0 for row in done.rows)


def test_mixed(tmp_path: Path, encoder: str) -> None:
    pictures, films = excerpts.photos(tmp_path / "media"), excerpts.films(tmp_path / "media")
    excerpts.write_laion(tmp_path / "laion/a.parquet", pictures)
    excerpts.write_webvid(tmp_path / "webvid.csv", films)
    excerpts.write_mmc4(tmp_path / "docs.jsonl", [*pictures[:3], (f"{excerpts.HOST}/gone.jpg", "It is gone.")])
    names = [link.rpartition("/")[2] for link, _ in pictures[:2]]
    excerpts.write_llava(tmp_path / "llava.json", tmp_path / "media", names)
    with excerpts.served(tmp_path / "media") as server:
        done = Done(
            tmp_path,
            "mixed",
            [
                *server,
                f"sources.pictures.path={tmp_path / 'laion'}",
                f"sources.films.path={tmp_path / 'webvid.csv'}",
                f"sources.speech.path={excerpts.shared('data_aishell')}",
                "sources.speech.limit=4",
                f"sources.documents.path={tmp_path / 'docs.jsonl'}",
                f"sources.dialogues.path={tmp_path / 'llava.json'}",
                f"sources.dialogues.root={tmp_path / 'media'}",
                clip(encoder, "image_text", "document_similarity"),
                "select.1.thresholds.clip_similarity.min=-1",
            ],
        )
    kept = {
        "image_text": len(pictures),
        "video_text": len(films),
        "audio_text": 4,
        "interleaved": 2,
        "instruct": 3,
    }
    assert {modality: done.reasons(modality) for modality in kept} == {m: Counter(ok=n) for m, n in kept.items()}
    assert {m: len(samples) for m, samples in done.samples.items()} == kept
    media = {row["key"]: row["media_reasons"] for row in done.rows if row["modality"] == "interleaved"}
    assert sorted(media.values()) == [["ok", "fetch.http_4xx"], ["ok", "ok"]]
    matrices = [
        json.loads(json.loads(parts["json"])["document_similarity"]) for parts in done.samples["interleaved"].values()
    ]
    assert sorted(len(matrix) for matrix in matrices) == [1, 2]
    assert {len(row) for matrix in matrices for row in matrix} == {3}
    dialogues = [json.loads(parts["json"])["messages"] for parts in done.samples["instruct"].values()]
    assert sorted(message[0]["content"][0]["type"] for message in dialogues) == ["image", "image", "text"]
