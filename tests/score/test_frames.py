"""Videos by their frames: the mean and the greatest of what pictures alone would score."""

from __future__ import annotations

import numpy as np
import pytest

from mmdata.errors import Reason
from mmdata.run.child import takes
from mmdata.sample import Sample, sample_key
from mmdata.score import frames
from mmdata.score.image_text import ImageText
from tests.builders import image_sample, jpeg
from tests.score.checkpoints import write_tiny_checkpoint


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> ImageText:
    stage = ImageText(model=write_tiny_checkpoint(tmp_path_factory.mktemp("tiny-clip")), batch_size=4)
    stage.setup()
    return stage


def video(row: int, contents: list[int], caption: str | None = "a film") -> Sample:
    parts = {f"{place:03d}.jpg": jpeg(content) for place, content in enumerate(contents)}
    columns = {"modality": "video_text", "caption": caption}
    return Sample(sample_key("films", row), {"mp4": b"film", **parts}, columns)


def alone(scorer: ImageText, contents: list[int], caption: str = "a film") -> list[Sample]:
    return scorer.process([image_sample("p", row, caption, content) for row, content in enumerate(contents)])


@pytest.mark.parametrize("contents", [[3], [1, 2, 3], [1, 2, 3, 4, 5, 6, 7]])
def test_a_video_scores_the_mean_and_the_greatest_of_its_frames(scorer: ImageText, contents: list[int]) -> None:
    (sample,) = scorer.process([video(0, contents)])
    pictures = alone(scorer, contents)
    similarity = [picture.columns["clip_similarity"] for picture in pictures]
    assert sample.columns["clip_similarity"] == pytest.approx(np.mean(similarity), abs=1e-6)
    assert sample.columns["clip_similarity_max"] == pytest.approx(max(similarity), abs=1e-6)
    mean_D = np.mean([picture.columns["image_embedding"].astype(np.float32) for picture in pictures], axis=0)
    np.testing.assert_allclose(sample.columns["image_embedding"], mean_D, atol=2e-3)
    np.testing.assert_array_equal(sample.columns["text_embedding"], pictures[0].columns["text_embedding"])


def test_groups_change_no_bit_and_let_go_of_films(scorer: ImageText, monkeypatch: pytest.MonkeyPatch) -> None:
    def scored() -> list[tuple[str, float, bytes]]:
        given = [video(row, [row, row + 1, row + 2]) for row in range(5)]
        done = list(scorer.process_shard(iter(given)))
        assert not any("mp4" in sample.parts for sample in done)
        return [(s.key, s.columns["clip_similarity"], s.columns["image_embedding"].tobytes()) for s in done]

    together = scored()
    assert [key for key, _, _ in together] == [sample_key("films", row) for row in range(5)]
    assert scored() == together
    monkeypatch.setattr(frames, "GROUP_VIDEOS", 2)
    in_pairs = scored()
    monkeypatch.setattr(frames, "GROUP_BYTES", 1)
    apart = scored()
    assert [row[1] for row in in_pairs] == pytest.approx([row[1] for row in together], abs=1e-6)
    assert [row[1] for row in apart] == pytest.approx([row[1] for row in together], abs=1e-6)


def test_a_bad_frame_or_no_caption_costs_that_video_only(scorer: ImageText) -> None:
    bad, silent, good = video(0, [1, 2]), video(1, [1], caption=" "), video(2, [1])
    bad.parts["001.jpg"] = b"no jpeg"
    scorer.process([bad, silent, good])
    assert [sample.reason for sample in (bad, silent, good)] == [Reason.SCORE_FAILED, Reason.SCORE_FAILED, Reason.OK]
    assert "picture cannot be decoded" in bad.detail
    assert silent.detail == "no caption"


def test_only_videos_with_frames_and_pictures_are_taken(scorer: ImageText) -> None:
    without = video(0, [])
    assert [takes(scorer, sample) for sample in (video(1, [1]), image_sample("p", 0), without)] == [True, True, False]
    sound = Sample("s-000000000000", {"flac": b"x"}, {"modality": "audio_text", "caption": "x"})
    assert not takes(scorer, sound)


def test_an_empty_shard_has_no_scores(scorer: ImageText) -> None:
    assert list(scorer.process_shard(iter([]))) == []
