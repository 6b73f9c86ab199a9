"""Tar shards: the same bytes for the same samples, read by everyone's readers, and no damage goes unseen."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdata.errors import ShardError
from mmdata.shards.tar import BLOCK_BYTES, TarWriter, members, read_samples

Samples = dict[str, dict[str, bytes]]
SIX: Samples = {
    f"pictures-{number:012d}": {"txt": f"caption {number}".encode(), "jpg": bytes([number + 1]) * (700 * number + 1)}
    for number in range(6)
}
KEYS = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=60)
PARTS = st.dictionaries(
    st.sampled_from(["jpg", "txt", "json", "000.jpg", "mel.npy"]), st.binary(max_size=2000), min_size=1
)


def _tar(samples: Samples) -> bytes:
    file = io.BytesIO()
    writer = TarWriter(file)
    for key, parts in samples.items():
        writer.add(key, parts)
    writer.close()
    return file.getvalue()


def _read(data: bytes) -> Samples:
    return dict(read_samples(io.BytesIO(data), "00000.tar"))


def test_the_same_samples_give_the_same_bytes() -> None:
    reordered = {key: dict(reversed(parts.items())) for key, parts in SIX.items()}
    assert _tar(SIX) == _tar(reordered)


def test_size_and_hash_are_those_of_the_file() -> None:
    file = io.BytesIO()
    writer = TarWriter(file)
    for key, parts in SIX.items():
        writer.add(key, parts)
    size, sha256 = writer.close()
    assert (size, sha256) == (len(file.getvalue()), hashlib.sha256(file.getvalue()).hexdigest())
    assert not file.closed


def test_places_tell_where_the_bytes_of_each_part_lie() -> None:
    file = io.BytesIO()
    writer = TarWriter(file)
    for key, parts in SIX.items():
        for part, (offset, size) in writer.add(key, parts).items():
            assert file.getvalue()[offset : offset + size] == parts[part]


@settings(deadline=None)
@given(st.dictionaries(KEYS, PARTS, max_size=6))
def test_what_is_written_is_read_back_in_order(samples: Samples) -> None:
    data = _tar(samples)
    assert len(data) % BLOCK_BYTES == 0
    back = list(read_samples(io.BytesIO(data), "00000.tar"))
    assert back == [(key, dict(sorted(parts.items()))) for key, parts in samples.items()]


@settings(deadline=None, max_examples=30)
@given(st.dictionaries(KEYS, PARTS, min_size=1, max_size=6))
def test_tarfile_reads_the_same_members(samples: Samples) -> None:
    with tarfile.open(fileobj=io.BytesIO(_tar(samples)), mode="r:") as tar:
        found = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
        assert tar.format == tarfile.USTAR_FORMAT or all(m.type == tarfile.REGTYPE for m in tar)
    assert found == {f"{key}.{part}": data for key, parts in samples.items() for part, data in parts.items()}


def test_no_time_and_no_person_enters_a_header() -> None:
    with tarfile.open(fileobj=io.BytesIO(_tar(SIX)), mode="r:") as tar:
        facts = {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode, m.type) for m in tar}
    assert facts == {(0, 0, 0, "mmdata", "mmdata", 0o444, tarfile.REGTYPE)}


@pytest.mark.filterwarnings("ignore")
def test_webdataset_reads_the_same_samples(tmp_path: Path) -> None:
    import webdataset

    path = tmp_path / "00000.tar"
    path.write_bytes(_tar(SIX))
    found = {
        sample["__key__"]: {part: data for part, data in sample.items() if not part.startswith("__")}
        for sample in webdataset.WebDataset(str(path), shardshuffle=False)
    }
    assert found == SIX


def test_members_are_listed_without_reading_them() -> None:
    listed = [(m.key, m.part, m.size) for m in members(io.BytesIO(_tar(SIX)), "00000.tar")]
    assert listed == [(key, part, len(parts[part])) for key, parts in SIX.items() for part in sorted(parts)]


def test_an_empty_shard_is_a_whole_tar() -> None:
    assert _read(_tar({})) == {}


def test_every_cut_is_seen() -> None:
    data = _tar(SIX)
    cuts = {*range(0, len(data), BLOCK_BYTES), *range(1, len(data), 97), len(data) - 1}
    for cut in sorted(cuts):
        with pytest.raises(ShardError, match=r"00000\.tar: (cut|damaged)"):
            _read(data[:cut])


def test_every_bit_of_every_header_counts() -> None:
    data = bytearray(_tar(dict(list(SIX.items())[:2])))
    headers = [m.offset - BLOCK_BYTES for m in members(io.BytesIO(data), "x")]
    assert len(headers) == 4
    for header in headers:
        for place in range(header, header + BLOCK_BYTES):
            for bit in range(8):
                data[place] ^= 1 << bit
                with pytest.raises(ShardError, match=r"00000\.tar: "):
                    list(members(io.BytesIO(data), "00000.tar"))
                data[place] ^= 1 << bit


def test_every_bit_of_the_end_counts() -> None:
    data = bytearray(_tar({"a": {"txt": b"1"}}))
    for place in range(len(data) - 2 * BLOCK_BYTES, len(data)):
        data[place] ^= 4
        with pytest.raises(ShardError, match=r"00000\.tar: damaged"):
            _read(bytes(data))
        data[place] ^= 4


def test_bytes_after_the_end_are_seen() -> None:
    with pytest.raises(ShardError, match="damaged after its last member at byte "):
        _read(_tar(SIX) + _tar(SIX))


def test_a_part_that_is_there_twice_is_refused() -> None:
    file = io.BytesIO()
    writer = TarWriter(file)
    writer.add("a", {"txt": b"1"})
    writer.add("a", {"txt": b"2"})
    writer.close()
    with pytest.raises(ShardError, match=r"00000\.tar: a\.txt is there twice"):
        _read(file.getvalue())


def test_a_link_is_no_member() -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        link = tarfile.TarInfo("a.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(ShardError, match=r"00000\.tar: damaged tar header at byte 0"):
        _read(file.getvalue())


@pytest.mark.parametrize("data", [b"", b"{}", b"\x89PNG" * 1000, bytes(BLOCK_BYTES)])
def test_other_files_are_no_shards(data: bytes) -> None:
    with pytest.raises(ShardError, match=r"00000\.tar: "):
        _read(data)


def test_a_name_of_a_hundred_bytes_is_written_and_a_longer_one_refused() -> None:
    longest = "k" * 96
    assert _read(_tar({longest: {"jpg": b"1"}})) == {longest: {"jpg": b"1"}}
    with pytest.raises(ShardError, match=r"k\.jpg: 101 bytes, a tar member name may have 100"):
        _tar({longest + "k": {"jpg": b"1"}})


def test_a_name_that_is_not_ascii_is_refused() -> None:
    with pytest.raises(ShardError, match="a tar member name may have ASCII only"):
        _tar({"bücher": {"jpg": b"1"}})


def test_a_refused_sample_leaves_the_tar_whole() -> None:
    file = io.BytesIO()
    writer = TarWriter(file)
    writer.add("a", {"jpg": b"1"})
    with pytest.raises(ShardError):
        writer.add("k" * 95, {"jpg": b"1", "mel.npy": b"2"})
    writer.add("b", {"jpg": b"2"})
    writer.close()
    assert _read(file.getvalue()) == {"a": {"jpg": b"1"}, "b": {"jpg": b"2"}}
