"""What the transcript scorer promises: the recogniser's own text, and how far it is from the caption."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from mmdata.audio.decode_audio import DecodeAudio
from mmdata.audio.sound import read_sound, write_sound
from mmdata.errors import ConfigError, Reason
from mmdata.sample import Sample
from mmdata.score.transcript import Transcript
from tests.score.sound_checkpoints import small_recogniser, write_tiny_whisper

RATE_HZ = 16_000
_SPOKEN = Path(__file__).parents[2].parent / "shared" / "data" / "speech-en"


@pytest.fixture(scope="module")
def recogniser() -> Transcript:
    stage = Transcript(model=small_recogniser(), precision="int8", language="en")
    stage.setup()
    return stage


def sounding(wave_T: np.ndarray, caption: str | None, rate_hz: int = RATE_HZ, **columns: str) -> Sample:
    data = write_sound(np.asarray(wave_T, np.float32), rate_hz, "flac")
    return Sample("talks-000000000001", {"flac": data}, {"modality": "audio_text", "caption": caption, **columns})


def digits(words: str) -> Sample:
    """One speaker saying the digits, with that as caption."""
    return sounding(digits_T(words), words)


@cache
def digits_T(words: str) -> np.ndarray:
    """The digits one after the other with pauses of a quarter of a second."""
    if not _SPOKEN.is_dir():
        pytest.skip("no recordings at ../shared/data/speech-en")
    with (_SPOKEN / "transcripts.tsv").open() as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["speaker"] == "jackson"]
    pieces = []
    for word in words.split():
        name = next(row["file"] for row in rows if row["transcript"] == word)
        sample = Sample("talks-000000000001", {"raw": (_SPOKEN / "wav" / name).read_bytes()}, {})
        DecodeAudio().process([sample])
        pieces += [read_sound(sample.parts["flac"])[0], np.zeros(RATE_HZ // 4, np.float32)]
    return np.concatenate(pieces)


def test_a_right_transcript_agrees_and_a_wrong_one_does_not(recogniser: Transcript) -> None:
    words = "three one four one five nine two six"
    right, wrong = digits(words), digits(words)
    wrong.columns["caption"] = "the weather will be fine tomorrow in most parts of the country"
    recogniser.process([right, wrong])
    assert right.is_ok
    assert wrong.is_ok
    assert right.columns["recognised_text"] == wrong.columns["recognised_text"] != ""
    assert right.columns["word_error_rate"] == right.columns["char_error_rate"] == 0
    assert wrong.columns["word_error_rate"] > 0.8


def test_the_same_sound_has_the_same_text_whatever_ran_before(recogniser: Transcript) -> None:
    alone = recogniser.process([digits("seven eight")])[0].columns["recognised_text"]
    mixed = list(recogniser.process_shard(iter([digits("one two"), digits("seven eight")])))
    assert mixed[1].columns["recognised_text"] == alone


@pytest.mark.parametrize("caption", [None, "", "...", "\u3002"])
def test_a_sample_without_words_is_failed(recogniser: Transcript, caption: str | None) -> None:
    (done,) = recogniser.process([sounding(np.zeros(RATE_HZ), caption)])
    assert (done.reason, done.detail) == (Reason.SCORE_FAILED, "no caption with words")


def test_a_broken_sound_is_failed(recogniser: Transcript) -> None:
    sample = sounding(np.zeros(100), "words")
    sample.parts["flac"] = b"no sound at all"
    assert recogniser.process([sample])[0].reason is Reason.SCORE_FAILED


def test_silence_has_a_text_or_none_and_a_rate(recogniser: Transcript) -> None:
    (done,) = recogniser.process([sounding(np.zeros(2 * RATE_HZ), "somebody speaks")])
    assert done.columns["word_error_rate"] > 0
    assert isinstance(done.columns["recognised_text"], str)


@pytest.fixture(scope="module")
def tiny_whisper(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_tiny_whisper(tmp_path_factory.mktemp("tiny-whisper"))


def test_a_whisper_of_transformers_gives_its_own_text(tiny_whisper: str) -> None:
    import torch
    from transformers import WhisperForConditionalGeneration, WhisperProcessor

    wave_T = np.random.default_rng(1).normal(size=RATE_HZ) * 0.1
    sample = sounding(wave_T, "rain falls")
    stage = Transcript(model=tiny_whisper)
    stage.setup()
    (done,) = stage.process([sample])
    folder = tiny_whisper.removeprefix("local-dir:")
    model, processor = WhisperForConditionalGeneration.from_pretrained(folder), WhisperProcessor.from_pretrained(folder)
    heard_T, _ = read_sound(write_sound(wave_T.astype(np.float32), RATE_HZ, "flac"))
    features = processor(heard_T, sampling_rate=RATE_HZ, return_tensors="pt")["input_features"]
    with torch.no_grad():
        tokens = model.eval().generate(features, num_beams=1, do_sample=False, max_new_tokens=224)
    assert done.columns["recognised_text"] == processor.batch_decode(tokens, skip_special_tokens=True)[0].strip()
    assert stage.facts() == {"device": "cpu", "precision": "float32"}


def test_a_long_sound_is_heard_window_by_window(tiny_whisper: str) -> None:
    stage = Transcript(model=tiny_whisper)
    stage.setup()
    rng = np.random.default_rng(2)
    first_T, second_T = rng.normal(size=30 * RATE_HZ) * 0.1, np.sin(np.arange(5 * RATE_HZ) / 7) * 0.3
    texts = [
        stage.process([sounding(wave_T, "rain")])[0].columns["recognised_text"]
        for wave_T in (first_T, second_T, np.concatenate([first_T, second_T]))
    ]
    assert texts[2] == " ".join(text for text in texts[:2] if text)


def test_int8_is_for_faster_whisper_only(tiny_whisper: str) -> None:
    with pytest.raises(ConfigError, match="takes float32 or float16"):
        Transcript(model=tiny_whisper, precision="int8").setup()


def test_a_model_that_is_not_there_or_not_whole_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere: no such folder"):
        Transcript(model="local-dir:nowhere").check()
    with pytest.raises(ConfigError, match=r"has no config\.json"):
        Transcript(model=f"local-dir:{tmp_path}").check()
    for name in ("config.json", "model.bin"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(ConfigError, match=r"has no tokenizer\.json"):
        Transcript(model=f"local-dir:{tmp_path}").check()
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        Transcript(model=f"local-dir:{tmp_path}").setup()


def test_the_weights_hash_follows_the_content(tmp_path: Path) -> None:
    one, same, other = (
        Transcript(model=write_tiny_whisper(tmp_path / name, seed)) for name, seed in [("a", 0), ("b", 0), ("c", 1)]
    )
    assert one.weights_sha256() == same.weights_sha256() != other.weights_sha256()
