"""What the web does to films, planted in small ones. Used by `build.py` only."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipelines.demo.encode import AAC, FRAMES_PER_S, VP9, X264, ffmpeg, from_frames, to_wave
from pipelines.demo.films import ANIMATED, BUNNY, PLANTED, animation, bunny_part, name_of
from pipelines.demo.listing import MADE_HERE, Listing, Work
from pipelines.demo.speech import PROMPTS, SPEAKER

SHIFT_S = 2.0
_LOCAL = "file:///etc/hostname"
PLAYLIST = f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{_LOCAL}\n#EXT-X-ENDLIST\n"
_MJPEG = ("-c:v", "mjpeg", "-q:v", "5", "-pix_fmt", "yuvj420p")
_GREEN = "a green park"
_DROPPED = "filtered.threshold"
_BEETLE, _CAMEL, _GLASS = "1f41e", "1f42a", "1f378"  # the encoder is sure of these
# Prompts and the pauses before them, in seconds: uneven, so that only one shift fits.
_SPOKEN = (("vm-nobodyavail", 0.9), ("demo-echodone", 1.4), ("vm-nomore", 2.3), ("vm-newpassword", 0.8))
_SPOKEN = (*_SPOKEN, ("conf-getconfno", 1.7), ("vm-passchanged", 1.1))
_END_S = 2.6  # the pause behind the last one, so that shifted subtitles still lie within the film


def add(listing: Listing, film: Path, assets: Path, prompts: Path, rng: random.Random) -> None:
    """Rows and files of the table `planted-films`."""
    _headers(listing, film, assets)
    _pictures(listing, film, assets)
    _broken(listing, film, rng)
    _playlists(listing)
    _subtitles(listing, film, prompts)


def patched(data: bytes, box: bytes, offset: int, value: bytes) -> bytes:
    """The bytes with `value` at `offset` behind every `box` name; a box that is not there is an error."""
    changed, place = bytearray(data), data.find(box)
    assert place >= 0, box
    while place >= 0:
        changed[place + offset : place + offset + len(value)] = value
        place = data.find(box, place + 1)
    return bytes(changed)


def _headers(listing: Listing, film: Path, assets: Path) -> None:
    """Headers that say something else than the packets."""
    english, _ = name_of(_BEETLE)
    frames = animation(assets, _BEETLE, 128)
    whole = from_frames(frames, X264, ".mkv")
    wrong = patched(whole, bytes.fromhex("448988"), 3, struct.pack(">d", 60_000.0))
    values = {"duration_s": [2.9, 3.1], "header_duration_s": 60.0, "duration_corrected": True}
    listing.plant(PLANTED, "wrong-duration.mkv", wrong, ANIMATED.changed(), english, "wrong_duration", values=values)
    avi = bunny_part(film, 0, 1, (*_MJPEG, "-an"), ".avi", 160)
    many = struct.pack("<I", 1_000_000)
    avi = patched(patched(avi, b"avih", 8 + 16, many), b"strh", 8 + 32, many)
    listing.plant(PLANTED, "million.avi", avi, BUNNY.changed(), _GREEN, "million_frames", values={"num_frames": 25})
    large = struct.pack(">HH", 30000, 30000)
    avi = bunny_part(film, 0, 0.4, (*_MJPEG, "-an"), ".avi", 160)
    header = struct.pack("<II", 30000, 30000)
    avi = patched(patched(avi, b"avih", 8 + 32, header), b"strf", 8 + 4, header)
    avi = patched(avi, bytes.fromhex("ffc0001108"), 5, large)  # the frames' own headers
    listing.plant(PLANTED, "huge.avi", avi, BUNNY.changed(), _GREEN, "huge", "decode.too_many_pixels")
    lossless = ("-vf", "scale=320:256", "-c:v", "ffv1", "-an")  # FFV1 has no size but its container's
    huge = ffmpeg(["-ss", "3", "-t", "0.04", "-i", film], lossless, ".mkv")
    for size in (b"\xb0\x82", b"\xba\x82"):
        huge = patched(huge, size, 2, large[:2])
    listing.plant(PLANTED, "huge.mkv", huge, BUNNY.changed(), _GREEN, "huge", "decode.too_many_pixels")
    empty = from_frames(frames[:1, ::2, ::2], (*X264, "-movflags", "+empty_moov"), ".mp4")
    empty = empty[: empty.index(b"moof") - 4]
    listing.plant(PLANTED, "no-frames.mp4", empty, ANIMATED.changed(), english, "zero_duration", "content.no_video")
    still = from_frames(frames[:1], X264, ".mp4")
    listing.plant(PLANTED, "one-frame.mp4", still, ANIMATED.changed(), english, "one_frame", "filtered.too_short")
    for box, offset in ((b"stts", 12), (b"mvhd", 20), (b"tkhd", 24), (b"mdhd", 20), (b"elst", 12)):
        still = patched(still, box, offset, bytes(4))
    listing.plant(PLANTED, "zero.mp4", still, ANIMATED.changed(), english, "zero_duration", "content.no_video")


def _pictures(listing: Listing, film: Path, assets: Path) -> None:
    """Sound films in unusual coats, which must come out right."""
    english, _ = name_of(_CAMEL)
    frames = animation(assets, _CAMEL, 128)
    tall = np.pad(frames[::2], ((0, 0), (40, 40), (0, 0), (0, 0)), constant_values=255)
    for turn in (90, 180):
        stored = np.rot90(tall, turn // 90, axes=(1, 2))
        plain = from_frames(np.ascontiguousarray(stored), X264, ".mp4", FRAMES_PER_S / 2)
        # FFmpeg's option turns counterclockwise, as the display matrix does; players undo what is stored here.
        turned = ffmpeg(["-display_rotation", str(-turn), "-f", "mp4", "-i", "-"], ("-c", "copy"), ".mp4", plain)
        values = {"rotation_deg": turn, "original_width_px": 128, "original_height_px": 208}
        name = f"turned-film-{turn}.mp4"
        listing.plant(PLANTED, name, turned, ANIMATED.changed(), english, "rotated", values=values)
    english, _ = name_of(_GLASS)
    uneven = ("-vf", "setpts='(N+6*floor(N/12))/24/TB'", "-fps_mode", "passthrough", *VP9)
    vfr = from_frames(animation(assets, _GLASS, 128), uneven, ".mkv")
    listing.plant(
        PLANTED, "uneven.mkv", vfr, ANIMATED.changed(), english, "variable_frame_rate", values={"is_vfr": True}
    )
    silent = ffmpeg(
        ["-ss", "2", "-t", "2", "-i", film, "-f", "lavfi", "-t", "2", "-i", "anullsrc=r=44100:cl=stereo"],
        ("-map", "0:v", "-map", "1:a", "-vf", "scale=160:-2", *X264, *AAC), ".mp4",
    )  # fmt: skip
    values = {"has_sound": True, "silence_share": 1.0, "speech_share": 0.0}
    listing.plant(PLANTED, "silent-film.mp4", silent, BUNNY.changed(), _GREEN, "silent", _DROPPED, values)
    loud = ("-vf", "scale=160:-2", *X264, "-af", "volume=40dB", "-c:a", "pcm_s16le", "-ac", "1", "-ar", "22050")
    clipped = ffmpeg(["-ss", "1", "-t", "2", "-i", film], loud, ".mov")
    values = {"clipping_share": [0.02, 1.0]}
    listing.plant(PLANTED, "clipped-film.mov", clipped, BUNNY.changed(), _GREEN, "clipped", _DROPPED, values)
    black = from_frames(np.zeros((24, 96, 128, 3), np.uint8), X264, ".mp4")
    values = {"black_share": 1.0, "static_share": [0.9, 1.0]}
    listing.plant(PLANTED, "black.mp4", black, MADE_HERE, "night sky", "black", _DROPPED, values)
    boxed = ("-vf", "scale=160:90,pad=160:140:0:25", *X264, "-an")
    boxed_film = ffmpeg(["-ss", "3", "-t", "1", "-i", film], boxed, ".mp4")
    values = {"letterbox_share": [0.3, 0.45]}
    listing.plant(PLANTED, "letterbox.mp4", boxed_film, BUNNY.changed(), _GREEN, "letterbox", values=values)
    named = bunny_part(film, 3, 4, (*VP9, "-an"), ".webm", 160)
    path = listing.plant(
        PLANTED, "webm-named.mp4", named, BUNNY.changed(), _GREEN, "webm_named_mp4", values={"container": "matroska"}
    )
    listing.serve_as(path, "video/mp4")


def _broken(listing: Listing, film: Path, rng: random.Random) -> None:
    """Bytes that are no film, or not a whole one."""
    sound = ffmpeg(["-ss", "0", "-t", "2", "-i", film], ("-vn", *AAC), ".mp4")
    listing.plant(PLANTED, "sound-only.mp4", sound, BUNNY.changed(), _GREEN, "no_video_stream", "content.no_video")
    for name, options, share in (("cut-index", (), 0.7), ("cut-media", ("-movflags", "+faststart"), 0.7)):
        whole = bunny_part(film, 0, 1, (*X264, *AAC, *options), ".mp4", 160)
        cut = whole[: int(len(whole) * share)]
        listing.plant(PLANTED, f"{name}.mp4", cut, BUNNY.changed(), _GREEN, "cut_film", "decode.truncated")
    noise = rng.randbytes(4000)
    listing.plant(PLANTED, "noise.mp4", b"\x9e" + noise, MADE_HERE, _GREEN, "no_media", "content.unsupported")
    broken = bytearray(bunny_part(film, 0, 1, (*X264, "-an", "-movflags", "+faststart"), ".mp4", 160))
    start = broken.index(b"mdat") + 4
    broken[start:] = rng.randbytes(len(broken) - start)
    listing.plant(PLANTED, "corrupt.mp4", bytes(broken), BUNNY.changed(), _GREEN, "corrupt_film", "decode.corrupt")
    page = b"<!DOCTYPE html><html><body><p>This video is not available in your country.</p></body></html>\n"
    path = listing.plant(PLANTED, "page.mp4", page, MADE_HERE, _GREEN, "html_as_film", "content.unsupported")
    listing.serve_as(path, "text/html; charset=utf-8")
    listing.row(PLANTED, "http://media.example/dead/film.mp4", _GREEN, "dead_link", "fetch.http_4xx")


def _playlists(listing: Listing) -> None:
    """Lists that name local files and addresses; no demuxer may follow them."""
    concat = "ffconcat version 1.0\nfile /etc/hostname\n"
    dash = '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period><BaseURL>'
    dash += f"{_LOCAL}</BaseURL></Period></MPD>\n"
    session = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=-\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
    lists: Sequence[tuple[str, str, str]] = (
        ("playlist.m3u8", PLAYLIST, "application/vnd.apple.mpegurl"),
        ("playlist-named.mp4", PLAYLIST, "video/mp4"),
        ("concat.mkv", concat, "video/x-matroska"),
        ("dash.mpd", dash, "application/dash+xml"),
        ("session.sdp", session, "application/sdp"),
    )
    for name, text, content_type in lists:
        path = listing.plant(PLANTED, name, text.encode(), MADE_HERE, _GREEN, "playlist", "content.unsupported")
        listing.serve_as(path, content_type)


def _subtitles(listing: Listing, film: Path, prompts: Path) -> None:
    """A film in which somebody speaks, with subtitles in step, and with the same ones 2 s late."""
    rate_hz = 16000
    pieces: list[np.ndarray] = []
    spans: list[tuple[float, float, str]] = []
    at_s = 0.0
    for name, pause_s in _SPOKEN:
        wave = to_wave(prompts / f"{name}.g722", rate_hz, "-f", "g722")
        loud = np.flatnonzero(np.abs(wave) > 0.02)
        wave = wave[loud[0] : loud[-1] + 1]
        spans.append((at_s + pause_s, at_s + pause_s + len(wave) / rate_hz, PROMPTS[name]))
        pieces += [np.zeros(round(pause_s * rate_hz), np.float32), wave]
        at_s = sum(map(len, pieces)) / rate_hz
    wave = np.concatenate([*pieces, np.zeros(round(_END_S * rate_hz), np.float32)])
    seconds = len(wave) / rate_hz
    sound = ("-f", "f32le", "-ar", str(rate_hz), "-ac", "1", "-i", "-")
    spoken = ffmpeg(
        ["-stream_loop", "-1", "-t", f"{seconds:.3f}", "-i", film, *sound],
        ("-map", "0:v", "-map", "1:a", "-vf", "scale=160:-2,fps=8", *X264, *AAC[:-1], "1"),
        ".mp4",
        wave.astype("<f4").tobytes(),
    )
    work = Work(
        SPEAKER.license, f"{BUNNY.source} (CC-BY-3.0), with the voice of {SPEAKER.source}; joined by `build.py`"
    )
    values = {"subtitle_shift_s": [-0.1, 0.1]}
    path = listing.plant(
        PLANTED, "subtitles.mp4", spoken, work, _GREEN, "subtitles", values=values, subtitles=srt(spans, 0.0)
    )
    late = listing.file(path.replace("subtitles", "subtitles-late"), spoken + bytes.fromhex("0000000866726565"), work)
    values = {"subtitle_shift_s": [-SHIFT_S - 0.1, -SHIFT_S + 0.1]}  # by what they would have to be moved
    listing.row(PLANTED, late, _GREEN, "subtitles_late", values=values, subtitles=srt(spans, SHIFT_S))


def srt(spans: Sequence[tuple[float, float, str]], shift_s: float) -> str:
    """Spans of text as SubRip, all `shift_s` later."""
    blocks = []
    for number, (start_s, end_s, text) in enumerate(spans, 1):
        times = [round((time_s + shift_s) * 1000) for time_s in (start_s, end_s)]
        clock = [f"{ms // 3600000:02}:{ms // 60000 % 60:02}:{ms // 1000 % 60:02},{ms % 1000:03}" for ms in times]
        blocks.append(f"{number}\n{clock[0]} --> {clock[1]}\n{text}\n")
    return "\n".join(blocks)
