"""Finding and loading a Hugging Face tokenizer: a folder, a tokenizer.json, or a name on the hub.

Only the package `tokenizers` reads it. transformers' AutoTokenizer knows more forms, but imports torch (five seconds
and 300 MB a worker), so the three forms that nearly all models come in are read here, and anything else is refused with
the way to convert it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmdata.errors import ConfigError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

LOCAL = "local-dir:"
_TOKENIZER, _SETTINGS = "tokenizer.json", "tokenizer_config.json"
_WORDPIECE = {"BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer", "MPNetTokenizer"}
_BYTE_BPE = {"GPT2Tokenizer", "RobertaTokenizer"}
_CONVERT = "write one with transformers: AutoTokenizer.from_pretrained(...).save_pretrained(FOLDER)"


def find(model: str, revision: str) -> Path:
    """The folder or file that `model` means: `local-dir:PATH`, or a name on the hub, downloaded unless it is here.

    Raises ConfigError, in one line, where there is none.
    """
    if model.startswith(LOCAL):
        path = Path(model.removeprefix(LOCAL))
        if path.is_file() or (path.is_dir() and _files(path)):
            return path
        raise ConfigError(f"{path}: found no {_TOKENIZER}, vocab.txt, or vocab.json with merges.txt there")
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(model, _TOKENIZER, revision=revision))
    except (OSError, ValueError) as error:  # all that the hub's client raises: no network, no such name, no such file
        why = type(error).__name__
    raise ConfigError(
        f"{model}: {_TOKENIZER} is neither in the local cache nor could it be had from the hub ({why}); "
        f"give {LOCAL}FOLDER, or run once with a network and HF_HUB_OFFLINE unset"
    )


def sha256_of(path: Path) -> str:
    """Of the bytes that make the tokenizer: of its file, or of all files of its folder that are read."""
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else _files(path):
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def load(path: Path) -> Tokenizer:
    """The tokenizer, without the truncation and padding that its file may ask for. Raises ConfigError."""
    from tokenizers import Tokenizer

    try:
        files = _files(path) if path.is_dir() else [path]
        if path.is_file() or files[0].name == _TOKENIZER:
            tokenizer = Tokenizer.from_file(str(files[0]))
        else:
            tokenizer = _from_vocabulary(path)
    except ConfigError:
        raise
    except Exception as error:  # the library raises bare Exception for files that it cannot read
        raise ConfigError(f"{path}: is no tokenizer that can be read: {error}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _files(folder: Path) -> list[Path]:
    """The files of a folder that make its tokenizer, none where it has none."""
    for names in ((_TOKENIZER,), ("vocab.txt",), ("vocab.json", "merges.txt")):
        if all((folder / name).is_file() for name in names):
            settings = [_SETTINGS] if names[0] != _TOKENIZER and (folder / _SETTINGS).is_file() else []
            return [folder / name for name in (*names, *settings)]
    return []


def _from_vocabulary(folder: Path) -> Tokenizer:
    """WordPiece as BERT has it, or byte-level BPE as GPT-2 and RoBERTa have it, from their vocabulary files."""
    from tokenizers import BertWordPieceTokenizer, ByteLevelBPETokenizer

    settings = _settings(folder)
    kind = str(settings.get("tokenizer_class", "")).removesuffix("Fast")
    made: Tokenizer
    if (folder / "vocab.txt").is_file() and kind in _WORDPIECE | {""}:
        made = BertWordPieceTokenizer(
            str(folder / "vocab.txt"),
            lowercase=bool(settings.get("do_lower_case", True)),
            strip_accents=settings.get("strip_accents"),
        )._tokenizer
        return made
    if (folder / "vocab.json").is_file() and kind in _BYTE_BPE:
        has_space = bool(settings.get("add_prefix_space"))
        made = ByteLevelBPETokenizer(
            str(folder / "vocab.json"), str(folder / "merges.txt"), add_prefix_space=has_space
        )._tokenizer
        if kind == "RobertaTokenizer":
            from tokenizers.processors import RobertaProcessing

            end, start = made.token_to_id("</s>"), made.token_to_id("<s>")
            if end is None or start is None:
                raise ConfigError(f"{folder}: found no <s> and </s> in vocab.json, which {kind} needs")
            made.post_processor = RobertaProcessing(("</s>", end), ("<s>", start), add_prefix_space=has_space)
        return made
    raise ConfigError(
        f"{folder}: found no {_TOKENIZER}, and vocabulary files of {kind or 'an unnamed kind'}; {_CONVERT}"
    )


def _settings(folder: Path) -> Mapping[str, Any]:
    path = folder / _SETTINGS
    settings = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return settings if isinstance(settings, dict) else {}
