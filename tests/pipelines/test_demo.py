"""The demo: its server misbehaves as planned, its tables and licences cover every file, its encoder can be built."""

from __future__ import annotations

import csv
import gzip
import hashlib
import http.client
import io
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from mmdata.errors import Reason
from pipelines.demo import licences
from pipelines.demo.encoder import towers
from pipelines.demo.encoder.build import build_encoder
from pipelines.demo.encoder.measure import read_tables, threshold_of
from pipelines.demo.server import DemoServer, read_behaviours
from tests.pipelines.demo_tables import DEMO, HOST, every_row, links_of


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return read_tables()


@pytest.fixture
def port() -> Iterator[int]:
    with DemoServer() as port:
        yield port


def ask(port: int, path: str, timeout: float = 5) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


# ---- tables and files


def test_tables_have_the_same_columns_and_about_700_rows() -> None:
    columns = set(pq.read_schema(DEMO / "tables" / "nature.parquet").names)
    with gzip.open(DEMO / "tables" / "objects.tsv.gz", "rt", encoding="utf-8") as file:
        assert set(next(csv.reader(file, delimiter="\t"))) == columns
    assert set((DEMO / "tables" / "photos.csv").read_text(encoding="utf-8").splitlines()[0].split(",")) == columns
    lines = (DEMO / "tables" / "planted.jsonl").read_text(encoding="utf-8").splitlines()
    assert all(set(json.loads(line)) == columns for line in lines)
    assert 680 <= len(read_tables()) <= 750


def test_every_expected_reason_is_in_the_closed_list(rows: list[dict[str, Any]]) -> None:
    assert {row["expected_reason"] for row in rows} <= {reason.value for reason in Reason}


def test_at_least_a_tenth_of_all_captions_is_swapped(rows: list[dict[str, Any]]) -> None:
    planted = Counter(row["planted"] for row in rows)
    assert planted["swapped"] >= 0.1 * len(rows)
    files = {row["planted"]: row["expected_reason"] for row in rows}
    assert files["swapped"] == "filtered.score_low"
    assert files["right"] == "ok"


def test_each_url_on_the_demo_host_has_a_file_or_a_behaviour() -> None:
    behaviours = read_behaviours()
    for row in every_row():
        for link in links_of(row):
            path = link.removeprefix(HOST).replace("%E5%9B%BE", "\u56fe")
            if path.startswith("/") and not path.startswith("/dead/"):
                assert path in behaviours or (DEMO / "media" / path[1:]).is_file(), link
    for path, behaviour in behaviours.items():
        assert "file" not in behaviour or (DEMO / "media" / behaviour["file"]).is_file(), path


def test_no_file_is_without_a_row_or_a_behaviour() -> None:
    used = {link.removeprefix(HOST + "/") for row in every_row() for link in links_of(row)}
    for behaviour in read_behaviours().values():
        used.add(behaviour.get("file", ""))
        used.add(behaviour.get("to", "").removeprefix(HOST).lstrip("/"))
    files = {path.relative_to(DEMO / "media").as_posix() for path in (DEMO / "media").rglob("*") if path.is_file()}
    assert files <= used


def test_hashes_in_the_tables_are_those_of_the_files(rows: list[dict[str, Any]]) -> None:
    checked = 0
    for row in rows:
        if not row["sha256"]:
            continue
        content = (DEMO / "media" / row["URL"].removeprefix(HOST + "/")).read_bytes()
        is_same = hashlib.sha256(content).hexdigest() == row["sha256"]
        assert is_same == (row["planted"] != "hash_mismatch"), row["URL"]
        checked += 1
    assert checked > 500


def test_blocked_hashes_are_those_of_the_rows_that_say_so(rows: list[dict[str, Any]]) -> None:
    lines = (DEMO / "blocked_hashes.txt").read_text(encoding="utf-8").splitlines()
    listed = {line for line in lines if not line.startswith("#")}
    assert listed == {row["sha256"] for row in rows if row["planted"] == "blocked_hash"}


def test_each_file_falls_under_one_licence_row_and_all_stay_small() -> None:
    patterns = licences.read_patterns(DEMO / "LICENSES.md")
    files = [path for path in (DEMO / "media").rglob("*") if path.is_file()]
    for path in files:
        name = path.relative_to(DEMO / "media").as_posix()
        assert len(licences.covering(patterns, name)) == 1, name
    for pattern in patterns:
        assert any(licences.covering([pattern], path.relative_to(DEMO / "media").as_posix()) for path in files), pattern
    assert sum(path.stat().st_size for path in files) < 20_000_000


def test_unusual_pictures_are_what_they_are_called() -> None:
    folder = DEMO / "media" / "planted"
    assert Image.open(folder / "cmyk.jpg").mode == "CMYK"
    assert Image.open(folder / "grey.jpg").mode == "L"
    palette = Image.open(folder / "palette.png")
    assert palette.mode == "P"
    assert "transparency" in palette.info
    assert getattr(Image.open(folder / "animated.gif"), "n_frames", 1) == 4
    assert getattr(Image.open(folder / "animated.webp"), "n_frames", 1) == 4
    assert (folder / "png16.png").read_bytes()[24:26] == bytes([16, 2])  # bit depth, colour type
    assert Image.open(folder / "progressive.jpg").info["progressive"]
    assert {Image.open(folder / f"turned-{n}.jpg").getexif()[0x0112] for n in range(3)} == {3, 6, 8}
    assert Image.open(folder / "gps.jpg").getexif().get_ifd(0x8825)
    header = (folder / "bomb.png").read_bytes()
    assert int.from_bytes(header[16:20], "big") * int.from_bytes(header[20:24], "big") == 400_000_000


# ---- the server


def test_server_serves_files_over_one_connection(port: int, rows: list[dict[str, Any]]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    sound = [row for row in rows if row["planted"] == "right"][:300]
    start = time.monotonic()
    for row in sound:
        connection.request("GET", row["URL"].removeprefix(HOST))
        response = connection.getresponse()
        assert response.status == 200
        assert str(response.getheader("Content-Type")).startswith("image/")
        assert hashlib.sha256(response.read()).hexdigest() == row["sha256"]
    connection.close()
    assert time.monotonic() - start < 10


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/dead/00.jpg", 404),
        ("/no/such/file", 404),
        ("/../server.py", 404),
        ("/%2e%2e/server.py", 404),
        ("/gone/0.jpg", 410),
        ("/down/ever.jpg", 503),
        ("/down/500.jpg", 500),
        ("/busy/ever.jpg", 429),
    ],
)
def test_server_answers_with_planned_status_each_time(port: int, path: str, status: int) -> None:
    assert [ask(port, path)[0].status for _ in range(3)] == [status] * 3


def test_busy_server_asks_to_wait_then_serves(port: int) -> None:
    first, _ = ask(port, "/busy/once.webp")
    assert (first.status, first.getheader("Retry-After")) == (429, "1")
    second, body = ask(port, "/busy/once.webp")
    assert second.status == 200
    assert body[8:12] == b"WEBP"


def test_redirects_go_where_planned(port: int) -> None:
    assert ask(port, "/loop/start.jpg")[0].getheader("Location") == "/loop/back.jpg"
    assert ask(port, "/loop/back.jpg")[0].getheader("Location") == "/loop/start.jpg"
    assert str(ask(port, "/away/0.jpg")[0].getheader("Location")).startswith("http://169.254.169.254/")
    response, _ = ask(port, "/moved/once.webp")
    assert ask(port, str(response.getheader("Location")))[0].status == 200


def test_drip_is_slow_and_silence_silent(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", "/slow/drip.webp")
    response = connection.getresponse()
    start = time.monotonic()
    assert len(response.read(100)) == 100
    assert 0.5 < time.monotonic() - start < 3
    connection.close()
    with pytest.raises(TimeoutError):
        ask(port, "/silent/0.jpg", timeout=0.5)


def test_short_empty_and_reset_answers(port: int) -> None:
    with pytest.raises(http.client.IncompleteRead):
        ask(port, "/short/0.webp")
    assert ask(port, "/empty/0.jpg")[1] == b""
    with pytest.raises(ConnectionResetError):
        ask(port, "/reset/0.jpg")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", "/large/0.jpg")
    assert connection.getresponse().getheader("Content-Length") == "64000000"
    connection.close()


def test_opt_out_headers_are_sent(port: int, rows: list[dict[str, Any]]) -> None:
    wishes = [row for row in rows if row["planted"].startswith("optout")]
    sent = {str(ask(port, row["URL"].removeprefix(HOST))[0].getheader("X-Robots-Tag")) for row in wishes}
    assert sent == {"noai", "noimageai, noindex", "mmdata: noai", "otherbot: noindex"}


def test_server_stops_with_clients_still_connected() -> None:
    with DemoServer() as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", "/silent/0.jpg")
        time.sleep(0.2)
        start = time.monotonic()
    assert time.monotonic() - start < 3
    assert not any(thread.name == "demo-server" for thread in threading.enumerate())
    connection.close()
    with pytest.raises(OSError, match=r"[Rr]efused"):
        ask(port, "/dead/00.jpg")


def test_server_as_a_command_prints_its_port() -> None:
    process = subprocess.Popen(
        [sys.executable, str(DEMO / "server.py"), "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        assert ask(port, "/gone/0.jpg")[0].status == 410
    finally:
        process.terminate()
        process.wait(timeout=10)


# ---- the encoder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        towers.image_weights()
        towers.text_folder()
    except towers.MissingPackageError as error:
        pytest.skip(str(error))
    return build_encoder(tmp_path_factory.mktemp("encoder") / "checkpoint")


def test_encoder_is_built_once(checkpoint: Path) -> None:
    before = (checkpoint / "open_clip_model.safetensors").stat().st_mtime_ns
    assert build_encoder(checkpoint) == checkpoint
    assert (checkpoint / "open_clip_model.safetensors").stat().st_mtime_ns == before
    (checkpoint / "built_from.json").write_text("{}", encoding="utf-8")
    build_encoder(checkpoint)
    assert (checkpoint / "open_clip_model.safetensors").stat().st_mtime_ns > before
    assert [path.name for path in checkpoint.parent.iterdir()] == [checkpoint.name]


def test_encoder_loads_anywhere_and_does_not_depend_on_its_folder(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.demo.encoder.measure import Encoder

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    other = build_encoder(Path("elsewhere"))
    files = sorted((DEMO / "media" / "fluent").glob("*.webp"))[:8]
    names = [file.stem.replace("-", " ") for file in files]
    first, second = Encoder(checkpoint), Encoder(other)
    assert (first.pictures(files) == second.pictures(files)).all()
    assert (first.texts(names) == second.texts(names)).all()
    scores = first.pictures(files) @ first.texts(names).T
    assert (scores.argmax(1) == range(len(files))).mean() >= 0.5


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_encoder_reaches_what_is_required(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from pipelines.demo.encoder.measure import Encoder, measure_demo

    assert measure_demo(Encoder(checkpoint))
    assert "AUC of right against wrong captions" in capsys.readouterr().out


def test_threshold_is_the_share_of_pairs_off_the_diagonal() -> None:
    import numpy as np

    scores = np.linspace(0, 1, 100, dtype=np.float32).reshape(10, 10)
    np.fill_diagonal(scores, 99)
    off = scores[~np.eye(10, dtype=bool)]
    assert (off < threshold_of(scores)).mean() == pytest.approx(0.92, abs=0.02)


def test_tables_can_be_read_with_any_csv_reader() -> None:
    text = gzip.decompress((DEMO / "tables" / "objects.tsv.gz").read_bytes()).decode()
    assert all(row["TEXT"] and row["name_zh"] for row in csv.DictReader(io.StringIO(text), delimiter="\t"))
