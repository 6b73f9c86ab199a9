"""What a sample counts for: one, its length in time, or the tokens that a trainer will see of it. Whole numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from mmdata.errors import ConfigError
from mmdata.select.expression import parse_expression
from mmdata.select.rules import Needs
from mmdata.select.workspace import Workspace, literal

# A run of signs without white space, or one Chinese, Japanese or Korean sign.
CJK = r"\x{3040}-\x{30ff}\x{3400}-\x{9fff}\x{ac00}-\x{d7af}\x{f900}-\x{faff}\x{20000}-\x{3ffff}"
WORD = rf"[{CJK}]|[^\s{CJK}]+"
MEDIA_TOKENS = {"image": 256.0, "video_s": 64.0, "audio_s": 25.0}  # ViT-L/14 at 224 px; a frame of 64 a second; 40 ms
_DOCUMENT = {"caption": pa.string(), "modality": pa.string(), "messages": pa.string(), "num_images": pa.int32()}
_DURATION = {"duration_s": pa.float64()}


def words_sql(text_sql: str) -> str:
    """SQL for the number of words of a text, as `text_tokens` of the index has it."""
    return f"coalesce(len(regexp_extract_all({text_sql}, {literal(WORD)})), 0)"


@dataclass(frozen=True)
class Unit:
    """samples, hours or tokens.

    tokens: an SQL expression, or tokens of an image, of a second of video, of a second of sound.
    """

    name: str
    tokens: str | Mapping[str, float]

    @classmethod
    def of(cls, name: str, tokens: str | Mapping[str, float], where: str) -> Unit:
        """Raises ConfigError for tokens that are given in vain, or wrong."""
        if tokens and name != "tokens":
            raise ConfigError(f"{where}.tokens: is for unit: tokens, found unit: {name}")
        if isinstance(tokens, str):
            if tokens:
                parse_expression(tokens, f"{where}.tokens")
        elif not set(tokens) <= set(MEDIA_TOKENS) or any(number < 0 for number in tokens.values()):
            raise ConfigError(f"{where}.tokens: found {dict(tokens)}, allowed are {', '.join(MEDIA_TOKENS)}: a number")
        return cls(name, tokens)

    @property
    def size(self) -> float:
        """Weight of one unit; an hour is 3.6 million milliseconds, so that weights are whole numbers."""
        return 3_600_000.0 if self.name == "hours" else 1.0

    @property
    def needs(self) -> Needs:
        if self.name == "samples":
            return Needs()
        if self.name == "hours":
            return Needs(optional=_DURATION)
        if isinstance(self.tokens, str) and self.tokens:
            return Needs(parse_expression(self.tokens, "tokens").columns)
        return Needs(optional={**_DURATION, **_DOCUMENT})

    def sql(self) -> str:
        """SQL for the weight of a row of `kept`: BIGINT, null where it has none."""
        if self.name == "samples":
            return "1::BIGINT"
        if self.name == "hours":
            return "round(duration_s * 1000)::BIGINT"
        if isinstance(self.tokens, str) and self.tokens:
            return f"round({parse_expression(self.tokens, 'tokens').sql})::BIGINT"
        of = {**MEDIA_TOKENS, **(self.tokens if isinstance(self.tokens, Mapping) else {})}
        media = (
            f"CASE modality WHEN 'image_text' THEN {of['image']!r} "
            f"WHEN 'video_text' THEN ceil(duration_s * {of['video_s']!r}) "
            f"WHEN 'audio_text' THEN ceil(duration_s * {of['audio_s']!r}) "
            f"ELSE coalesce(num_images, 0) * {of['image']!r} END"
        )
        return f"({words_sql('coalesce(caption, messages)')} + round({media}))::BIGINT"

    def check(self, work: Workspace) -> None:
        """Raise ConfigError where a kept row has no weight."""
        without, first = work.db.execute(
            f"SELECT count(*), min(key) FROM kept WHERE coalesce({self.sql()}, -1) < 0"
        ).fetchone()
        if without:
            raise ConfigError(
                f"balance: {without} rows have no {self.name} to count, the first is {first}; "
                "drop them with a rule before (where: {expr: ...}), or count in another unit"
            )
