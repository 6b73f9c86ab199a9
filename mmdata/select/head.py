"""Rule `head`: a small network over stored embeddings gives every row a column, without decoding anything again.

Unsafe content, aesthetics and watermarks are commonly told so, by a linear layer or an MLP over CLIP embeddings.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import annotated_types as at
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmdata.errors import ConfigError
from mmdata.options import build, semantic
from mmdata.select.rules import Needs
from mmdata.select.workspace import Workspace
from mmdata.shards import storage

_BLOCK_ROWS = 16_384
_NUMBER = re.compile(r"\d+")
Matrix = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Head:
    """Add a column that later rules read: the output of the layers in a safetensors file.

    model: file with tensors NAME.weight [out, in] and NAME.bias [out], in the order of the numbers in their names.
    embedding: column of a scorer. activation: between layers. output: of the last one; softmax with `output_index`.
    normalise: embeddings to length 1 before the first layer, as CLIP heads are trained.
    """

    name: ClassVar[str] = "head"
    version: ClassVar[int] = 1
    files: ClassVar[frozenset[str]] = frozenset({"model"})
    model: Annotated[str, at.MinLen(1)] = semantic()
    column: Annotated[str, at.MinLen(1)] = semantic()
    embedding: Annotated[str, at.MinLen(1)] = semantic("image_embedding")
    activation: Literal["none", "relu", "gelu", "tanh"] = semantic("relu")
    output: Literal["none", "sigmoid", "softmax"] = semantic("none")
    output_index: Annotated[int, at.Ge(0)] = semantic(0)
    normalise: bool = semantic(True)

    @classmethod
    def parse(cls, options: Mapping[str, Any] | None, where: str) -> Head:
        rule = build(cls, options, where)
        layers = rule.layers()
        if rule.output_index >= len(layers[-1][0]):
            raise ConfigError(
                f"{where}.output_index: found {rule.output_index}, the last layer has {len(layers[-1][0])}"
            )
        return rule

    def needs(self) -> Needs:
        return Needs(vectors=frozenset({self.embedding}), adds={self.column: pa.float32()})

    def apply(self, work: Workspace) -> None:
        ids, vectors = work.vectors(self.embedding)
        layers = self.layers()
        if len(ids) and vectors.shape[1] != layers[0][0].shape[1]:
            raise ConfigError(
                f"head.embedding: {self.embedding} has {vectors.shape[1]} numbers, {self.model} takes "
                f"{layers[0][0].shape[1]}"
            )
        values = np.empty(len(ids), np.float32)
        for start in range(0, len(ids), _BLOCK_ROWS):
            values[start : start + _BLOCK_ROWS] = self.values_of(vectors[start : start + _BLOCK_ROWS], layers)
        work.add_column(self.column, pa.float32(), ids, values)

    def values_of(self, vectors_ND: NDArray[Any], layers: list[tuple[Matrix, Matrix]]) -> Matrix:
        """The chosen output for every row; computed in float64, so that float32 does not depend on how rows are cut."""
        x_ND = vectors_ND.astype(np.float64)
        if self.normalise:
            lengths_N1 = np.sqrt((x_ND * x_ND).sum(axis=1, keepdims=True))
            x_ND = x_ND / np.where(lengths_N1 > 0, lengths_N1, 1)
        for number, (weight_OI, bias_O) in enumerate(layers):
            x_ND = x_ND @ weight_OI.T + bias_O
            if number < len(layers) - 1:
                x_ND = _activated(x_ND, self.activation)
        chosen: Matrix = x_ND[:, self.output_index]
        if self.output == "softmax":
            powers_NO = np.exp(x_ND - x_ND.max(axis=1, keepdims=True))
            chosen = powers_NO[:, self.output_index] / powers_NO.sum(axis=1)
        if self.output == "sigmoid":
            chosen = 1 / (1 + np.exp(-np.clip(chosen, -700, 700)))
        return chosen

    def layers(self) -> list[tuple[Matrix, Matrix]]:
        """Weight [out, in] and bias [out] of every layer. Raises ConfigError where the file is no such head."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            tensors = load(storage.read_bytes(self.model))
        except (OSError, SafetensorError, KeyError) as error:
            raise ConfigError(f"head.model: {self.model}: cannot be read as safetensors: {error}") from None
        names = [name.removesuffix("weight") for name in tensors if name.endswith("weight")]
        found: list[tuple[Matrix, Matrix]] = []
        for name in sorted(names, key=lambda name: [int(number) for number in _NUMBER.findall(name)]):
            weight_OI = np.atleast_2d(tensors[name + "weight"].astype(np.float64))
            bias_O = tensors.get(name + "bias", np.zeros(len(weight_OI))).astype(np.float64).reshape(-1)
            fits = not found or found[-1][0].shape[0] == weight_OI.shape[1]
            if weight_OI.ndim != 2 or bias_O.shape != weight_OI.shape[:1] or not fits:
                raise ConfigError(f"head.model: {self.model}: layer {name}: found {weight_OI.shape} and {bias_O.shape}")
            found.append((weight_OI, bias_O))
        if not found:
            raise ConfigError(
                f"head.model: {self.model}: found {', '.join(tensors) or 'nothing'}, allowed are NAME.weight"
            )
        return found


def _activated(x_ND: Matrix, name: str) -> Matrix:
    if name == "relu":
        return np.maximum(x_ND, 0)
    if name == "tanh":
        return np.tanh(x_ND)
    if name == "gelu":
        # The tanh form of Hendrycks and Gimpel 2016; within 0.0005 of the exact one.
        x_ND = 0.5 * x_ND * (1 + np.tanh(np.sqrt(2 / np.pi) * (x_ND + 0.044715 * x_ND**3)))
    return x_ND
