"""The long tail of concepts, before and after: what a rule `long_tail` told, or the words of captions without one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from mmdata.emit.report_rows import Rows, texts
from mmdata.emit.report_rules import AppliedRule
from mmdata.select.long_tail import terms_sql
from mmdata.shards import ledger
from mmdata.text.stop_words import ALL

HEAD = 15  # concepts shown by name
_CAPTION_CHARS = 2000  # of which words are counted


@dataclass(frozen=True)
class Tail:
    """Captions by concept. head: the most common, with captions before and after. curve: rank, before, after.

    rule: number of the rule that thinned them out, at about `t` captions each; None where words were counted.
    """

    concepts: int
    head: list[tuple[str, int, int]]
    curve: list[tuple[int, int, int]]
    rule: int | None = None
    t: int | None = None
    capped: int = 0


def tails_of(rows: Rows, rules: Sequence[AppliedRule], shards: Sequence[int]) -> list[Tail]:
    """One for each rule `long_tail`; without any, the words of captions in `shards`, where selection has run."""
    told = [
        Tail(
            rule.facts["concepts"],
            [(text, before, after) for text, before, after in rule.facts["head"][:HEAD]],
            [(rank, before, after) for rank, before, after in rule.facts["tail"]],
            rule.number,
            rule.facts["t"],
            rule.facts["capped"],
        )
        for rule in rules
        if rule.name == "long_tail" and rule.facts
    ]
    if told or not rows.has_selection:
        return told
    words = _words(rows, shards)
    return [words] if words else []


def _words(rows: Rows, shards: Sequence[int]) -> Tail | None:
    tables = []
    for shard in shards:
        table = ledger.read(rows.shards[shard].ledger, ["caption"])
        places = {"shard": pa.repeat(shard, table.num_rows), "position": range(table.num_rows)}
        tables.append(pa.table({"caption": texts(table, "caption"), **places}))
    stops = ", ".join(f"'{word}'" for word in sorted(ALL) if "'" not in word)
    caption = f"left(caption, {_CAPTION_CHARS})"
    found = rows.ask_with(
        pa.concat_tables(tables),
        f"""
        WITH spoken AS (
            SELECT fate, list_distinct({terms_sql(caption)}) AS words FROM given JOIN rows USING (shard, position)
            WHERE had AND NOT removed AND caption IS NOT NULL
        ), counted AS (
            SELECT word, count(*) AS before, count_if(fate = 'kept') AS after FROM (SELECT fate, unnest(words) AS word
            FROM spoken) WHERE word NOT IN ({stops}) AND NOT regexp_full_match(word, '[a-z]') GROUP BY word
        ), ranked AS (
            SELECT *, row_number() OVER (ORDER BY before DESC, word) AS place, count(*) OVER () AS words FROM counted
        )
        SELECT place, word, before, after, words FROM ranked
        WHERE place <= {HEAD} OR bit_count(place) = 1 OR place = words ORDER BY place
        """,
    )
    if not found:
        return None
    head = [(word, before, after) for place, word, before, after, _ in found if place <= HEAD]
    words = found[-1][-1]
    curve = [(place, before, after) for place, _, before, after, _ in found if place & place - 1 == 0 or place == words]
    return Tail(words, head, curve)
