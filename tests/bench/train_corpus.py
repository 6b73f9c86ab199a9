"""The mixed-length multimodal data of the trainers' race: lengths from train_lengths.json, pictures from the demo."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench import corpus
from tests.train import shelf

LENGTHS = Path(__file__).with_name("train_lengths.json")
PICTURE_TOKENS = 49


@dataclass(frozen=True)
class Drawn:
    """A sample to be: tokens of its text, and whether it has a picture."""

    text_tokens: int
    has_picture: bool

    @property
    def tokens(self) -> int:
        return self.text_tokens + PICTURE_TOKENS * self.has_picture


def draw(number: int) -> list[Drawn]:
    """So many samples, as even a draw of the distribution as their number allows, in mixed order."""
    found = []
    kinds = json.loads(LENGTHS.read_text())["kinds"]
    for kind in kinds:
        members = round(number * kind["share"])
        low, high = np.log(kind["text_tokens"])
        for place in (np.arange(members) + 0.5) / max(1, members):
            found.append(Drawn(round(float(np.exp(low + place * (high - low)))), kind["pictures"] > 0))
    return [found[place] for place in np.random.default_rng(17).permutation(len(found))]


def write(folder: Path, drawn: list[Drawn], tokenizer: Any) -> str:
    """An instruct dataset of these samples, as emit writes them, in `folder`; texts are words of one token each."""
    words = _words(tokenizer)
    rng = np.random.default_rng(5)
    pictures = sorted(corpus.build(folder / "pictures", len(drawn)).iterdir())
    samples = []
    for number, sample in enumerate(drawn):
        text = [words[place] for place in rng.integers(0, len(words), sample.text_tokens)]
        asked, told = " ".join(text[: len(text) // 2]), " ".join(text[len(text) // 2 :])
        question = [{"type": "image"}] * sample.has_picture + [shelf.text(asked)]
        parts = {"000.jpg": pictures[number].read_bytes()} if sample.has_picture else {}
        samples.append(shelf.Written(f"race-{number:012d}", messages=shelf.asked(question, told), parts=parts))
    return shelf.write(folder / "dataset", "instruct", samples)


def _words(tokenizer: Any) -> list[str]:
    """Words that are one token each, also at the start of a text."""
    vocabulary = tokenizer.get_vocab()
    plain = (token for token in sorted(vocabulary) if token.isascii() and token.isalpha() and token.islower())
    return [token for token in plain if len(token) > 2 and f"\u0120{token}" in vocabulary]
