"""An emitted dataset beside what img2dataset itself makes of the same links: same files, columns, types and values."""

from __future__ import annotations

import functools
import http.server
import importlib.util
import json
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmdata.config import EmitOptions
from mmdata.shards.folders import RunFolder
from tests.builders import image_sample, jpeg, write_staged_shard
from tests.emit.emitted import emit_run, select_run

ROWS = 12
MODES = ("no", "keep_ratio")
# Its own reader, downloader, resizer and writer; only its worker and its progress process are left out, since each
# of them imports everything once more.
DOWNLOAD = """
import sys
from unittest import mock
import importlib

main = importlib.import_module("img2dataset.main")
main.LoggerProcess = mock.MagicMock()
main.multiprocessing_distributor = lambda count, downloader, reader, *rest: [downloader(row) for row in reader]
for mode in sys.argv[3:]:
    main.download(url_list=sys.argv[1], output_folder=f"{sys.argv[2]}/{mode}", input_format="parquet",
                  output_format="webdataset", url_col="url", caption_col="caption", extract_exif=False,
                  save_additional_columns=["license", "page"], compute_hash="sha256", resize_mode=mode, image_size=64,
                  processes_count=1, thread_count=4, number_sample_per_shard=100, enable_wandb=False)
"""


class QuietFiles(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Nothing is printed."""


@pytest.fixture(scope="module")
def links(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    folder = tmp_path_factory.mktemp("media")
    for row in range(ROWS):
        (folder / f"{row}.jpg").write_bytes(jpeg(row))
    handler = functools.partial(QuietFiles, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield [f"http://127.0.0.1:{server.server_port}/{row}.jpg" for row in range(ROWS)]
        server.shutdown()


def own_columns() -> pa.Table:
    licences = [f"licence {row % 3}" for row in range(ROWS)]
    return pa.table({"license": licences, "page": pa.array(range(ROWS), pa.int64())})


@pytest.fixture(scope="module")
def downloads(links: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of img2dataset's outputs, one folder a resize mode."""
    if importlib.util.find_spec("img2dataset") is None:
        pytest.skip("img2dataset is not installed")
    folder = tmp_path_factory.mktemp("img2dataset")
    table = pa.table({"url": links, "caption": [f"picture number {row}" for row in range(ROWS)]})
    for name in ("license", "page"):
        table = table.append_column(name, own_columns()[name])
    pq.write_table(table, folder / "in.parquet")
    subprocess.run(
        [sys.executable, "-c", DOWNLOAD, str(folder / "in.parquet"), str(folder), *MODES],
        check=True,
        capture_output=True,
        timeout=100,
        env={**os.environ, "NO_ALBUMENTATIONS_UPDATE": "1"},
    )
    return folder


@pytest.fixture(params=MODES)
def theirs(request: pytest.FixtureRequest, downloads: Path) -> Path:
    return downloads / str(request.param)


@pytest.fixture(scope="module")
def ours(links: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of our tars, from the same links."""
    folder = tmp_path_factory.mktemp("ours")
    run = RunFolder(str(folder / "run"))
    samples = [image_sample("pictures", row) for row in range(ROWS)]
    for sample, link in zip(samples, links, strict=True):
        sample.columns |= {"url": link, "original_width_px": 64, "original_height_px": 48}
    write_staged_shard(run, 0, samples, [0.3] * ROWS, own=own_columns())
    counts = select_run(run, 1, folder / "select", val_share=0.0)
    emit_run(run, folder / "dataset", counts, EmitOptions(formats=["webdataset"]), shards=1)
    return folder / "dataset" / "image_text" / "train"


def json_of_tar(path: Path) -> dict[str, dict[str, Any]]:
    with tarfile.open(path) as tar:
        found = [json.load(tar.extractfile(name)) for name in tar.getnames() if name.endswith(".json")]  # type: ignore[arg-type]
    return {entry["url"]: entry for entry in found}


def extensions_of_tar(path: Path) -> list[str]:
    with tarfile.open(path) as tar:
        return [name.partition(".")[2] for name in tar.getnames()]


def test_the_same_files_stand_beside_each_other(theirs: Path, ours: Path) -> None:
    names = sorted(path.name for path in theirs.iterdir() if path.is_file())
    assert names == ["00000.parquet", "00000.tar", "00000_stats.json"]
    assert sorted(path.name for path in ours.iterdir()) == [*names, "sizes.json"]


def test_the_sidecar_has_img2datasets_columns_types_and_values(theirs: Path, ours: Path) -> None:
    their_table, our_table = (pq.read_table(path / "00000.parquet") for path in (theirs, ours))
    assert [(f.name, f.type) for f in our_table.schema] == [(f.name, f.type) for f in their_table.schema]
    same = [name for name in our_table.column_names if name not in ("key", "width", "height")]
    assert "sha256" in same
    their_rows, our_rows = (t.select(same).sort_by("url").to_pylist() for t in (their_table, our_table))
    assert our_rows == their_rows
    assert len(our_rows) == ROWS


def test_the_json_part_has_img2datasets_names_in_its_order_and_no_null(theirs: Path, ours: Path) -> None:
    their_json, our_json = (json_of_tar(path / "00000.tar") for path in (theirs, ours))
    for url, entry in our_json.items():
        other = their_json[url]
        shared = [name for name in other if name not in ("license", "page")]
        assert list(entry) == [*shared, "clip_similarity", "extra"]
        assert all(value is not None for value in entry.values())
        for name in shared:
            if other[name] is not None:
                assert type(entry[name]) is type(other[name])
        assert json.loads(entry["extra"]) == {"license": other["license"], "page": other["page"]}
        assert [entry[name] for name in ("caption", "url", "sha256", "status")] == [
            other[name] for name in ("caption", "url", "sha256", "status")
        ]
        assert (other["error_message"], entry["error_message"]) == (None, "")


def test_the_tar_has_the_same_parts_in_the_same_order(theirs: Path, ours: Path) -> None:
    assert extensions_of_tar(ours / "00000.tar") == ["jpg", "json", "txt"] * ROWS
    assert sorted(set(extensions_of_tar(theirs / "00000.tar"))) == ["jpg", "json", "txt"]
    with tarfile.open(ours / "00000.tar") as tar:
        name = next(name for name in tar.getnames() if name.endswith(".jpg"))
        data = tar.extractfile(name)
        assert data is not None
        assert data.read() == jpeg(int(name.partition(".")[0].rpartition("-")[2]))


def test_the_stats_have_the_same_fields_and_the_times_are_zero(theirs: Path, ours: Path) -> None:
    their_stats, our_stats = (json.loads((path / "00000_stats.json").read_bytes()) for path in (theirs, ours))
    times = ("duration", "start_time", "end_time")
    assert list(our_stats) == list(their_stats)
    assert [our_stats[name] for name in times] == [0, 0, 0]
    assert {n: v for n, v in our_stats.items() if n not in times} == {
        n: v for n, v in their_stats.items() if n not in times
    }
