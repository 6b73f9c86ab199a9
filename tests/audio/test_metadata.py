"""Nothing but sound reaches the output: no tag, no place, no picture, no name of a program."""

from __future__ import annotations

import pytest

from tests.audio import sounds as s

SECRETS = {
    "title": "a title of Berlin Wolfsburger 7",
    "artist": "Erika Mustermann",
    "comment": "recorded at home",
    "location": "+52.5200+013.4050/",
}
PICTURE = b"\x89PNG\r\n\x1a\n" + b"not really a picture of somebody" * 8


def tagged(container: str, *codec: str) -> bytes:
    words = [word for name, value in SECRETS.items() for word in ("-metadata", f"{name}={value}")]
    return s.encode(s.sweep_T(8000, 16_000), 16_000, container, *codec, *words)


def with_id3_picture(data: bytes) -> bytes:
    """An ID3v2.3 tag with a picture and a GPS comment before the file."""
    picture = b"\x00image/png\x00\x03\x00" + PICTURE
    place = b"\x00engGPS\x00" + SECRETS["location"].encode()
    frames = b"".join(
        name + len(body).to_bytes(4, "big") + b"\x00\x00" + body
        for name, body in ((b"APIC", picture), (b"COMM", place))
    )
    size = bytes(len(frames) >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x03\x00\x00" + size + frames + data


FILES = {
    "wav": lambda: tagged("wav"),
    "flac": lambda: tagged("flac"),
    "mp3": lambda: tagged("mp3", "-c:a", "libmp3lame"),
    "mp3 with a picture": lambda: with_id3_picture(
        s.encode(s.sweep_T(8000, 16_000), 16_000, "mp3", "-id3v2_version", "0")
    ),
    "m4a": lambda: tagged("ipod", "-c:a", "aac"),
    "ogg": lambda: tagged("ogg", "-c:a", "libvorbis"),
    "matroska": lambda: tagged("matroska", "-c:a", "flac"),
}


@pytest.mark.parametrize("part", ["flac", "wav"])
@pytest.mark.parametrize("name", FILES)
def test_tags_places_and_pictures_do_not_reach_the_output(decode, name, part):
    data = FILES[name]()
    assert any(secret.encode() in data for secret in SECRETS.values())
    written = decode(data, format=part).parts[part]
    for secret in (*SECRETS.values(), "Erika", "libFLAC", "Lavf", "LAME", "reference"):
        assert secret.encode() not in written
    assert PICTURE[8:40] not in written


def test_a_flac_holds_its_stream_information_and_nothing_else(decode):
    written = decode(FILES["flac"]()).parts["flac"]
    assert written[:8] == b"fLaC\x80\x00\x00\x22"  # one block, the last, 34 bytes
    assert written[42:44] in (b"\xff\xf8", b"\xff\xf9")  # then the first frame


def test_a_wav_has_a_header_of_44_bytes(decode):
    sample = decode(FILES["wav"](), format="wav")
    assert len(sample.parts["wav"]) == 44 + 2 * 8000
    assert sample.parts["wav"][36:40] == b"data"
