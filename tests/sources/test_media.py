"""Media by place: what is missing, cut or too large is a SampleError with its reason; few files stay open."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmdata.errors import Reason, SampleError
from mmdata.sources.media import MediaPlace, MediaReader


def reason(place: MediaPlace, max_bytes: int | None = None) -> Reason:
    with MediaReader(max_bytes=max_bytes) as reader, pytest.raises(SampleError) as raised:
        reader.read(place)
    return raised.value.reason


def test_each_trouble_has_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(b"0123456789")
    assert reason(MediaPlace(str(tmp_path / "none"), 0, 5)) is Reason.STORAGE
    assert reason(MediaPlace(str(path), 8, 5)) is Reason.STORAGE
    assert reason(MediaPlace(str(path))) is Reason.STORAGE
    assert reason(MediaPlace(str(path), 0, 0)) is Reason.EMPTY
    assert reason(MediaPlace(str(path), 0, 6), max_bytes=5) is Reason.TOO_LARGE
    assert reason(MediaPlace(str(tmp_path), 0, 5)) is Reason.STORAGE


def test_many_files_are_read_in_storage_order_with_few_open(tmp_path: Path) -> None:
    places = []
    for number in range(20):
        path = tmp_path / f"{number:02d}"
        path.write_bytes(b"%02d" % number * 3)
        places += [MediaPlace(str(path), 4, 2), MediaPlace(str(path), 0, 2)]
    with MediaReader() as reader:
        found = {}
        for index, data in reader.read_many(reversed(places)):
            assert len(reader._files) <= 4
            found[index] = data
    assert found == {39 - index: place.path[-2:].encode() for index, place in enumerate(places)}


def test_a_file_that_was_replaced_after_a_failure_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"12")
    with MediaReader() as reader:
        with pytest.raises(SampleError):
            reader.read(MediaPlace(str(path), 0, 4))
        path.unlink()
        path.write_bytes(b"1234")
        assert reader.read(MediaPlace(str(path), 0, 4)) == b"1234"
