"""tokenise: the same ids as transformers gives, from every form of file, and no torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from tokenizers import ByteLevelBPETokenizer, Tokenizer

from mmdata.errors import ConfigError
from mmdata.text.tokenise import Tokenise
from tests.text.captions import NASTY, through

TEXTS = ["A little girl climbing the stairs .", "Größe café naïve", "一只小狗 dog", "", "x" * 300, "don't stop 😀"]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def byte_bpe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level BPE trained on this project's own words, as GPT-2 stores one: vocab.json and merges.txt."""
    folder = tmp_path_factory.mktemp("bpe")
    tokenizer = ByteLevelBPETokenizer()
    lines = [*TEXTS, *(ROOT / "README.md").read_text(encoding="utf-8").splitlines()]
    tokenizer.train_from_iterator(lines, vocab_size=600, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    tokenizer.save_model(str(folder))
    return folder


@pytest.fixture(scope="module")
def wordpiece(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wordpiece")
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz.'", "girl", "little", "stair"]
    (folder / "vocab.txt").write_text("\n".join([*pieces, *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz")]))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": True})
    )
    return folder


def _as(folder: Path, kind: str, target: Path) -> Path:
    """A copy of a vocabulary folder that says which class of transformers it is for."""
    target.mkdir()
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    settings = {"tokenizer_class": kind, "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    (target / "tokenizer_config.json").write_text(json.dumps(settings))
    return target


def _parsed(path: Path, **options: Any) -> Tokenise:
    return Tokenise.parse({"model": f"local-dir:{path}", **options}, "p.yaml: stages[0].tokenise")


def _ids(stage: Tokenise, text: str) -> list[int]:
    sample = through(stage, text)
    assert sample.columns["text_tokens"] == len(sample.columns["token_ids"])
    return list(sample.columns["token_ids"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wordpiece", "GPT2Tokenizer", "RobertaTokenizer"])
def test_ids_are_those_of_transformers(kind: str, byte_bpe: Path, wordpiece: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder = wordpiece if kind == "wordpiece" else _as(byte_bpe, kind, tmp_path / kind)
    theirs = AutoTokenizer.from_pretrained(str(folder))
    theirs.save_pretrained(str(tmp_path / "saved"))
    for path in (folder, tmp_path / "saved", tmp_path / "saved" / "tokenizer.json"):
        for special in (True, False):
            stage = _parsed(path, ids=True, special_tokens=special)
            assert [_ids(stage, text) for text in TEXTS] == [
                theirs(text, add_special_tokens=special)["input_ids"] for text in TEXTS
            ]


def test_truncation_and_padding_of_the_file_do_not_count(wordpiece: Path, tmp_path: Path) -> None:
    tokenizer = _tokenizer(wordpiece)
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=50)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert through(_parsed(tmp_path), "little girl little girl little girl").columns["text_tokens"] == 8


def _tokenizer(folder: Path) -> Tokenizer:
    stage = _parsed(folder)
    stage.setup()
    return stage._tokenizer


def test_only_the_count_is_written_unless_ids_are_asked_for(wordpiece: Path) -> None:
    columns = through(_parsed(wordpiece), "little girl").columns
    assert columns["text_tokens"] == 4
    assert "token_ids" not in columns


def test_the_hash_is_of_the_tokenizer_not_of_its_place(wordpiece: Path, tmp_path: Path) -> None:
    copy = _as(wordpiece, "BertTokenizer", tmp_path / "copy")
    (copy / "tokenizer_config.json").write_bytes((wordpiece / "tokenizer_config.json").read_bytes())
    assert _parsed(copy).model_sha256 == _parsed(wordpiece).model_sha256
    with (copy / "vocab.txt").open("a") as file:
        file.write("\nmore")
    assert _parsed(copy).model_sha256 != _parsed(wordpiece).model_sha256
    with pytest.raises(ConfigError, match=r"tokenise\.model_sha256: found [0-9a-f]{64} of "):
        _parsed(copy, model_sha256=_parsed(wordpiece).model_sha256)


def test_a_model_that_cannot_be_had_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConfigError) as caught:
        Tokenise.parse({"model": "nobody/nothing"}, "p.yaml: stages[0].tokenise")
    assert str(caught.value).startswith(
        "p.yaml: stages[0].tokenise.model: nobody/nothing: tokenizer.json is neither in the local cache nor could it be"
    )
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "found no tokenizer.json, vocab.txt, or vocab.json with merges.txt there"),
        ({"tokenizer.json": "{}"}, "is no tokenizer that can be read"),
        ({"vocab.json": "{}", "merges.txt": ""}, "vocabulary files of an unnamed kind; write one with transformers"),
        ({"vocab.txt": "a", "tokenizer_config.json": '{"tokenizer_class": "XTokenizer"}'}, "files of XTokenizer"),
    ],
)
def test_a_folder_that_is_no_tokenizer_is_refused(tmp_path: Path, files: dict[str, str], says: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=says):
        _parsed(tmp_path)


def test_torch_and_transformers_are_not_imported(wordpiece: Path) -> None:
    code = (
        "import sys; from mmdata.text.tokenise import Tokenise\n"
        f"stage = Tokenise.parse({{'model': 'local-dir:{wordpiece}'}}, 'x'); stage.setup()\n"
        "assert not {'torch', 'transformers', 'huggingface_hub'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@settings(max_examples=60, deadline=None)
@given(text=NASTY)
def test_any_text_has_tokens(text: str, byte_bpe: Path) -> None:
    stage = _STAGES.setdefault(byte_bpe, _parsed_bpe(byte_bpe))
    sample = through(stage, text)
    assert sample.is_ok
    assert sample.columns["text_tokens"] >= bool(text)


_STAGES: dict[Path, Tokenise] = {}


def _parsed_bpe(folder: Path) -> Tokenise:
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer"}')
    return _parsed(folder)
