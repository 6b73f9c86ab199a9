"""WebDataset tars of any writer are listed from their headers; damage and traps are seen, nothing is extracted."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from mmdata.errors import SourceError
from mmdata.sources.media import MediaPlace, MediaReader
from mmdata.sources.webdataset import WebDataset

from .tables import rows_of, write_tar

PLAIN = [
    ("000.jpg", b"J0"), ("000.json", b'{"width": 3, "url": "http://a/0"}'), ("000.txt", b"zero"),
    ("001.json", b'{"width": 4.5, "tags": ["x"]}'), ("001.PNG", b"P1" * 700), ("001.txt", "\u4e00".encode()),
]  # fmt: skip


def rows(path: Path, **options: Any) -> list[dict[str, Any]]:
    return rows_of(WebDataset(path=str(path), **options))


def bytes_of(row: dict[str, Any]) -> bytes:
    with MediaReader() as reader:
        return reader.read(MediaPlace(row["media_path"], row["media_offset"], row["media_size"]))


@pytest.mark.parametrize("style", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_samples_of_every_tar_format_are_listed_in_place(style: int, tmp_path: Path) -> None:
    found = rows(write_tar(tmp_path / "a.tar", PLAIN, style=style))
    assert [bytes_of(row) for row in found] == [b"J0", b"P1" * 700]
    for row in found:
        del row["media_path"], row["media_offset"], row["media_size"]
    assert found == [
        {"row": 0, "caption": "zero", "sample_key": "000", "width": 3.0, "src_url": "http://a/0"},
        {"row": 1, "caption": "\u4e00", "sample_key": "001", "width": 4.5, "tags": '["x"]'},
    ]


def test_names_longer_than_a_header_and_hostile_ones_are_only_text(tmp_path: Path) -> None:
    long = "d/" + "k" * 300
    names = (f"{long}.jpg", "../../x.jpg", "/abs.v1/y.seg.jpg", "/abs.v1/y.jpg")
    found = rows(write_tar(tmp_path / "a.tar", [(name, b"%d" % place) for place, name in enumerate(names, 1)]))
    assert [row["sample_key"] for row in found] == [long, "../../x", "/abs.v1/y"]
    assert [bytes_of(row) for row in found] == [b"1", b"2", b"4"]
    assert [place.name for place in tmp_path.rglob("*")] == ["a.tar"]
    assert not (tmp_path.parent.parent / "x.jpg").exists()


def test_captions_come_from_txt_or_the_json_key_that_is_named_or_known(tmp_path: Path) -> None:
    members = [("0.jpg", b"1"), ("0.json", b'{"text": "j", "alt": "k"}')]
    with_txt = write_tar(tmp_path / "a.tar", [*members, ("0.txt", b"t")])
    without = write_tar(tmp_path / "b.tar", members)
    assert rows(with_txt)[0]["caption"] == "t"
    assert rows(with_txt, columns={"caption": "alt"})[0]["caption"] == "k"
    assert rows(without)[0]["caption"] == "j"
    with pytest.raises(SourceError, match=r"b.tar: no column 'txet' \(columns.caption\) \(did you mean text\?\)"):
        rows(without, columns={"caption": "txet"})


def test_a_sample_that_is_no_sample_is_a_row_with_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for name, data in (
            ("0.txt", b"no picture"), ("1.jpg", b"x"), ("1.json", b"{bad"), ("2.jpg", b"x"), ("2.jpg", b"y"),
            ("3.jpg", b"x"), ("3.txt", b"\xff"), ("1.txt", b"late"), ("5.jpg", b"x"), (".hidden", b""), ("README", b""),
        ):  # fmt: skip
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("4.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    found = rows(path)
    assert [row.get("row_error", "").partition(" Expecting")[0] for row in found] == [
        "has no jpg, jpeg, png, webp, gif; found: txt",
        ".json is not JSON:",
        ".jpg is there twice",
        ".txt is not UTF-8",
        "its key has been there before: the files of a sample must stand side by side",
        "",
        ".jpg is a link or device",
    ]
    assert [row["row"] for row in found if "media_path" in row] == [5]


DAMAGE = {
    "cut in a member": (lambda d: d[:700], "cut inside '000.jpg'|cut at byte 700"),
    "cut between members": (lambda d: d[: d.index(b"001.json") // 512 * 512], "the end of the archive is missing"),
    "damaged header": (lambda d: d.replace(b"001.json", b"009.json"), "damaged tar: wrong checksum at byte"),
    "no tar": (lambda d: b"<html>" * 200, "damaged tar: no header at byte 0"),
    "two tars": (lambda d: d + d, "more data after its end"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_tar_is_refused_by_name(damage: str, tmp_path: Path) -> None:
    members = [("000.jpg", b"J0" * 300), *PLAIN[1:]]
    path = write_tar(tmp_path / "a.tar", members, style=tarfile.USTAR_FORMAT)
    change, message = DAMAGE[damage]
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(SourceError, match=f"a.tar: damaged tar: .*({message.removeprefix('damaged tar: ')})"):
        rows(path)


def test_a_compressed_tar_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(SourceError, match=r"unpack it to \.tar first"):
        rows(tmp_path / "a.tar.gz")


def test_tars_by_braces_in_order(tmp_path: Path) -> None:
    for number in range(3):
        write_tar(tmp_path / f"{number:05d}.tar", [(f"{number}.jpg", b"x")])
    source = WebDataset(path=f"{tmp_path}/{{00000..00002}}.tar")
    assert [row["sample_key"] for row in rows_of(source)] == ["0", "1", "2"]


def test_media_is_not_read_when_rows_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tar(tmp_path / "a.tar", [(f"{i}.jpg", bytes(1 << 20)) for i in range(8)])
    read = 0

    class Counting(io.FileIO):
        def readinto(self, buffer: Any) -> int:
            nonlocal read
            number = super().readinto(buffer)
            read += number
            return number

    from mmdata.sources import tar_index

    with io.BufferedReader(Counting(path)) as file:
        assert len(list(tar_index.entries(file, "a.tar"))) == 8
    assert read < 1 << 19


def test_audio_and_video_parts_go_by_modality(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [("0.flac", b"a"), ("0.mp4", b"v"), ("0.txt", b"c")])
    assert bytes_of(rows(path, modality="audio_text")[0]) == b"a"
    assert bytes_of(rows(path, modality="video_text")[0]) == b"v"
