"""The demo's films, speech, captions, documents and instructions: tables, files, and that each fault is planted."""

from __future__ import annotations

import hashlib
import http.client
import itertools
import struct
from collections import Counter
from pathlib import Path
from typing import Any

import av
import pytest

from mmdata.errors import Reason
from mmdata.media.container import DEMUXERS, sniff
from mmdata.shards.ledger import ANNOTATIONS, BY_MODALITY, COMMON
from pipelines.demo.server import DemoServer
from tests.pipelines.demo_tables import DEMO, HOST, by_source, every_row, links_of

MEDIA = DEMO / "media"
PLANTED = MEDIA / "planted"
SOURCES = by_source()


def film(name: str) -> Any:
    return av.open(str(PLANTED / name))


def test_there_are_about_30_films_40_prompts_and_captions_in_two_languages() -> None:
    assert len(SOURCES["films"]) >= 30
    assert len(SOURCES["speech"]) >= 40
    chinese = [row for name in ("films", "captions") for row in SOURCES[name] if not row["TEXT"].isascii()]
    assert len(chinese) >= 12
    suffixes = {Path(row["URL"]).suffix for row in SOURCES["films"]}
    assert suffixes >= {".mp4", ".webm", ".mkv", ".mov", ".avi", ".gif", ".mpeg"}
    suffixes = {Path(row["URL"]).suffix for row in SOURCES["speech"]}
    assert suffixes >= {".g722", ".wav", ".mp3", ".flac", ".ogg", ".m4a", ".amr"}


def test_every_expectation_is_of_the_closed_list_or_of_a_column_that_ledgers_have() -> None:
    columns = {*COMMON.names, *ANNOTATIONS, *(name for schema in BY_MODALITY.values() for name in schema.names)}
    import json

    for row in every_row():
        assert row["expected_reason"] in {reason.value for reason in Reason}
        assert set(json.loads(row.get("expected_values") or "{}")) <= columns, row


def test_each_fault_that_a_table_plants_has_a_reason_or_a_value_of_its_own() -> None:
    told = {"dead_link", "wrong_transcript", "swapped"}  # by a status code, a recogniser, the encoder
    for source, rows in SOURCES.items():
        for row in rows:
            if row["planted"] not in {"right", *told}:
                assert row["expected_reason"] != "ok" or row["expected_values"], (source, row)


def test_hashes_in_the_tables_are_those_of_the_files() -> None:
    checked = 0
    for rows in SOURCES.values():
        for row in rows:
            if row.get("sha256"):
                content = (MEDIA / row["URL"].removeprefix(f"{HOST}/")).read_bytes()
                assert hashlib.sha256(content).hexdigest() == row["sha256"], row["URL"]
                checked += 1
    assert checked >= 130


def test_media_named_in_documents_and_instructions_are_there_or_dead_as_planned() -> None:
    for name in ("documents", "instructions"):
        for row in SOURCES[name]:
            for link in links_of(row):
                is_there = (MEDIA / link.removeprefix(f"{HOST}/")).is_file()
                assert is_there == ("/dead/" not in link), link


def test_films_have_the_codecs_and_containers_of_the_web() -> None:
    codecs = Counter()
    for row in SOURCES["films"]:
        data = (MEDIA / row["URL"].removeprefix(f"{HOST}/")).read_bytes()
        assert sniff(data) in DEMUXERS
        with av.open(str(MEDIA / row["URL"].removeprefix(f"{HOST}/"))) as container:
            codecs[container.streams.video[0].codec_context.codec.canonical_name] += 1
    assert set(codecs) >= {"h264", "hevc", "vp8", "vp9", "mpeg4", "mpeg1video", "mjpeg", "gif"}


def test_planted_films_are_what_they_are_called() -> None:
    with film("sound-only.mp4") as container:
        assert not container.streams.video
    with film("turned-film-90.mp4") as container:
        assert next(container.decode(video=0)).rotation in (-90, 270)
        assert container.streams.video[0].codec_context.width == 208
    with film("wrong-duration.mkv") as container:
        assert container.duration == 60_000_000
        assert sum(1 for _ in container.decode(video=0)) == 72
    with film("uneven.mkv") as container:
        times = [frame.time for frame in container.decode(video=0)]
        steps = {round(after - before, 2) for before, after in itertools.pairwise(times)}
        assert len(steps) >= 2
    assert struct.pack("<I", 1_000_000) in (PLANTED / "million.avi").read_bytes()[:200]
    assert struct.pack(">H", 30000) in (PLANTED / "huge.mkv").read_bytes()[:600]
    assert sniff((PLANTED / "webm-named.mp4").read_bytes()) == "matroska"


def test_planted_recordings_are_what_they_are_called() -> None:
    lying = (PLANTED / "lying.wav").read_bytes()
    (said,) = struct.unpack_from("<I", lying, lying.index(b"data") + 4)
    assert said > 9 * len(lying)
    named = next(row for row in SOURCES["speech"] if row["URL"].endswith("auth-incorrect.wav"))
    assert sniff((MEDIA / named["URL"].removeprefix(f"{HOST}/")).read_bytes()) == "mp3"


def test_playlists_name_a_local_file() -> None:
    rows = [
        row for name in ("planted-films", "planted-speech") for row in SOURCES[name] if row["planted"] == "playlist"
    ]
    assert len(rows) == 6
    texts = [(MEDIA / row["URL"].removeprefix(f"{HOST}/")).read_text() for row in rows]
    assert sum("/etc/hostname" in text for text in texts) == 5
    assert {row["expected_reason"] for row in rows} == {"content.unsupported"}


def test_the_same_subtitles_stand_in_both_films_2_s_apart() -> None:
    def starts(planted: str) -> list[float]:
        (row,) = (row for row in SOURCES["planted-films"] if row["planted"] == planted)
        stamps = [line[:12] for line in row["subtitles"].splitlines() if "-->" in line]
        return [int(at[:2]) * 3600 + int(at[3:5]) * 60 + int(at[6:8]) + int(at[9:]) / 1000 for at in stamps]

    early, late = starts("subtitles"), starts("subtitles_late")
    assert len(early) == 6
    assert [round(b - a, 3) for a, b in zip(early, late, strict=True)] == [2.0] * 6


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("films/bunny-0.mp4", "video/mp4"),
        ("films/bunny-1.webm", "video/webm"),
        ("films/bunny-7.gif", "image/gif"),
        ("speech/agent-alreadyon.g722", "audio/G722"),
        ("speech/agent-pass.flac", "audio/flac"),
        ("planted/playlist-named.mp4", "video/mp4"),
        ("planted/playlist.m3u8", "application/vnd.apple.mpegurl"),
        ("planted/page.mp4", "text/html; charset=utf-8"),
        ("planted/webm-named.mp4", "video/mp4"),
    ],
)
def test_server_says_the_type_or_the_wrong_one_as_planned(path: str, content_type: str) -> None:
    with DemoServer() as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", f"/{path}")
        response = connection.getresponse()
        assert (response.status, response.getheader("Content-Type")) == (200, content_type)
        assert response.read() == (MEDIA / path).read_bytes()
        connection.close()


def test_documents_are_mmc4_s_and_instructions_llava_s() -> None:
    for row in SOURCES["documents"]:
        assert {"text_list", "image_info", "similarity_matrix", "url"} <= set(row)
        assert len(row["similarity_matrix"]) == len(row["image_info"])
        assert {len(line) for line in row["similarity_matrix"]} <= {len(row["text_list"])}
    for row in SOURCES["instructions"]:
        assert [turn["from"] for turn in row["conversations"]] == ["human", "gpt"] * (len(row["conversations"]) // 2)
        places = sum(turn["value"].count("<image>") for turn in row["conversations"])
        assert (places == len(links_of(row))) == (row["planted"] != "placeholders")


def test_a_recogniser_tells_right_transcripts_from_the_wrong_ones() -> None:
    from mmdata.audio.decode_audio import DecodeAudio
    from mmdata.sample import Sample
    from mmdata.score.transcript import Transcript
    from tests.score.sound_checkpoints import small_recogniser

    stage = Transcript(model=small_recogniser(), precision="int8", language="en")
    stage.setup()
    wrong = [row for row in SOURCES["planted-speech"] if row["planted"] == "wrong_transcript"]
    right = [row for row in SOURCES["speech"] if row["URL"].endswith((".g722", "auth-incorrect.wav"))][:3]
    samples = []
    for number, row in enumerate([*wrong, *right]):
        data = (MEDIA / row["URL"].removeprefix(f"{HOST}/")).read_bytes()
        columns = {"modality": "audio_text", "caption": row["TEXT"], "url": row["URL"]}
        samples.append(Sample(f"speech-{number:012d}", {"raw": data}, columns))
    DecodeAudio().process(samples)
    stage.process(samples)
    rates = [sample.columns["word_error_rate"] for sample in samples]
    assert min(rates[: len(wrong)]) > 0.6
    assert max(rates[len(wrong) :]) < 0.2
