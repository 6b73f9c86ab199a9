"""What the audio-text scorer promises: CLAP's own numbers, the same bits every time, and no sample lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmdata.audio.sound import write_sound
from mmdata.errors import ConfigError, Reason
from mmdata.sample import Sample, sample_key
from mmdata.score.audio_text import AudioText
from tests.score.sound_checkpoints import write_tiny_clap

RATE_HZ = 16_000


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_tiny_clap(tmp_path_factory.mktemp("tiny-clap"))


@pytest.fixture(scope="module")
def scorer(tiny: str) -> AudioText:
    stage = AudioText(model=tiny, batch_size=4)
    stage.setup()
    return stage


def wave_T(row: int, seconds: float = 0.8) -> np.ndarray:
    at_s = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    noise_T = np.random.default_rng(row).normal(size=at_s.size) * 0.01 * row
    return (0.4 * np.sin(2 * np.pi * (200 + 317 * row) * at_s) + noise_T).astype(np.float32)


def samples(number: int, seconds: float = 0.8) -> list[Sample]:
    return [
        Sample(
            sample_key("sounds", row),
            {"flac": write_sound(wave_T(row, seconds), RATE_HZ, "flac")},
            {"modality": "audio_text", "caption": f"sound number {row} of a dog"},
        )
        for row in range(number)
    ]


def scores(done: list[Sample]) -> list[float]:
    return [sample.columns["clap_similarity"] for sample in done]


def own_forward(model: str, given: list[Sample]) -> list[float]:
    """Similarities by transformers' documented use, one pair at a time."""
    import librosa
    import torch
    from transformers import ClapModel, ClapProcessor

    from mmdata.audio.sound import read_sound

    folder = model.removeprefix("local-dir:")
    network, processor = ClapModel.from_pretrained(folder).eval(), ClapProcessor.from_pretrained(folder)
    found = []
    for sample in given:
        wave, rate_hz = read_sound(sample.parts["flac"])
        wave = librosa.resample(wave, orig_sr=rate_hz, target_sr=48_000, res_type="soxr_hq")
        inputs = processor.tokenizer([sample.columns["caption"]], return_tensors="pt")
        inputs |= dict(processor.feature_extractor(wave, sampling_rate=48_000, return_tensors="pt"))
        with torch.no_grad():
            made = network(**inputs)
        found.append(float((made.audio_embeds * made.text_embeds).sum()))
    return found


def test_similarity_equals_transformers_own_forward(tiny: str, scorer: AudioText) -> None:
    given = samples(6)
    expected = own_forward(tiny, given)
    assert max(expected) - min(expected) > 0.01
    np.testing.assert_allclose(scores(scorer.process(given)), expected, atol=2e-5)


def test_a_fusion_model_gives_the_same_bits_every_time(tmp_path: Path) -> None:
    """Its extractor marks a random sound of each batch as longer than it is."""
    stage = AudioText(model=write_tiny_clap(tmp_path, fusion=True), batch_size=3)
    stage.setup()
    runs = [scores(stage.process(samples(5, seconds))) for seconds in (0.8, 2.5) for _ in range(3)]
    assert runs[0] == runs[1] == runs[2] != runs[3] == runs[4] == runs[5]


def test_of_a_long_sound_the_middle_is_heard(scorer: AudioText) -> None:
    short, long = samples(1, 1.0), samples(1, 1.0)
    quiet_T = np.zeros(RATE_HZ, np.float32)
    long[0].parts["flac"] = write_sound(np.concatenate([quiet_T, wave_T(0, 1.0), quiet_T]), RATE_HZ, "flac")
    assert scores(scorer.process(long)) == pytest.approx(scores(scorer.process(short)), abs=1e-3)


def test_results_do_not_depend_on_shard_size_or_on_what_ran_before(scorer: AudioText, tiny: str) -> None:
    first = scores(list(scorer.process_shard(iter(samples(9)))))
    scorer.process(samples(3))
    assert scores(scorer.process(samples(9))) == first
    assert scores(scorer.process(samples(5))) == first[:5]
    fresh = AudioText(model=tiny, batch_size=4)
    fresh.setup()
    assert scores(fresh.process(samples(9))) == first


@pytest.mark.parametrize("caption", [None, "", " \n"])
def test_a_sample_without_caption_is_failed_and_its_neighbour_is_not(scorer: AudioText, caption: str | None) -> None:
    alone = scores(scorer.process(samples(2)))[1]
    given = samples(2)
    given[0].columns["caption"] = caption
    first, second = scorer.process(given)
    assert (first.reason, first.detail) == (Reason.SCORE_FAILED, "no caption")
    assert scores([second]) == [alone]


@pytest.mark.parametrize("data", [b"", b"fLaC", b"no sound at all"])
def test_a_broken_sound_is_failed_and_its_neighbour_is_not(scorer: AudioText, data: bytes) -> None:
    alone = scores(scorer.process(samples(2)))[1]
    given = samples(2)
    given[0].parts = {"flac": data}
    first, second = scorer.process(given)
    assert first.reason is Reason.SCORE_FAILED
    assert scores([second]) == [alone]


def test_any_caption_and_any_length_have_a_score(scorer: AudioText) -> None:
    given = samples(6)
    captions = ["word " * 5000, "\ud800", "\0", "<mask>", "a" * 100_000, "\u732b"]
    for index, (sample, caption) in enumerate(zip(given, captions, strict=True)):
        sample.columns["caption"] = caption
        sample.parts["flac"] = write_sound(wave_T(index, 0.001 * 10**index / 100 + 0.001), RATE_HZ, "flac")
    assert all(sample.is_ok for sample in scorer.process(given))


def test_the_weights_hash_follows_the_content_not_the_place(tmp_path: Path) -> None:
    one, same, other = (
        AudioText(model=write_tiny_clap(tmp_path / name, seed)) for name, seed in [("a", 0), ("b", 0), ("c", 1)]
    )
    assert one.weights_sha256() == same.weights_sha256() != other.weights_sha256()
    assert AudioText(model="laion/clap-htsat-unfused").weights_sha256() == "laion/clap-htsat-unfused"


def test_a_model_that_is_not_there_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="nowhere: no such folder"):
        AudioText(model="local-dir:nowhere").check()
    with pytest.raises(ConfigError, match=r"has no config\.json"):
        AudioText(model=f"local-dir:{tmp_path}").check()
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        AudioText(model=f"local-dir:{tmp_path}").setup()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="without internet give `model: local-dir:FOLDER`"):
        AudioText(model="laion/clap-that-is-not-in-the-cache").setup()


def test_facts_say_what_auto_came_to(tiny: str) -> None:
    stage = AudioText(model=tiny, device="cpu")
    stage.setup()
    assert stage.facts() == {"device": "cpu", "precision": "fp32"}
