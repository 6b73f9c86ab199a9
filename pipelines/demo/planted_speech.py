"""What goes wrong with recordings, planted in spoken prompts. Used by `build.py` only."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import numpy as np

from pipelines.demo.encode import from_wave, to_wave
from pipelines.demo.listing import MADE_HERE, Listing
from pipelines.demo.planted_films import PLAYLIST
from pipelines.demo.speech import PROMPTS, SPEAKER, converted

TABLE = "planted-speech"
_WAV = ("-c:a", "pcm_s16le")
_DROPPED = "filtered.threshold"
_CHANGED = SPEAKER.changed()


def add(listing: Listing, prompts: Path, rng: random.Random) -> None:
    """Rows and files of the table `planted-speech`."""
    _levels(listing, prompts)
    _headers(listing, prompts)
    _broken(listing, prompts, rng)
    # As long as what is said, so that no count of letters a second gives it away.
    for name, other in (("vm-nomore", "conf-full"), ("tt-weasels", "dir-nomatch")):
        content = converted(prompts / f"{name}.g722", _WAV, ".wav")
        listing.plant(TABLE, f"wrong-{name}.wav", content, _CHANGED, PROMPTS[other], "wrong_transcript")


def _levels(listing: Listing, prompts: Path) -> None:
    wave = to_wave(prompts / "vm-sorry.g722", 16000, "-f", "g722")
    caption = PROMPTS["vm-sorry"]
    silent = from_wave(np.zeros(32000, np.float32), 16000, _WAV, ".wav")
    values = {"silence_share": 1.0, "speech_share": 0.0, "rms_db": -100.0}
    listing.plant(TABLE, "silent.wav", silent, MADE_HERE, caption, "silent", _DROPPED, values)
    clipped = from_wave(np.clip(wave * 40, -1, 1), 16000, _WAV, ".wav")
    listing.plant(TABLE, "clipped.wav", clipped, _CHANGED, caption, "clipped", _DROPPED, {"clipping_share": [0.05, 1]})
    quiet = from_wave(wave * 0.002, 16000, ("-c:a", "flac"), ".flac")
    listing.plant(TABLE, "quiet.flac", quiet, _CHANGED, caption, "quiet", _DROPPED, {"rms_db": [-90, -60]})
    noise = np.random.default_rng(5).normal(0, 0.05, wave.size).astype(np.float32)
    noisy = from_wave(wave + noise, 16000, ("-c:a", "libmp3lame", "-b:a", "48k"), ".mp3")
    listing.plant(TABLE, "noisy.mp3", noisy, _CHANGED, caption, "noisy", values={"snr_db": [-20, 15]})
    narrow = converted(prompts / "vm-sorry.g722", ("-af", "aresample=8000,aresample=48000", "-c:a", "flac"), ".flac")
    values = {"original_sample_rate_hz": 48000, "bandwidth_hz": [2000, 4400]}
    listing.plant(TABLE, "upsampled.flac", narrow, _CHANGED, caption, "upsampled", values=values)
    many = np.stack([wave * level for level in (1, 0, 0.5, 0, 0.2, 0, 0.1, 0)], axis=1)[8000:24000]
    channels = from_wave(many, 16000, ("-c:a", "flac", "-ar", "48000"), ".flac")
    values = {"original_channels": 8, "original_sample_rate_hz": 48000}
    listing.plant(TABLE, "channels.flac", channels, _CHANGED, caption, "eight_channels", values=values)


def _headers(listing: Listing, prompts: Path) -> None:
    """WAV headers that lie: of a length that was never sent, of one that the writer left open, of nothing."""
    name = "conf-leaderhasleft"
    wav = converted(prompts / f"{name}.g722", _WAV, ".wav")
    place = wav.index(b"data") + 4
    seconds = (len(wav) - place - 4) / 32000
    said = struct.pack("<I", 10 * (len(wav) - place - 4))
    lying = wav[:place] + said + wav[place + 4 :]
    listing.plant(TABLE, "lying.wav", lying, _CHANGED, PROMPTS[name], "wav_header_lies", "decode.truncated")
    streamed = wav[:4] + b"\xff" * 4 + wav[8:place] + b"\xff" * 4 + wav[place + 4 :]
    values = {"duration_s": [seconds - 0.05, seconds + 0.05]}
    listing.plant(TABLE, "streamed.wav", streamed, _CHANGED, PROMPTS[name], "wav_length_open", values=values)
    empty = from_wave(np.zeros(0, np.float32), 16000, _WAV, ".wav")
    listing.plant(TABLE, "empty.wav", empty, MADE_HERE, PROMPTS[name], "zero_duration", "content.no_sound")
    short = from_wave(np.full(160, 0.1, np.float32), 16000, _WAV, ".wav")
    listing.plant(TABLE, "short.wav", short, MADE_HERE, PROMPTS[name], "too_short", "filtered.too_short")


def _broken(listing: Listing, prompts: Path, rng: random.Random) -> None:
    name = "please-try-call-later"
    source, caption = prompts / f"{name}.g722", PROMPTS[name]
    formats = (
        (".m4a", "aac", "decode.corrupt"),  # its index was at the end
        (".ogg", "libopus", "decode.truncated"),
        (".mp3", "libmp3lame", "decode.truncated"),
        (".flac", "flac", "decode.corrupt"),
    )
    for suffix, encoder, reason in formats:
        whole = converted(source, ("-c:a", encoder), suffix)
        cut = whole[: int(len(whole) * 0.6)]
        listing.plant(TABLE, f"cut{suffix}", cut, _CHANGED, caption, "cut_sound", reason)
    noise = b"\x9e" + rng.randbytes(5000).replace(b"\xff", b"\xfe")
    listing.plant(TABLE, "noise.mp3", noise, MADE_HERE, caption, "no_media", "content.unsupported")
    path = listing.plant(
        TABLE, "playlist.mp3", PLAYLIST.encode(), MADE_HERE, caption, "playlist", "content.unsupported"
    )
    listing.serve_as(path, "audio/mpeg")
    pictures = (listing.media / "films" / "rabbit.mp4").read_bytes()
    listing.plant(
        TABLE,
        "pictures-only.mp4",
        pictures,
        listing.works["films/rabbit.mp4"],
        caption,
        "no_sound_stream",
        "content.no_sound",
    )
    listing.row(TABLE, "http://media.example/dead/prompt.wav", caption, "dead_link", "fetch.http_4xx")
