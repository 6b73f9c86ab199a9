"""The same sources over fsspec: an S3 server on loopback, and memory://."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from mmdata.errors import Reason, SampleError, SourceError
from mmdata.sources.image_folder import ImageFolder
from mmdata.sources.media import MediaPlace, MediaReader
from mmdata.sources.rows import Source
from mmdata.sources.url_table import UrlTable
from mmdata.sources.webdataset import WebDataset

from .tables import rows_of, write_table, write_tar

ROWS = [{"url": f"http://a/{i}", "caption": f"c{i}"} for i in range(5)]


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    pytest.importorskip("s3fs")
    server_module = pytest.importorskip("moto.server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = server_module.ThreadedMotoServer("127.0.0.1", port, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        fs = fsspec.filesystem("s3", skip_instance_cache=True)
        fs.mkdir("bucket")
        yield "s3://bucket"
    server.stop()


@pytest.fixture
def memory() -> Iterator[str]:
    yield "memory://room"
    fs = fsspec.filesystem("memory")
    if fs.exists("/room"):
        fs.rm("/room", recursive=True)


def fill(root: str, folder: Path) -> None:
    write_table(folder / "a.csv.gz", ROWS)
    write_table(folder / "b.parquet", ROWS)
    write_tar(folder / "c.tar", [("0.jpg", b"J" * 2000), ("0.txt", b"cap")])
    (folder / "d.jpg").write_bytes(b"picture")
    (folder / "d.txt").write_bytes(b"beside")
    fs, inner = fsspec.core.url_to_fs(root)
    for place, names in (("t", ("a.csv.gz",)), ("p", ("b.parquet",)), ("w", ("c.tar",)), ("i", ("d.jpg", "d.txt"))):
        for name in names:
            fs.pipe_file(f"{inner}/{place}/{name}", (folder / name).read_bytes())


@pytest.mark.parametrize("kind", ["s3", "memory"])
def test_every_kind_reads_from_remote_storage(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    root = request.getfixturevalue(kind)
    fill(root, tmp_path)
    wanted = [{"row": index, **row} for index, row in enumerate(ROWS)]
    for path in ("t", "t/*.csv.gz", "t/{a,a}.csv.gz", "t/a.csv.gz", "p"):
        assert rows_of(UrlTable(path=f"{root}/{path}")) == wanted
    sources: list[Source] = [WebDataset(path=f"{root}/w"), ImageFolder(path=f"{root}/i")]
    found = [row for source in sources for row in rows_of(source)]
    assert [row["caption"] for row in found] == ["cap", "beside"]
    with MediaReader() as reader:
        places = [MediaPlace(row["media_path"], row["media_offset"], row["media_size"]) for row in found]
        assert [reader.read(place) for place in places] == [b"J" * 2000, b"picture"]
        with pytest.raises(SampleError) as raised:
            reader.read(MediaPlace(f"{root}/w/none.tar", 0, 5))
    assert raised.value.reason is Reason.STORAGE


@pytest.mark.parametrize("kind", ["s3", "memory"])
def test_a_changed_remote_file_has_another_fingerprint(kind: str, request: pytest.FixtureRequest) -> None:
    root = request.getfixturevalue(kind)
    fs, inner = fsspec.core.url_to_fs(root)
    told = []
    for data in (b"url\nhttp://a/1\n", b"url\nhttp://a/2\n", b"url\nhttp://a/1\n"):
        fs.pipe_file(f"{inner}/f/t.csv", data)
        told.append(UrlTable(path=f"{root}/f/t.csv").inputs()[0].fingerprint)
    assert told[0] == told[2] != told[1]


@pytest.mark.parametrize("path", ["none.csv", "none", "none/*.csv"])
@pytest.mark.parametrize("kind", ["s3", "memory"])
def test_what_is_not_there_is_one_clear_line(kind: str, path: str, request: pytest.FixtureRequest) -> None:
    root = request.getfixturevalue(kind)
    with pytest.raises(SourceError, match=r"no such file or folder|no file matches") as raised:
        UrlTable(path=f"{root}/{path}").inputs()
    assert str(raised.value).startswith(f"{root}/{path}: ")
