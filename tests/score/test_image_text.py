"""What the image-text scorer promises: open_clip's own numbers, the same bits every time, and no sample lost."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmdata.errors import ConfigError, Reason
from mmdata.options import build
from mmdata.sample import Sample, sample_key
from mmdata.score.image_text import ImageText
from tests.builders import failed_sample, image_sample, jpeg, picture_HWC
from tests.score.checkpoints import SIDE_PX, stand_in, write_tiny_checkpoint


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("tiny-clip"))


@pytest.fixture(scope="module")
def scorer(tiny: str) -> ImageText:
    stage = ImageText(model=tiny, batch_size=4)
    stage.setup()
    return stage


def samples(number: int) -> list[Sample]:
    return [image_sample("pictures", row) for row in range(number)]


def bits(scored: list[Sample]) -> list[tuple[float, bytes, bytes]]:
    return [
        (s.columns["clip_similarity"], s.columns["image_embedding"].tobytes(), s.columns["text_embedding"].tobytes())
        for s in scored
    ]


def own_forward(model: str, data: list[bytes], captions: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Similarity [B] and embeddings [B, D] by open_clip's documented use, one PIL image at a time."""
    import open_clip
    import torch

    network, _, preprocess = open_clip.create_model_and_transforms(model)
    tokenizer = open_clip.get_tokenizer(model)
    network.eval()
    with torch.no_grad():
        pixels_BCHW = torch.stack([preprocess(Image.open(io.BytesIO(d))) for d in data])
        image_BD = network.encode_image(pixels_BCHW)
        text_BD = network.encode_text(tokenizer(captions))
        image_BD /= image_BD.norm(dim=-1, keepdim=True)
        text_BD /= text_BD.norm(dim=-1, keepdim=True)
    return (image_BD * text_BD).sum(-1).numpy(), image_BD.numpy(), text_BD.numpy()


def assert_equals_own_forward(model: str, stage: ImageText, given: list[Sample]) -> None:
    data = [s.parts[s.image_part or ""] for s in given]
    similarity, image_BD, text_BD = own_forward(model, data, [s.columns["caption"] for s in given])
    stage.process(given)
    np.testing.assert_allclose([s.columns["clip_similarity"] for s in given], similarity, atol=2e-5)
    np.testing.assert_allclose([s.columns["image_embedding"] for s in given], image_BD, atol=1e-3)
    np.testing.assert_allclose([s.columns["text_embedding"] for s in given], text_BD, atol=1e-3)


def test_similarity_equals_open_clips_own_forward(tiny: str, scorer: ImageText) -> None:
    given = samples(6)
    for index, (width_px, height_px) in enumerate([(200, 90), (31, 77), (32, 32), (640, 480)]):
        given[index].parts["jpg"] = jpeg(index, width_px, height_px)
    assert_equals_own_forward(tiny, scorer, given)


def test_similarity_equals_open_clips_own_forward_on_the_real_stand_in() -> None:
    model = stand_in()
    stage = ImageText(model=model, batch_size=8)
    stage.setup()
    given = samples(5)
    for index, sample in enumerate(given):
        sample.parts["jpg"] = jpeg(index, 300, 256)
    # open_clip itself finds this checkpoint's text config only from the repository's root; the scorer from anywhere.
    root = Path(__file__).parents[2]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        assert_equals_own_forward(model, stage, given)


def test_the_stand_in_loads_from_any_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = ImageText(model=stand_in(), batch_size=2)
    monkeypatch.chdir(tmp_path)
    stage.setup()
    assert len(stage.process(samples(1))[0].columns["image_embedding"]) == 384


def test_pixels_equal_open_clips_own_preprocessing(tiny: str, scorer: ImageText) -> None:
    import open_clip
    import torch

    _, _, preprocess = open_clip.create_model_and_transforms(tiny)
    given = samples(4)
    given[1].parts = {"png": _encoded(picture_HWC(1, 90, 50), "PNG")}
    given[2].parts = {"webp": _encoded(picture_HWC(2, 50, 90), "WEBP")}
    given[3].parts = {"jpg": _encoded(picture_HWC(3, 70, 50)[..., 0], "JPEG")}  # grey
    expected = torch.stack([preprocess(Image.open(io.BytesIO(next(iter(s.parts.values()))))) for s in given])
    assert torch.equal(scorer.prepare(given).pixels, expected)


def test_the_last_batch_is_padded_so_results_do_not_depend_on_shard_size(scorer: ImageText) -> None:
    shapes = {scorer.prepare(samples(n)).pixels.shape for n in (1, 3, 4)}
    assert shapes == {(4, 3, SIDE_PX, SIDE_PX)}
    assert bits(scorer.process(samples(5))) == bits(scorer.process(samples(8)))[:5]


def test_a_shard_gives_the_same_bytes_whatever_ran_before(scorer: ImageText, tiny: str) -> None:
    first = bits(scorer.process(samples(7)))
    scorer.process(samples(3))
    assert bits(scorer.process(samples(7))) == first
    fresh = ImageText(model=tiny, batch_size=4)
    fresh.setup()
    assert bits(fresh.process(samples(7))) == first


@settings(max_examples=15, deadline=None)
@given(number=st.integers(0, 14), without_caption=st.sets(st.integers(0, 13)), failed=st.sets(st.integers(0, 13)))
def test_a_shard_read_ahead_equals_one_processed_in_place(
    scorer: ImageText, number: int, without_caption: set[int], failed: set[int]
) -> None:
    def shard() -> list[Sample]:
        rows = [
            failed_sample("pictures", row) if row in failed else image_sample("pictures", row) for row in range(number)
        ]
        for row in without_caption & set(range(number)):
            rows[row].columns["caption"] = None
        return rows

    in_place = scorer.process(shard())
    ahead = list(scorer.process_shard(iter(shard())))
    assert [s.key for s in ahead] == [sample_key("pictures", row) for row in range(number)]
    assert [s.reason for s in ahead] == [s.reason for s in in_place]
    assert bits([s for s in ahead if s.is_ok]) == bits([s for s in in_place if s.is_ok])
    for row, sample in enumerate(ahead):
        expected = Reason.HTTP_4XX if row in failed else Reason.SCORE_FAILED if row in without_caption else Reason.OK
        assert sample.reason is expected


def test_decode_threads_change_no_bit(scorer: ImageText, tiny: str) -> None:
    threaded = ImageText(model=tiny, batch_size=4, decode_threads=3)
    threaded.setup()
    assert bits(threaded.process(samples(6))) == bits(scorer.process(samples(6)))


def test_read_ahead_holds_only_a_few_batches(scorer: ImageText) -> None:
    taken = 0

    def source() -> Iterator[Sample]:
        nonlocal taken
        for sample in samples(40):
            taken += 1
            yield sample

    shard = scorer.process_shard(source())
    next(shard)
    assert taken <= 4 * scorer.batch_size
    shard.close()


def test_an_error_of_the_source_reaches_the_caller(scorer: ImageText) -> None:
    def source() -> Iterator[Sample]:
        yield from samples(6)
        raise OSError("the tar is cut")

    with pytest.raises(OSError, match="the tar is cut"):
        list(scorer.process_shard(source()))


@pytest.mark.parametrize("caption", [None, "", " \t\n"])
def test_a_sample_without_caption_is_failed_with_score_failed(scorer: ImageText, caption: str | None) -> None:
    given = samples(2)
    given[0].columns["caption"] = caption
    first, second = scorer.process(given)
    assert (first.reason, first.detail) == (Reason.SCORE_FAILED, "no caption")
    assert "clip_similarity" not in first.columns
    assert second.is_ok


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff", jpeg(1)[:200], b"GIF89a", bytes(500)])
@pytest.mark.parametrize("part", ["jpg", "png", "webp"])
def test_a_broken_picture_is_failed_and_its_neighbour_is_not(scorer: ImageText, part: str, data: bytes) -> None:
    alone = bits(scorer.process([image_sample("pictures", 0), image_sample("pictures", 1)]))[1]
    given = samples(2)
    given[0].parts = {part: data}
    first, second = scorer.process(given)
    assert first.reason is Reason.SCORE_FAILED
    assert bits([second]) == [alone]


@pytest.mark.parametrize("mode", ["RGBA", "P", "LA", "I;16", "CMYK", "1"])
def test_every_picture_mode_has_a_score(scorer: ImageText, mode: str) -> None:
    picture = Image.fromarray(picture_HWC(3))
    if mode == "I;16":
        picture = Image.fromarray(picture_HWC(3)[..., 0].astype(np.uint16) * 257)
    else:
        picture = picture.convert("RGBA").convert(mode) if mode != "CMYK" else picture.convert(mode)
    stream = io.BytesIO()
    picture.save(stream, "JPEG" if mode == "CMYK" else "PNG")
    sample = image_sample("pictures", 3)
    sample.parts = {"jpg" if mode == "CMYK" else "png": stream.getvalue()}
    assert scorer.process([sample])[0].is_ok


def test_a_thread_of_a_picture_does_not_fill_the_memory(scorer: ImageText) -> None:
    sample = image_sample("pictures", 1)
    sample.parts = {"png": _encoded(np.zeros((1, 60_000, 3), np.uint8), "PNG")}
    assert scorer.process([sample])[0].is_ok


def test_any_caption_has_a_score(scorer: ImageText) -> None:
    given = samples(6)
    captions = ["word " * 5000, "\ud800", "\0", "<end_of_text>", "a" * 100_000, "\u732b"]
    for sample, caption in zip(given, captions, strict=True):
        sample.columns["caption"] = caption
    assert all(sample.is_ok for sample in scorer.process(given))


def test_embeddings_are_float16_of_unit_length_and_fit_a_table(scorer: ImageText) -> None:
    scored = scorer.process(samples(5))
    for name in ("image_embedding", "text_embedding"):
        rows = [s.columns[name] for s in scored]
        assert {row.dtype for row in rows} == {np.dtype(np.float16)}
        np.testing.assert_allclose(np.linalg.norm(np.array(rows, np.float32), axis=1), 1, atol=2e-3)
        assert pa.array([*rows, None], pa.list_(pa.float16(), len(rows[0]))).null_count == 1
    assert {type(s.columns["clip_similarity"]) for s in scored} == {float}


def test_similarity_is_taken_before_embeddings_are_rounded(scorer: ImageText) -> None:
    scored = scorer.process(samples(8))
    rounded = [
        float(np.dot(s.columns["image_embedding"].astype(np.float32), s.columns["text_embedding"].astype(np.float32)))
        for s in scored
    ]
    exact = [s.columns["clip_similarity"] for s in scored]
    np.testing.assert_allclose(rounded, exact, atol=2e-3)
    assert rounded != exact


def test_without_embeddings_only_the_similarity_is_written(tiny: str) -> None:
    options = {"model": tiny, "batch_size": 2, "embeddings": False, "column": "tiny_similarity"}
    stage = build(ImageText, options, "score.image_text")
    stage.setup()
    assert stage.writes == {"tiny_similarity"}
    before = samples(1)[0].columns
    assert set(stage.process(samples(1))[0].columns) - set(before) == {"tiny_similarity"}


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_low_precision_is_close_to_fp32(scorer: ImageText, tiny: str, precision: str) -> None:
    stage = build(ImageText, {"model": tiny, "batch_size": 4, "precision": precision}, "score.image_text")
    stage.setup()
    assert stage.facts()["precision"] == precision
    low, full = stage.process(samples(4)), scorer.process(samples(4))
    np.testing.assert_allclose(
        [s.columns["clip_similarity"] for s in low], [s.columns["clip_similarity"] for s in full], atol=0.03
    )


def test_auto_means_fp32_on_the_cpu_and_is_recorded(tiny: str) -> None:
    stage = ImageText(model=tiny, device="cpu")
    stage.setup()
    assert (stage.facts()["device"], stage.facts()["precision"]) == ("cpu", "fp32")


@pytest.mark.gpu
def test_scores_on_cuda_are_close_to_the_cpus_and_the_same_twice(scorer: ImageText, tiny: str) -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    stage = ImageText(model=tiny, batch_size=4, precision="fp32", device="cuda")
    stage.setup()
    once, again = list(stage.process_shard(samples(9))), list(stage.process_shard(samples(9)))
    assert bits(once) == bits(again)
    expected = [s.columns["clip_similarity"] for s in scorer.process(samples(9))]
    np.testing.assert_allclose([s.columns["clip_similarity"] for s in once], expected, atol=1e-3)


def test_the_weights_hash_follows_the_content_not_the_place(tmp_path: Path) -> None:
    one, same, other = (
        ImageText(model=write_tiny_checkpoint(tmp_path / name, seed)) for name, seed in [("a", 0), ("b", 0), ("c", 1)]
    )
    assert one.weights_sha256() == same.weights_sha256() != other.weights_sha256()
    (tmp_path / "b" / "open_clip_config.json").write_text("{}")
    assert one.weights_sha256() != same.weights_sha256()
    named = ImageText(model="ViT-B-32", pretrained="laion2b_s34b_b79k")
    assert named.weights_sha256() == "ViT-B-32 laion2b_s34b_b79k"


@pytest.mark.parametrize(
    ("model", "pretrained", "message"),
    [
        ("local-dir:nowhere", "", "nowhere: no such folder"),
        ("local-dir:.", "", "has no open_clip_config.json"),
        ("ViT-B-23", "", "did you mean"),
        ("ViT-B-32", "", "pretrained: found '' for ViT-B-32"),
        ("ViT-B-32", "laion2b_s34b_b79", "did you mean laion2b_s34b_b79k"),
    ],
)
def test_a_missing_model_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, pretrained: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        ImageText(model=model, pretrained=pretrained).setup()


@pytest.mark.parametrize("model", ["ViT-B-32", "hf-hub:nobody/nothing"])
def test_weights_that_cannot_be_downloaded_say_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    import open_clip.factory

    def offline(*_args: object, **_options: object) -> str:
        raise OSError("no route to host\na long stack follows")

    monkeypatch.setattr(open_clip.factory, "download_pretrained", offline)
    monkeypatch.setattr(open_clip.factory, "download_pretrained_from_hf", offline)
    pretrained = "laion2b_s34b_b79k" if model == "ViT-B-32" else ""
    with pytest.raises(
        ConfigError, match=r"cannot be loaded.*without internet give `model: local-dir:FOLDER`"
    ) as caught:
        ImageText(model=model, pretrained=pretrained).setup()
    assert "\n" not in str(caught.value)


def test_damaged_weights_are_a_config_error(tmp_path: Path) -> None:
    model = write_tiny_checkpoint(tmp_path)
    (tmp_path / "open_clip_model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        ImageText(model=model).setup()


def test_importing_the_scorer_does_not_import_torch() -> None:
    heavy = {"torch", "open_clip", "PIL", "transformers", "numpy"}
    code = f"import sys, mmdata.score.image_text; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def _encoded(pixels: np.ndarray, kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()
