"""Rule `long_tail`: common concepts of captions are thinned out, rare ones stay whole, as MetaCLIP does.

After Xu et al. 2023, "Demystifying CLIP Data": a caption is kept if any concept in it draws it, and a concept draws
each of its captions with the chance t / count. So a concept has about t captions of its own choice, rare ones all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import annotated_types as at
import pyarrow as pa

from mmdata.errors import ConfigError, Reason
from mmdata.options import build, semantic
from mmdata.select.lists import read_lines
from mmdata.select.rules import Needs
from mmdata.select.weights import CJK
from mmdata.select.workspace import ID, Workspace, literal, stable_hash_sql

# Runs of letters and digits, or one Chinese, Japanese or Korean sign.
_TERM = rf"[{CJK}]|[^\s\p{{P}}\p{{S}}{CJK}]+"
_MOST_WORDS = 12
_TOLD = 40


@dataclass(frozen=True, kw_only=True)
class LongTail:
    """Keep captions whose concepts are rare, and of common ones about `t` each.

    concepts: file of concepts, one a line; a concept is in a caption where its words stand there one after the other,
    whatever their case (Chinese, Japanese and Korean: sign by sign). ngrams: instead, every run of so many words that
    occurs in at least min_count captions. unmatched: captions without any concept; MetaCLIP drops them.
    """

    name: ClassVar[str] = "long_tail"
    version: ClassVar[int] = 1
    files: ClassVar[frozenset[str]] = frozenset({"concepts"})
    concepts: str = semantic("")
    ngrams: Annotated[int, at.Ge(1), at.Le(4)] | None = semantic(None)
    min_count: Annotated[int, at.Ge(1)] = semantic(2)
    t: Annotated[int, at.Ge(1)] = semantic(20_000)
    unmatched: Literal["drop", "keep"] = semantic("drop")

    @classmethod
    def parse(cls, options: Mapping[str, Any] | None, where: str) -> LongTail:
        rule = build(cls, options, where)
        if bool(rule.concepts) == (rule.ngrams is not None):
            raise ConfigError(f"{where}: allowed is one of concepts: FILE and ngrams: N")
        return rule

    def needs(self) -> Needs:
        return Needs(frozenset({"caption"}))

    def apply(self, work: Workspace) -> None:
        work.db.execute(
            f"CREATE OR REPLACE TEMP TABLE spoken AS SELECT {ID}, {terms_sql('caption')} AS words FROM kept"
        )
        self._match(work)
        work.db.execute("DROP TABLE spoken")
        drawn = stable_hash_sql(work.seed, "long_tail", "concat(text, ':', key)")
        chance = f"{drawn}::DOUBLE / {2.0**64!r}"
        work.db.execute(
            f"CREATE OR REPLACE TEMP TABLE verdict AS SELECT {ID}, "
            f"bool_or({chance} < {self.t}::DOUBLE / number) AS drawn, min((number, text)) AS rarest "
            f"FROM held JOIN concept USING (concept) JOIN kept USING ({ID}) GROUP BY {ID}"
        )
        self._tell(work)
        rarest = "concat(rarest[2], ' is its rarest concept, in ', rarest[1], ' captions')"
        work.drop(
            f"SELECT {ID}, {literal(Reason.LONG_TAIL.value)} AS reason, {rarest} AS detail FROM verdict WHERE NOT drawn"
        )
        if self.unmatched == "drop":
            work.drop(
                f"SELECT {ID}, {literal(Reason.NO_CONCEPT.value)} AS reason, 'no concept in the caption' AS detail "
                f"FROM kept WHERE {ID} NOT IN (SELECT {ID} FROM verdict)"
            )
        for table in ("held", "concept", "verdict"):
            work.db.execute(f"DROP TABLE {table}")

    def _match(self, work: Workspace) -> None:
        """Make tables `held` (mmdata_id, concept) and `concept` (concept, text, number of rows with it)."""
        if self.ngrams is not None:
            grams = _grams_sql(self.ngrams)
            work.db.execute(f"CREATE OR REPLACE TEMP TABLE gram AS SELECT DISTINCT {ID}, text FROM ({grams})")
            work.db.execute(
                "CREATE OR REPLACE TEMP TABLE concept AS SELECT row_number() OVER () AS concept, text, number FROM "
                f"(SELECT text, count(*) AS number FROM gram GROUP BY text HAVING number >= {self.min_count})"
            )
            work.db.execute(
                f"CREATE OR REPLACE TEMP TABLE held AS SELECT {ID}, concept FROM gram JOIN concept USING (text)"
            )
            work.db.execute("DROP TABLE gram")
            return
        with work.registered("lines", pa.table({"line": pa.array(read_lines(self.concepts), pa.string())})):
            work.db.execute(
                "CREATE OR REPLACE TEMP TABLE known AS SELECT row_number() OVER (ORDER BY text) AS concept, text, "
                f"len FROM (SELECT DISTINCT array_to_string({terms_sql('line')}, ' ') AS text, "
                f"len({terms_sql('line')}) AS len FROM lines) WHERE len BETWEEN 1 AND {_MOST_WORDS}"
            )
        lengths = [row[0] for row in work.db.execute("SELECT DISTINCT len FROM known ORDER BY len").fetchall()]
        if not lengths:
            raise ConfigError(f"long_tail.concepts: {self.concepts}: found no concept of 1 to {_MOST_WORDS} words")
        work.db.execute(f"CREATE OR REPLACE TEMP TABLE held ({ID} BIGINT, concept BIGINT)")
        for length in lengths:
            work.db.execute(
                f"INSERT INTO held SELECT DISTINCT {ID}, concept FROM ({_grams_sql(length)}) "
                f"JOIN (FROM known WHERE len = {length}) USING (text)"
            )
        work.db.execute(
            "CREATE OR REPLACE TEMP TABLE concept AS SELECT concept, any_value(text) AS text, count(*) AS number "
            "FROM held JOIN known USING (concept) GROUP BY concept"
        )
        work.db.execute("DROP TABLE known")

    def _tell(self, work: Workspace) -> None:
        """Counts before and after: of the most common concepts, and along the tail at ranks 1, 2, 4, 8, ..."""
        work.db.execute(
            "CREATE OR REPLACE TEMP TABLE tail AS SELECT text, number, count(drawn) FILTER (drawn) AS after, "
            "row_number() OVER (ORDER BY number DESC, text) AS place "
            f"FROM concept LEFT JOIN held USING (concept) LEFT JOIN verdict USING ({ID}) GROUP BY text, number"
        )
        by_place = "SELECT text, number, after FROM tail WHERE place <= {} ORDER BY place"
        spread = "SELECT place, number, after FROM tail WHERE bit_count(place) = 1 ORDER BY place"
        concepts, capped = work.db.execute(f"SELECT count(*), count_if(number > {self.t}) FROM tail").fetchone()
        work.tell(
            {
                "t": self.t,
                "concepts": concepts,
                "capped": capped,
                "head": [list(row) for row in work.db.execute(by_place.format(_TOLD)).fetchall()],
                "tail": [list(row) for row in work.db.execute(spread).fetchall()],
            }
        )
        work.db.execute("DROP TABLE tail")


def terms_sql(text_sql: str) -> str:
    """SQL for the words of a text in small letters, without punctuation; Chinese, Japanese, Korean sign by sign."""
    return f"regexp_extract_all(lower({text_sql}), {literal(_TERM)})"


def _grams_sql(length: int) -> str:
    """Rows of `spoken` with every run of so many words: mmdata_id, text."""
    if length == 1:
        return f"SELECT {ID}, unnest(words) AS text FROM spoken"
    window = f"array_to_string(words[i : i + {length - 1}], ' ')"
    return f"SELECT {ID}, unnest([{window} FOR i IN range(1, len(words) - {length - 2})]) AS text FROM spoken"
