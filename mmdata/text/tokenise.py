"""Stage tokenise: how many tokens a caption is to a model, and their ids if wanted."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import annotated_types as at

from mmdata.errors import ConfigError
from mmdata.options import build, operational, semantic
from mmdata.sample import Sample
from mmdata.shards.ledger import MODALITIES
from mmdata.stage import Resources
from mmdata.text import tokenizer_file


@dataclass(kw_only=True)
class Tokenise:
    """text_tokens: number of tokens of the caption. token_ids: their ids, with `ids`. Nothing is truncated or padded.

    model: `local-dir:PATH` of a folder or a tokenizer.json (BPE, WordPiece, Unigram), or a name on the
    Hugging Face hub.
    """

    name: ClassVar[str] = "tokenise"
    version: ClassVar[int] = 1
    modalities: ClassVar[frozenset[str]] = frozenset(MODALITIES)
    reads: ClassVar[frozenset[str]] = frozenset({"caption"})
    writes: ClassVar[frozenset[str]] = frozenset({"text_tokens", "token_ids"})
    isolated: ClassVar[bool] = True
    resources: ClassVar[Resources] = Resources()

    model: Annotated[str, at.Len(1)] = semantic()
    revision: Annotated[str, at.Len(1)] = semantic("main")  # of a model on the hub
    special_tokens: bool = semantic(True)  # count what the model puts around a text, for instance [CLS] and [SEP]
    ids: bool = semantic(False)
    # Filled in when the pipeline is read: the hash is part of the config's, and a given one is checked; the file is
    # what the stage opens, since its process has no network, no home and no environment.
    model_sha256: str = semantic("")
    file: str = operational("")
    batch_size: Annotated[int, at.Ge(1)] = operational(16)

    @classmethod
    def parse(cls, options: Mapping[str, Any], where: str) -> Tokenise:
        """The stage from a pipeline file, its tokenizer found and hashed. Raises ConfigError where there is none."""
        stage = build(cls, options, where)
        try:
            path = tokenizer_file.find(stage.model, stage.revision).absolute()
            tokenizer_file.load(path)
        except ConfigError as error:
            raise ConfigError(f"{where}.model: {error}") from None
        found = tokenizer_file.sha256_of(path)
        if stage.model_sha256 not in ("", found):
            raise ConfigError(f"{where}.model_sha256: found {found} of {path}, allowed is {stage.model_sha256}")
        return dataclasses.replace(stage, model_sha256=found, file=str(path))

    def setup(self) -> None:
        path = Path(self.file) if self.file else tokenizer_file.find(self.model, self.revision)
        self._tokenizer = tokenizer_file.load(path)

    def process(self, samples: list[Sample]) -> list[Sample]:
        for sample in samples:
            caption = sample.columns.get("caption") or ""
            encoded = self._tokenizer.encode(_sound(caption), add_special_tokens=self.special_tokens)
            sample.columns["text_tokens"] = len(encoded)
            if self.ids:
                sample.columns["token_ids"] = encoded.ids
        return samples


def _sound(text: str) -> str:
    """`text` with lone surrogates, which are no characters, replaced: the tokenizer takes UTF-8 only."""
    return text.encode("utf-8", "replace").decode("utf-8")
