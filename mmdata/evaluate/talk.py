"""`mmdata chat`: one question about media files, or a conversation line by line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from mmdata.errors import SampleError, SourceError
from mmdata.evaluate.generate import Decoding, generate, prompt_of
from mmdata.evaluate.media_files import medium_of
from mmdata.train.chat import Turn
from mmdata.train.media import Medium
from mmdata.train.restore import Restored
from mmdata.train.sections import KINDS, Kind


class Conversation:
    """Turns so far, about media that are shown before the first one.

    Raises SourceError where a file cannot be read or the model has no encoder for it.
    """

    def __init__(self, restored: Restored, files: Mapping[Kind, Sequence[str]], decoding: Decoding) -> None:
        self._restored, self._decoding = restored, decoding
        self.turns: list[Turn] = []
        self.media: dict[Kind, list[Medium]] = {}
        for kind in (kind for kind in KINDS if files.get(kind)):
            if kind not in restored.specs:
                known = ", ".join(restored.specs) or "nothing"
                raise SourceError(f"{files[kind][0]}: this model has no encoder for {kind}; it takes {known}")
            try:
                self.media[kind] = [medium_of(path, restored.specs[kind]) for path in files[kind]]
            except SampleError as error:
                raise SourceError(str(error)) from error

    def ask(self, text: str) -> str:
        """The answer, which becomes a part of the conversation."""
        shown = [] if self.turns else [(kind, "") for kind, found in self.media.items() for _ in found]
        said = [("text", f"\n{text}" if shown else text)] if text else []
        turns = [*self.turns, Turn("user", (*shown, *said))]
        try:
            prompt = prompt_of("chat", turns, self.media, self._restored.chat, self._restored.specs)
        except SampleError as error:
            raise SourceError(str(error)) from error
        answer = generate(self._restored, [prompt], self._decoding)[0]
        self.turns = [*turns, Turn("assistant", (("text", answer),))]
        return answer


def talk(conversation: Conversation, lines: Iterable[str], tell: Callable[[str], None]) -> None:
    """Answer line after line until they end; empty ones are passed over."""
    for line in lines:
        if line.strip():
            tell(conversation.ask(line.strip()))
