"""Large JSON arrays and objects, read a member at a time. Behind a damaged one nothing can be found: it is an error."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any, TextIO

from mmdata.errors import SourceError
from mmdata.sources.decompress import LINE_BYTES

_CHUNK_CHARS = 1 << 20
_SPACE = " \t\r\n"
_NUMBER = ".eE"  # what may follow the digits of a number
_CLOSING = {"[": "]", "{": "}"}
_WHAT = {"[": "item {} of the array", "{": "member {} of the object"}


class Scanner:
    """Where the reading of a JSON text stands. Raises SourceError where the text is damaged or cut."""

    def __init__(self, path: str, text: TextIO) -> None:
        self._path = path
        self._text = text
        self._decoder = json.JSONDecoder()
        self._buffer = ""
        self._place = 0
        self._before = 0  # characters before the buffer
        self._what = "the file"  # what is being read, for messages

    def peek(self) -> str:
        """The next character that is no space, or "" at the end."""
        while True:
            buffer, place = self._buffer, self._place
            while place < len(buffer) and buffer[place] in _SPACE:
                place += 1
            self._place = place
            if place < len(buffer):
                return buffer[place]
            if not self._more():
                return ""

    def value(self) -> tuple[Any, int]:
        """The value that begins here, and how many characters it has."""
        while True:
            self.peek()
            try:
                value, end = self._decoder.raw_decode(self._buffer, self._place)
                if self._buffer[end] not in _NUMBER:  # a number at the end of a piece may go on in the next one
                    break
                raise ValueError(f"found {self._buffer[self._place : end + 1]!r}")
            except (ValueError, IndexError, RecursionError) as error:
                if len(self._buffer) - self._place > LINE_BYTES or not self._more():
                    why = "it ends too early" if isinstance(error, IndexError) else error
                    raise SourceError(f"{self._path}: {self._what} is not JSON, or the file is cut: {why}") from None
        length = end - self._place
        self._place = end
        return value, length

    def members(self, opening: str) -> Iterator[tuple[int, str | None]]:
        """Number and key (None in an array) of every member; whoever asks reads its value before the next one.

        opening: "[" or "{".
        """
        self._take(opening)
        for number in itertools.count():
            self._what = _WHAT[opening].format(number)
            if self.peek() == _CLOSING[opening] and number == 0:
                break
            yield number, self._key() if opening == "{" else None
            self._what = _WHAT[opening].format(number + 1)
            if self.peek() == _CLOSING[opening]:
                break
            self._take(",")
        self._place += 1

    def skip(self) -> None:
        """Pass over the value that begins here; of a large array no more than one item is in memory."""
        if self.peek() == "[":
            for _ in self.members("["):
                self.value()
        else:
            self.value()

    def expect_end(self, what: str) -> None:
        """Raise SourceError where anything but space follows."""
        if self.peek():
            raise SourceError(f"{self._path}: text follows the end of the {what}")

    def _key(self) -> str:
        key, _ = self.value()
        if not isinstance(key, str):
            raise SourceError(f"{self._path}: {self._what}: found {key!r}, wanted a name in quotes")
        self._take(":")
        return key

    def _take(self, wanted: str) -> None:
        found = self.peek()
        if not found:
            raise SourceError(f"{self._path}: {self._what} is not JSON, or the file is cut: it ends too early")
        if found != wanted:
            place = self._before + self._place
            raise SourceError(f"{self._path}: {self._what}: found {found!r} at character {place}, wanted {wanted!r}")
        self._place += 1

    def _more(self) -> bool:
        """Read on; false at the end. A longer piece each time, so that a long value is not tried a thousand times."""
        more = self._text.read(max(_CHUNK_CHARS, len(self._buffer) - self._place))
        self._before += self._place
        self._buffer, self._place = self._buffer[self._place :] + more, 0
        return bool(more)
