"""Heads over stored embeddings: the numbers that torch gives, as a column that later rules read."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from mmdata.errors import ConfigError
from mmdata.select.dedup import Dedup
from mmdata.select.head import Head
from mmdata.select.thresholds import Thresholds
from mmdata.select.where import Where
from tests.select.planted import decided, kept_rows

RNG = np.random.default_rng(0)
WIDE = RNG.standard_normal((20, 16)).astype(np.float32)


def head(folder: Path, tensors: dict[str, np.ndarray], **options: Any) -> Head:
    path = folder / f"head-{len(list(folder.glob('*.safetensors')))}.safetensors"
    save_file(tensors, path)
    return Head.parse({"model": str(path), "column": "punsafe", **options}, "x.yaml: select[0].head")


def mlp(*sizes: int) -> dict[str, np.ndarray]:
    """Layers as torch.nn.Sequential names them, with the numbers of activations left out."""
    tensors = {}
    for number, (wide, narrow) in enumerate(pairwise(sizes)):
        tensors[f"layers.{5 * number}.weight"] = RNG.standard_normal((narrow, wide)).astype(np.float32)
        tensors[f"layers.{5 * number}.bias"] = RNG.standard_normal(narrow).astype(np.float32)
    return tensors


def test_a_linear_head_gives_a_column_that_later_rules_read(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"image_embedding": vector} for vector in WIDE] + [{"image_embedding": None}]
    weight = RNG.standard_normal((1, 16)).astype(np.float32)
    rule = head(tmp_path, {"weight": weight, "bias": np.array([0.5], np.float32)}, normalise=False)
    expected = WIDE.astype(np.float16).astype(np.float64) @ weight[0] + 0.5
    found = list(decided(tmp_path, rows, [rule]).values())
    assert np.allclose([row["punsafe"] for row in found[:-1]], expected, rtol=1e-6)
    assert found[-1]["punsafe"] is None
    limit = float(np.median(expected))
    for reader in (
        Thresholds.parse({"punsafe": {"max": limit}}, "t"),
        Where.parse({"expr": f"punsafe <= {limit!r}"}, "t"),
    ):
        kept = kept_rows(tmp_path, rows, [rule, reader])
        assert [int(key[-12:]) for key in kept] == np.flatnonzero(expected <= limit).tolist()


def test_an_mlp_is_what_torch_makes_of_it(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    tensors = mlp(16, 8, 4, 3)
    layers = [torch.nn.functional.normalize(torch.tensor(WIDE.astype(np.float16).astype(np.float64)), dim=1)]
    for number in (0, 5, 10):
        weight, bias = (
            torch.tensor(tensors[f"layers.{number}.{part}"], dtype=torch.float64) for part in ("weight", "bias")
        )
        layers.append(torch.nn.functional.linear(layers[-1], weight, bias))
        if number < 10:
            layers[-1] = torch.relu(layers[-1])
    for output, expected in (
        ("none", layers[-1][:, 2]),
        ("sigmoid", torch.sigmoid(layers[-1][:, 2])),
        ("softmax", torch.softmax(layers[-1], dim=1)[:, 2]),
    ):
        rule = head(tmp_path, tensors, output=output, output_index=2)
        assert np.allclose(rule.values_of(WIDE.astype(np.float16), rule.layers()), expected.numpy(), atol=1e-12)


@pytest.mark.parametrize("activation", ["none", "tanh", "gelu"])
def test_every_activation_is_torch_s(tmp_path: Path, activation: str) -> None:
    torch = pytest.importorskip("torch")
    tensors = mlp(16, 8, 1)
    rule = head(tmp_path, tensors, activation=activation, normalise=False)
    first, second = (torch.tensor(tensors[f"layers.{n}.weight"]) for n in (0, 5))
    hidden = torch.tensor(WIDE) @ first.T + torch.tensor(tensors["layers.0.bias"])
    act = {"none": lambda x: x, "tanh": torch.tanh, "gelu": lambda x: torch.nn.functional.gelu(x, approximate="tanh")}
    expected = (act[activation](hidden) @ second.T + torch.tensor(tensors["layers.5.bias"]))[:, 0]
    assert np.allclose(rule.values_of(WIDE, rule.layers()), expected.numpy(), atol=1e-4)


def test_layers_go_by_the_numbers_in_their_names_not_by_the_alphabet(tmp_path: Path) -> None:
    tensors = {"net.10.weight": np.ones((1, 4), np.float32), "net.2.weight": np.ones((4, 16), np.float32)}
    assert [weight.shape for weight, _ in head(tmp_path, tensors).layers()] == [(4, 16), (1, 4)]


def test_order_and_threads_change_nothing(tmp_path: Path) -> None:
    rows = [{"row": row, "image_embedding": vector} for row, vector in enumerate(WIDE)]
    rule = head(tmp_path, mlp(16, 8, 1))
    one = decided(tmp_path, rows, [rule], threads=1)
    other = decided(tmp_path, rows[::-1], [rule], threads=3)
    assert one == {key: other[key] for key in one}


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    rows = [{"image_embedding": vector, "punsafe_old": 0.5, "caption": "x"} for vector in WIDE]
    (tmp_path / "text.bin").write_text("no tensors")
    wrong = {"0.weight": np.ones((4, 8), np.float32), "1.weight": np.ones((1, 5), np.float32)}
    for make, message in (
        (lambda: head(tmp_path, wrong), r"layer 1\.: found \(1, 5\)"),
        (lambda: head(tmp_path, {"scale": np.ones(3, np.float32)}), r"found scale, allowed are NAME\.weight"),
        (
            lambda: Head.parse({"model": str(tmp_path / "text.bin"), "column": "x"}, "t"),
            "cannot be read as safetensors",
        ),
        (lambda: Head.parse({"model": str(tmp_path / "none"), "column": "x"}, "t"), "cannot be read as safetensors"),
        (lambda: head(tmp_path, mlp(16, 1), output_index=1), "output_index: found 1, the last layer has 1"),
        (lambda: decided(tmp_path, rows, [head(tmp_path, mlp(8, 1))]), "image_embedding has 16 numbers, .* takes 8"),
        (
            lambda: decided(tmp_path, rows, [head(tmp_path, mlp(16, 1), column="Caption")]),
            "column Caption is there already",
        ),
        (
            lambda: decided(tmp_path, rows, [head(tmp_path, mlp(16, 1), embedding="caption")]),
            "caption: found a column of string",
        ),
    ):
        with pytest.raises(ConfigError, match=message):
            make()


def test_a_column_is_there_for_later_rules_only(tmp_path: Path) -> None:
    rows = [{"image_embedding": vector} for vector in WIDE]
    early = [Thresholds.parse({"punsafe": {"max": 1}}, "t"), head(tmp_path, mlp(16, 1))]
    with pytest.raises(ConfigError, match=r"select\[0\]\.thresholds: punsafe: no such column"):
        decided(tmp_path, rows, early)


def test_two_heads_and_a_dedup_by_the_first_go_together(tmp_path: Path) -> None:
    rows = [{"image_embedding": WIDE[row // 2], "caption": str(row // 4)} for row in range(16)]
    rules = [
        head(tmp_path, mlp(16, 1), column="beauty_score"),
        Dedup(by="caption", keep_best="beauty_score"),
        head(tmp_path, mlp(16, 1), column="mark"),
    ]
    found = list(decided(tmp_path, rows, rules).values())
    assert all(row["beauty_score"] is not None for row in found)
    assert [row["mark"] is not None for row in found] == [row["keep"] for row in found]
    for four in range(0, 16, 4):
        best = max(found[four : four + 4], key=lambda row: row["beauty_score"])
        assert best["beauty_score"] == next(row for row in found[four : four + 4] if row["keep"])["beauty_score"]
