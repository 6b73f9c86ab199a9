"""What container bytes are, by their first bytes: the name of the only FFmpeg demuxer that may read them.

A demuxer is always forced, never guessed by FFmpeg, and only containers that hold their media themselves have one here.
So playlists (m3u8, ffconcat, DASH, SDP) reach no demuxer that would open the files and addresses they name.
"""

from __future__ import annotations

import codecs

from mmdata.errors import Reason, SampleError

DEMUXERS = (
    "aac", "aiff", "amr", "asf", "au", "avi", "caf", "flac", "flv", "g722", "gif", "matroska", "mov", "mp3", "mpeg",
    "mpegts", "mpegvideo", "ogg", "wav", "w64", "wv",
)  # fmt: skip
_STARTS = {
    b"\x1aE\xdf\xa3": "matroska",
    b"GIF87a": "gif",
    b"GIF89a": "gif",
    b"OggS": "ogg",
    b"fLaC": "flac",
    b"#!AMR": "amr",
    b"FLV\x01": "flv",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": "asf",
    b"\x00\x00\x01\xba": "mpeg",
    b"\x00\x00\x01\xb3": "mpegvideo",
    b".snd": "au",
    b"caff": "caf",
    b"wvpk": "wv",
    b"riff\x2e\x91\xcf\x11": "w64",
}
_RIFF = {b"AVI ": "avi", b"AVIX": "avi", b"WAVE": "wav"}
_MOV_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"styp")
_PICTURE_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")
_TS_PACKET_BYTES = (188, 192, 204)
_SEARCHED_BYTES = 64 << 10  # how far into the bytes the first frame of a hinted format may lie
_MPEG_RATES_KBPS = {  # by (layer, is MPEG 2 or 2.5)
    (1, False): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (2, False): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (3, False): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (1, True): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, True): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (3, True): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_MPEG_HZ = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}  # by version bits


def sniff(data: bytes, *, hint: str = "") -> str:
    """One of DEMUXERS. hint: the file's suffix (`g722`, `.mp3`), for formats without a header of their own.

    What the bytes show goes before the hint: an MP3 that is named .wav is read as MP3. Raises SampleError(UNSUPPORTED)
    for all else, playlists among it.
    """
    found = _by_magic(data)
    hint = hint.lower().removeprefix(".")
    if found is None and hint == "g722" and data and not _is_text(data):
        found = "g722"  # has no header at all: any bytes would do
    if found is None and hint in ("mp3", "mp2", "mpga") and _frame_lies_in(data):
        found = "mp3"
    if found is None:
        kind = "a playlist or text" if _is_text(data) else "no container of video or sound that is read"
        raise SampleError(Reason.UNSUPPORTED, f"{kind}: begins with {data[:16]!r}")
    return found


def _by_magic(data: bytes) -> str | None:
    if data[:3] == b"ID3":
        return _behind_tag(data)
    for start, demuxer in _STARTS.items():
        if data.startswith(start):
            return demuxer
    if data[:4] in (b"RIFF", b"RF64", b"RIFX", b"BW64"):
        return _RIFF.get(data[8:12])
    if data[:4] == b"FORM":
        return "aiff" if data[8:12] in (b"AIFF", b"AIFC") else None
    if data[4:8] in _MOV_BOXES:
        return None if data[8:12] in _PICTURE_BRANDS and data[4:8] == b"ftyp" else "mov"
    if _is_transport_stream(data):
        return "mpegts"
    if _is_adts(data, 0):
        return "aac"
    return "mp3" if _is_mpeg_audio(data, 0) else None


def _behind_tag(data: bytes) -> str:
    """What follows ID3v2 tags; sizes are in four groups of seven bits."""
    offset = 0
    while data[offset : offset + 3] == b"ID3" and offset + 10 <= len(data):
        size = 0
        for byte in data[offset + 6 : offset + 10]:
            size = size << 7 | byte & 0x7F
        offset += 10 + size + (10 if data[offset + 5] & 0x10 else 0)  # the flag announces a footer
    if data[offset : offset + 4] == b"fLaC":
        return "flac"
    return "aac" if _is_adts(data, offset) else "mp3"


def _is_transport_stream(data: bytes) -> bool:
    """Sync bytes where three packets in a row begin; packets of 192 bytes have four bytes of time before the sync."""
    return any(
        len(data) >= start + 3 * size and all(data[start + index * size] == 0x47 for index in range(3))
        for size in _TS_PACKET_BYTES
        for start in ((0, 4) if size == 192 else (0,))
    )


def _is_adts(data: bytes, offset: int) -> bool:
    """Two AAC frames in a row, or one that fills the bytes."""
    head = data[offset : offset + 7]
    if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0:
        return False
    size = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    after = data[offset + size : offset + size + 2]
    return size >= 7 and (len(after) < 2 or (after[0] == 0xFF and after[1] & 0xF6 == 0xF0))


def _is_mpeg_audio(data: bytes, offset: int) -> bool:
    """Two frames of the same version and layer in a row, or one that fills the bytes."""
    size = _mpeg_frame_bytes(data[offset : offset + 4])
    after = data[offset + size : offset + size + 4]
    return size > 0 and (len(after) < 4 or (_mpeg_frame_bytes(after) > 0 and after[1] == data[offset + 1]))


def _mpeg_frame_bytes(head: bytes) -> int:
    """Length of the frame with this header after ISO/IEC 11172-3 and 13818-3; 0 where it is none."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return 0
    version, layer, rate, frequency = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3), head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 4 or rate in (0, 15) or frequency == 3:
        return 0
    bits_per_s = _MPEG_RATES_KBPS[layer, version != 3][rate - 1] * 1000
    padding = head[2] >> 1 & 1
    if layer == 1:
        return (12 * bits_per_s // _MPEG_HZ[version][frequency] + padding) * 4
    samples = 576 if layer == 3 and version != 3 else 1152
    return samples // 8 * bits_per_s // _MPEG_HZ[version][frequency] + padding


def _frame_lies_in(data: bytes) -> bool:
    start = data.find(b"\xff", 0, _SEARCHED_BYTES)
    while start >= 0:
        if len(data) > start + 4 and _is_mpeg_audio(data, start):
            return True
        start = data.find(b"\xff", start + 1, _SEARCHED_BYTES)
    return False


def _is_text(data: bytes) -> bool:
    """UTF-8 without control characters from its start on, as every playlist is."""
    try:
        start = codecs.getincrementaldecoder("utf-8")().decode(data[:256])  # the cut may go through a character
    except UnicodeDecodeError:
        return False
    return bool(start) and all(character >= " " or character in "\t\r\n\f" for character in start)
