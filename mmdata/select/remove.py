"""Rule `remove`: rows that a list names, by key, link, domain or hash, are never in the dataset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import annotated_types as at
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmdata.errors import Reason
from mmdata.options import build, semantic
from mmdata.select.lists import RemovalList, read_removal_list
from mmdata.select.rules import Needs
from mmdata.select.workspace import ID, Identity, Workspace, literal, quoted, root_key_sql

# The host of a link, without user, port and a dot at its end.
_HOST = r"^[A-Za-z][A-Za-z0-9+.-]*://(?:[^@/?#]*@)?([^:/?#@]*[^:/?#@.])"


@dataclass(frozen=True, kw_only=True)
class Remove:
    """Drop what a file lists, one entry a line: keys (with all that was cut from them), URLs, domains with all below
    them, sha256 of the raw bytes, and `phash:` perceptual hashes.

    distance: bits that a perceptual hash may differ in.
    """

    name: ClassVar[str] = "remove"
    version: ClassVar[int] = 1
    files: ClassVar[frozenset[str]] = frozenset({"list"})
    list: Annotated[str, at.MinLen(1)] = semantic()
    distance: Annotated[int, at.Ge(0), at.Le(6)] = semantic(0)

    @classmethod
    def parse(cls, options: Mapping[str, Any] | None, where: str) -> Remove:
        rule = build(cls, options, where)
        read_removal_list(rule.list)
        return rule

    def needs(self) -> Needs:
        listed = read_removal_list(self.list)
        columns = {"url"} if listed.domain else set()
        columns |= {"phash"} if listed.phash else set()
        same = {Identity("url")} if listed.url else set()
        same |= {Identity("raw_sha256")} if listed.sha256 else set()
        return Needs(frozenset(columns), frozenset(same))

    def apply(self, work: Workspace) -> None:
        listed = read_removal_list(self.list)
        if listed.key:
            self._drop_in(work, "key", root_key_sql("key"), "entry", listed.key)
            self._drop_in(work, "key", "key", "entry", listed.key)
        for kind, column in (("url", "url"), ("sha256", "raw_sha256")):
            entries = getattr(listed, kind)
            if entries:
                same = Identity(column)
                self._drop_in(work, kind, quoted(same.name), same.sql("entry"), entries)
        if listed.domain:
            self._drop_domains(work, listed)
        if listed.phash:
            self._drop_hashes(work, np.array(listed.phash, np.uint64))

    def _drop_in(self, work: Workspace, kind: str, of_row: str, of_entry: str, entries: tuple[str, ...]) -> None:
        with work.registered("listed", pa.table({"entry": pa.array(entries, pa.string())})):
            work.drop(self._query(f"listed {kind}", f"kept WHERE {of_row} IN (SELECT {of_entry} FROM listed)"))

    def _drop_domains(self, work: Workspace, listed: RemovalList) -> None:
        host = f"lower(regexp_extract(url, {literal(_HOST)}, 1))"
        # A host and every domain above it: a.b.c, b.c, c.
        above = "[array_to_string(labels[i:], '.') FOR i IN range(1, len(labels) + 1)]"
        with work.registered("listed", pa.table({"entry": pa.array(listed.domain, pa.string())})):
            work.db.execute(
                "CREATE OR REPLACE TEMP TABLE bad_host AS SELECT DISTINCT host FROM (SELECT host, unnest("
                f"{above}) AS domain FROM (SELECT host, string_split(host, '.') AS labels "
                f"FROM (SELECT DISTINCT {host} AS host FROM kept))) WHERE domain IN (SELECT entry FROM listed)"
            )
        work.drop(self._query("listed domain", f"kept WHERE {host} IN (SELECT host FROM bad_host)"))
        work.db.execute("DROP TABLE bad_host")

    def _drop_hashes(self, work: Workspace, listed: NDArray[np.uint64]) -> None:
        found = work.db.execute(f"SELECT {ID}, phash::UBIGINT AS h FROM kept WHERE phash IS NOT NULL").fetchnumpy()
        near = np.zeros(len(found[ID]), bool)
        for entry in listed:  # a list is short beside the rows: a pass over 80 MB of hashes takes 20 ms
            near |= np.bitwise_count(found["h"] ^ entry) <= self.distance
        with work.registered("near", pa.table({ID: found[ID][near]})):
            work.drop(self._query("listed phash", "near"))

    def _query(self, detail: str, source: str) -> str:
        return f"SELECT {ID}, {literal(Reason.REMOVED.value)} AS reason, {literal(detail)} AS detail FROM {source}"
