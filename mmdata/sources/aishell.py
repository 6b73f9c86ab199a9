"""AISHELL-1 and AISHELL-2: Mandarin speech read aloud, in the layouts that they are published in.

AISHELL-1 (Bu et al. 2017), `data_aishell`: wav/{train,dev,test}/<speaker>/<utterance>.wav, or the speakers' archives
wav/<speaker>.tar.gz as they were downloaded, and transcript/aishell_transcript_v0.8.txt. An archive is read in place:
it is unpacked into a temporary file once for the plan and once for every shard that has rows of it, so for many shards
unpack them beforehand. An archive of a speaker who is also there unpacked is left alone.
AISHELL-2 (Du et al. 2018), a folder of wav.scp and trans.txt: <utterance> and its path or its text.

All transcripts are held in memory (about 300 B each).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal

import annotated_types as at
import pyarrow as pa

from mmdata.errors import SourceError
from mmdata.options import operational, semantic
from mmdata.sources import inputs as files
from mmdata.sources.columns import layout, to_batch
from mmdata.sources.decompress import open_seekable
from mmdata.sources.local_files import Place, media_columns, place_of
from mmdata.sources.rows import BATCH_ROWS, Block, InputFile
from mmdata.sources.tar_index import entries

_OWN = ("utterance", "speaker", "subset", "transcript")
_SOUND, _ARCHIVE = ".wav", ".tar.gz"
_SCP, _TEXT = "wav.scp", "trans.txt"
# A blank with a Chinese sign on either side only parts words; between two Latin words it stays.
_WORD_BLANK = re.compile(r"(?<=[\u3400-\u9fff]) +| +(?=[\u3400-\u9fff])")


@dataclass(frozen=True, slots=True)
class _Utterance:
    """One sound with what is known of it; error says why there is none."""

    name: str
    place: Place | None = None
    speaker: str | None = None
    subset: str | None = None
    transcript: str | None = None
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class Aishell:
    """Rows of sounds with their transcripts; one that has only the other half is a row with the reason."""

    kind: ClassVar[str] = "aishell"
    version: ClassVar[int] = 1

    path: Annotated[str, at.Len(1)] = operational()  # the folder with `wav` and `transcript`, or with wav.scp
    modality: Literal["audio_text"] = semantic("audio_text")
    word_spaces: bool = semantic(False)  # keep the blanks between words in captions; `transcript` always has them
    limit: Annotated[int, at.Ge(1)] | None = semantic(None)

    def inputs(self) -> list[InputFile]:
        found, _ = _look(self.path)
        return [files.folder_input(self.path, list(found.values()), (_SOUND, _ARCHIVE))]

    def batches(self, input: InputFile) -> Iterator[Any]:
        found, transcript = _look(input.path)
        texts, bad_lines = _table(found[transcript])
        first = _kaldi(input.path, found) if transcript == _TEXT else _sounds(found)
        rows = itertools.chain(_joined(first, texts), bad_lines)
        place = layout(_OWN, {}, (), input.path)
        row = 0
        while some := list(itertools.islice(rows, BATCH_ROWS)):
            errors = {index: each.error for index, each in enumerate(some) if each.error}
            own = zip(*((each.name, each.speaker, each.subset, each.transcript) for each in some), strict=True)
            captions = [self._caption(each.transcript) for each in some]
            fixed = media_columns([each.place for each in some])
            fixed |= {"caption": pa.array(captions, pa.string()), "language": pa.array(["zh"] * len(some))}
            block = Block(_OWN, [pa.array(values, pa.string()) for values in own], len(some), errors)
            yield to_batch(block, place, row, input.path, fixed)
            row += len(some)

    def _caption(self, transcript: str | None) -> str | None:
        return transcript if transcript is None or self.word_spaces else _WORD_BLANK.sub("", transcript)


def _look(path: str) -> tuple[dict[str, files.Found], str]:
    """Files by relative name, and the name of the transcript. Raises SourceError where the layout is neither."""
    with files.unreadable(path):
        if not files.is_folder(path):
            raise SourceError(f"{path}: no such folder")
        found = {file.relative: file for file in files.tree(path)}
    transcripts = [name for name in found if name.startswith("transcript/") and name.endswith(".txt")]
    if len(transcripts) == 1 and any(name.startswith("wav/") for name in found):
        return found, transcripts[0]
    if _SCP in found and _TEXT in found:
        return found, _TEXT
    raise SourceError(
        f"{path}: found neither AISHELL-1 (wav/ and one text in transcript/) nor AISHELL-2 ({_SCP} and {_TEXT})"
    )


def _table(file: files.Found) -> tuple[dict[str, str], list[_Utterance]]:
    """Lines of `<utterance> <value>` as a dict, and a row for each that cannot be in it."""
    texts: dict[str, str] = {}
    bad: list[_Utterance] = []
    for number, line in enumerate(files.read(file.path).splitlines(), 1):
        where = f"{file.relative} line {number}"
        try:
            name, *rest = line.decode("utf-8-sig").split(maxsplit=1)
        except UnicodeDecodeError:
            bad.append(_Utterance(where, error=f"{where} is not UTF-8"))
        except ValueError:
            continue  # an empty line
        else:
            if name in texts:
                bad.append(_Utterance(name, error=f"{where}: {name[:100]} is there twice"))
            else:
                texts[name] = rest[0].strip() if rest else ""
    return texts, bad


def _joined(sounds: Iterator[_Utterance], texts: dict[str, str]) -> Iterator[_Utterance]:
    """Every sound with its text, then every text without a sound."""
    seen: set[str] = set()
    for sound in sounds:
        if sound.name in seen:
            sound = replace(sound, error=sound.error or "this utterance has a wav more than once")
        elif not texts.get(sound.name):
            sound = replace(sound, error=sound.error or "has no transcript")
        seen.add(sound.name)
        yield replace(sound, transcript=texts.get(sound.name))
    for name, text in texts.items():
        if name not in seen:
            yield _Utterance(name, transcript=text, error="has a transcript but no wav")


def _sounds(found: dict[str, files.Found]) -> Iterator[_Utterance]:
    """AISHELL-1's, those that lie unpacked first."""
    unpacked = set()
    for name, file in found.items():
        if name.startswith("wav/") and name.lower().endswith(_SOUND):
            sound = _sound(name, (file.path, 0, file.size_bytes))
            unpacked.add(sound.speaker)
            yield sound
    for name, file in found.items():
        speaker = name.rpartition("/")[2].removesuffix(_ARCHIVE)
        if name.startswith("wav/") and name.endswith(_ARCHIVE) and speaker not in unpacked:
            yield from _archived(file)


def _archived(file: files.Found) -> Iterator[_Utterance]:
    with open_seekable(file.path) as archive:
        for entry in entries(archive, file.path):
            if entry.is_file and entry.name.lower().endswith(_SOUND):
                yield _sound(entry.name, (file.path, entry.offset, entry.size))


def _sound(name: str, place: Place) -> _Utterance:
    """By its name `.../<subset>/<speaker>/<utterance>.wav`."""
    *folders, last = name.removeprefix("./").removeprefix("wav/").split("/")
    subset, speaker = [None, None, *folders][-2:]
    return _Utterance(last[: -len(_SOUND)], place, speaker, subset)


def _kaldi(root: str, found: dict[str, files.Found]) -> Iterator[_Utterance]:
    """AISHELL-2's: paths in wav.scp are relative to its folder; a command instead of a path is never run."""
    paths, bad_lines = _table(found[_SCP])
    for name, path in paths.items():
        place = place_of(root, path)
        folders = path.split("/")[:-1]
        if isinstance(place, str):
            yield _Utterance(name, speaker=folders[-1] if folders else None, error=place)
        else:
            yield _Utterance(name, place, folders[-1] if folders else None)
    yield from bad_lines
