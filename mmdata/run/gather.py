"""Rows of a shard to samples with their bytes: what is stored is read, what is linked is fetched, as it comes.

A row has one medium, in its part `raw`; a document has a list of them, in `raw.000`, `raw.001`, ... by their places.
"""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from mmdata.config import FetchOptions
from mmdata.errors import Reason, SampleError
from mmdata.fetch.blocklist import read_hash_list
from mmdata.fetch.engine import fetch_all
from mmdata.fetch.links import Fetched, Link, check_bytes
from mmdata.run.document_media import DocumentMedia
from mmdata.run.plan import ShardPlan
from mmdata.run.removals import Removals
from mmdata.sample import RAW, Sample, sample_key
from mmdata.sources.media import MediaPlace, MediaReader
from mmdata.sources.rows import ROW_FIELDS
from mmdata.stage import OWN

_NO_ANSWER = "the fetcher gave no answer for this link"


class Gatherer:
    """How the rows of one shard become samples.

    removals: what is listed there is not asked for, and not kept where it comes under another name.
    media_column: of Parquet, as the source says it. per_host, forbidden_ports: as `fetch_all` takes them.
    scratch: a folder for media of documents that wait for others.
    """

    def __init__(
        self,
        plan: ShardPlan,
        fetch: FetchOptions,
        *,
        removals: Removals,
        media_column: str,
        per_host: int,
        forbidden_ports: frozenset[int],
        scratch: Path,
    ) -> None:
        self._plan = plan
        self._fetch = fetch
        self._removals = removals
        self._media_column = media_column
        self._per_host = per_host
        self._forbidden_ports = forbidden_ports
        self._scratch = scratch
        self._max_bytes = int(fetch.max_mb * 1e6)
        self._blocked: Container[str] = read_hash_list(fetch.hash_blocklist) if fetch.hash_blocklist else ()

    def samples(self, rows: pa.Table, *, with_own: bool) -> Iterator[Sample]:
        """A sample for every row, in the order its bytes come in; with_own: the source's own columns in its column."""
        linked: dict[str, Sample] = {}
        links: list[Link] = []
        stored: list[tuple[Sample, MediaPlace, str | None]] = []
        documents: list[DocumentMedia] = []
        owns = _owns(rows) if with_own else itertools.repeat(None)
        for row, own in zip(rows.select([*ROW_FIELDS.names, "number"]).to_pylist(), owns, strict=False):
            sample = self._sample(row)
            if own is not None:
                sample.columns[OWN] = own
            if row["row_error"] == Reason.REMOVED.value or self._removals.has_row(sample.key, row):
                sample.end(Reason.REMOVED)
                yield sample
            elif row["row_error"]:
                sample.end(Reason.ROW_ERROR, row["row_error"])
                yield sample
            elif row["messages"] is not None:
                documents.append(DocumentMedia(sample, row["messages"], row["media_list"] or "[]", self._scratch))
            elif row["media_path"]:
                place = MediaPlace(row["media_path"], row["media_offset"], row["media_size"], row["media_row"])
                stored.append((sample, place, row["expected_sha256"]))
            else:
                linked[sample.key] = sample
                links.append(Link(sample.key, row["url"] or "", row["expected_sha256"]))
        with MediaReader(self._media_column, self._max_bytes) as reader:
            for index, data in reader.read_many(place for _, place, _ in stored):
                sample, _, expected = stored[index]
                yield _had(sample, self._checked(sample.key, data, expected))
        yield from self._linked(linked, links)
        yield from self._documents(documents)

    def _linked(self, linked: dict[str, Sample], links: list[Link]) -> Iterator[Sample]:
        for fetched in self._fetch_all(links):
            yield _had(linked.pop(fetched.key), fetched)
        for sample in linked.values():
            sample.end(Reason.INTERNAL, _NO_ANSWER)
            yield sample

    def _documents(self, documents: list[DocumentMedia]) -> Iterator[Sample]:
        """Documents in the order in which they are complete; first those that wait for no link."""
        waiting: dict[str, DocumentMedia] = {}
        with MediaReader(max_bytes=self._max_bytes) as reader:

            def read(key: str, place: MediaPlace, expected: str | None) -> Fetched:
                ((_, data),) = reader.read_many([place])
                return self._checked(key, data, expected)

            for document in documents:
                waiting |= dict.fromkeys(document.links, document)
                if document.is_complete:
                    yield document.finish(read, self._max_bytes)
            links = [link for document in documents for link in document.links.values()]
            for fetched in self._fetch_all(links):
                document = waiting.pop(fetched.key)
                document.keep(fetched)
                if document.is_complete:
                    yield document.finish(read, self._max_bytes)
            for key, document in waiting.items():
                document.keep(Fetched(key).end(Reason.INTERNAL, _NO_ANSWER))
                if document.is_complete:
                    yield document.finish(read, self._max_bytes)

    def _fetch_all(self, links: list[Link]) -> Iterator[Fetched]:
        fetched = fetch_all(
            links,
            self._fetch,
            per_host=self._per_host,
            forbidden_ports=self._forbidden_ports,
            blocklist=self._blocked,
        )
        return map(self._heeded, fetched)

    def _heeded(self, fetched: Fetched) -> Fetched:
        """Without its bytes where they are listed."""
        return fetched.end(Reason.REMOVED) if self._removals.has("sha256", fetched.sha256) else fetched

    def _checked(self, key: str, data: bytes | SampleError, expected: str | None) -> Fetched:
        """What was read from storage as if it had been fetched."""
        fetched = Fetched(key, attempts=1)
        if isinstance(data, SampleError):
            return fetched.end(data.reason, data.detail)
        fetched.data, fetched.num_bytes = data, len(data)
        return self._heeded(check_bytes(fetched, expected, self._blocked))

    def _sample(self, row: dict[str, Any]) -> Sample:
        columns = {
            "source": self._plan.source,
            "row": row["number"],
            "modality": self._plan.modality,
            "url": row["url"] or _stored_name(row),
            "caption": row["caption"],
            "language": row["language"],
        }
        return Sample(sample_key(self._plan.source, row["number"]), {}, columns)


def _had(sample: Sample, fetched: Fetched) -> Sample:
    sample.columns |= {
        "attempts": fetched.attempts,
        "http_code": fetched.http_code,
        "raw_sha256": fetched.sha256,
        "bytes": fetched.num_bytes if fetched.sha256 else None,
    }
    if fetched.reason is Reason.OK:
        sample.parts[RAW] = fetched.data
    else:
        sample.end(fetched.reason, fetched.detail)
    return sample


def _owns(rows: pa.Table) -> Iterator[dict[str, Any]]:
    """The source's own columns of every row as plain values, for stages that read them."""
    own = own_columns(rows)
    if not own:
        yield from ({} for _ in range(rows.num_rows))
    for row in rows.select(own).to_pylist():
        yield orjson.loads(orjson.dumps(row, default=str))


def own_columns(rows: pa.Table) -> list[str]:
    """Names of the source's own columns among those of the rows of a shard."""
    return [name for name in rows.column_names if name not in ROW_FIELDS.names and name != "number"]


def _stored_name(row: dict[str, Any]) -> str | None:
    """Where stored bytes came from, without the folder: that is this machine's own and would change the dataset."""
    if not row["media_path"]:
        return None
    name = row["media_path"].rpartition("/")[2]
    place = row["media_row"] if row["media_row"] is not None else row["media_offset"]
    return f"{name}#{place}" if place else name
