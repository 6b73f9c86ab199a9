"""Errors, and the closed list of reasons why a sample is not in the dataset.

MmdataError            exit 1
 |- ConfigError        exit 2   the pipeline file or the command line is wrong, found before any work
 |- SourceError        exit 2   an input cannot be read
 |- ChangedError       exit 3   the config or the input differs from the one this run was made with
 |- ShardError         exit 4   a shard failed after its retries
 |- StorageError       exit 5   storage is full, denied or unreachable
 |- BudgetError        exit 6   too many transient failures, or no progress
 |- OtherDriverError   exit 7   another driver works on this run
 |- DamageError        exit 8   files differ from what their records say
 `- SampleError        never leaves the runner: it becomes the status of one sample
"""

from __future__ import annotations

from enum import Enum
from typing import ClassVar


class Status(str, Enum):
    """What became of a sample: had, could not be had, or not wanted."""

    OK = "ok"
    FAILED = "failed"
    DROPPED = "dropped"


class Reason(str, Enum):
    """`group.code` of a sample; the group fixes its status. Codes may be added, never renamed."""

    OK = "ok"

    DUPLICATE_URL = "filtered.duplicate_url"
    DUPLICATE_CONTENT = "filtered.duplicate_content"
    DUPLICATE_CAPTION = "filtered.duplicate_caption"
    NEAR_DUPLICATE = "filtered.near_duplicate"
    SEMANTIC_DUPLICATE = "filtered.semantic_duplicate"
    LEAKAGE = "filtered.leakage"
    TOO_SMALL = "filtered.too_small"
    TOO_LARGE_AREA = "filtered.too_large_area"
    ASPECT = "filtered.aspect"
    SCORE_LOW = "filtered.score_low"
    SCORE_HIGH = "filtered.score_high"
    THRESHOLD = "filtered.threshold"
    EXPRESSION = "filtered.expression"
    SUBSET = "filtered.subset"
    BALANCE = "filtered.balance"
    LONG_TAIL = "filtered.long_tail"
    NO_CONCEPT = "filtered.no_concept"
    CAPTION = "filtered.caption"
    TOO_SHORT = "filtered.too_short"
    TOO_LONG = "filtered.too_long"
    SILENT = "filtered.silent"
    TOO_FEW_IMAGES = "filtered.too_few_images"
    TOO_MANY_IMAGES = "filtered.too_many_images"
    NO_TEXT = "filtered.no_text"

    OPTOUT_HEADER = "policy.optout_header"
    HASH_BLOCKLIST = "policy.hash_blocklist"
    UNBLURRED = "policy.unblurred"
    SPEAKER = "policy.speaker"
    REMOVED = "policy.removed"

    BAD_URL = "blocked.bad_url"
    SCHEME = "blocked.scheme"
    PORT = "blocked.port"
    ADDRESS = "blocked.address"
    REDIRECT = "blocked.redirect"

    DNS = "fetch.dns"
    CONNECT = "fetch.connect"
    TLS = "fetch.tls"
    TIMEOUT = "fetch.timeout"
    TOO_SLOW = "fetch.too_slow"
    RESET = "fetch.reset"
    TRUNCATED_BODY = "fetch.truncated_body"
    HTTP_4XX = "fetch.http_4xx"
    GONE = "fetch.gone"
    RATE_LIMITED = "fetch.rate_limited"
    HTTP_5XX = "fetch.http_5xx"
    REDIRECT_LOOP = "fetch.redirect_loop"
    TOO_LARGE = "fetch.too_large"
    ENCODING = "fetch.encoding"
    BOMB = "fetch.bomb"
    EMPTY = "fetch.empty"
    PROTOCOL = "fetch.protocol"
    STORAGE = "fetch.storage"
    SITE_UNAVAILABLE = "fetch.site_unavailable"
    SITE_PRIVATE = "fetch.site_private"
    SITE_GEO = "fetch.site_geo"
    SITE_LOGIN = "fetch.site_login"
    SITE_RATE_LIMITED = "fetch.site_rate_limited"
    SITE_FORMAT = "fetch.site_format"
    ROW_ERROR = "fetch.row_error"

    TYPE_MISMATCH = "content.type_mismatch"
    UNSUPPORTED = "content.unsupported"
    HASH_MISMATCH = "content.hash_mismatch"
    MEDIA_COUNT = "content.media_count"
    NO_ANSWER = "content.no_answer"
    NO_VIDEO = "content.no_video"
    NO_SOUND = "content.no_sound"
    NO_DURATION = "content.no_duration"
    NO_SPANS = "content.no_spans"
    NO_SUBTITLES = "content.no_subtitles"

    CORRUPT = "decode.corrupt"
    TRUNCATED = "decode.truncated"
    TOO_MANY_PIXELS = "decode.too_many_pixels"
    TOO_MANY_FRAMES = "decode.too_many_frames"
    TOO_LARGE_OUTPUT = "decode.too_large_output"
    DECODE_TIMEOUT = "decode.timeout"
    DECODE_OOM = "decode.oom"
    DECODE_CRASHED = "decode.crashed"

    SCORE_FAILED = "score.failed"

    INTERNAL = "internal.error"

    @property
    def group(self) -> str:
        """The part before the dot: `fetch`, `decode`, ...; `ok` for ok."""
        return self.value.partition(".")[0]

    @property
    def status(self) -> Status:
        """The status that this reason means."""
        if self is Reason.OK:
            return Status.OK
        return Status.DROPPED if self.group in _DROPPED_GROUPS else Status.FAILED

    @property
    def is_transient(self) -> bool:
        """True where the same request may succeed later; what retries and `refetch` try again."""
        return self in _TRANSIENT


_DROPPED_GROUPS = {"filtered", "policy", "blocked"}
_TRANSIENT = {
    Reason.DNS,
    Reason.CONNECT,
    Reason.TIMEOUT,
    Reason.TOO_SLOW,
    Reason.RESET,
    Reason.TRUNCATED_BODY,
    Reason.RATE_LIMITED,
    Reason.HTTP_5XX,
    Reason.STORAGE,
    Reason.SITE_RATE_LIMITED,
}


class MmdataError(Exception):
    """Anything mmdata raises on purpose; `exit_code` is what the command ends with."""

    exit_code: ClassVar[int] = 1


class ConfigError(MmdataError):
    """The pipeline file or the command line is wrong; the message names file, place, found and allowed."""

    exit_code = 2


class SourceError(MmdataError):
    """An input cannot be read at all (missing, empty, no such column)."""

    exit_code = 2


class ChangedError(MmdataError):
    """The config or the input differs from the one an existing run was made with."""

    exit_code = 3


class ShardError(MmdataError):
    """A shard could not be finished after its retries, or its files are no shard."""

    exit_code = 4


class StorageError(MmdataError):
    """Storage is full, denied or cannot be reached."""

    exit_code = 5


class BudgetError(MmdataError):
    """Too large a share of a shard failed for transient causes, or nothing moved for too long."""

    exit_code = 6


class OtherDriverError(MmdataError):
    """Another driver is at work on this run."""

    exit_code = 7


class DamageError(MmdataError):
    """Files differ from what their records say."""

    exit_code = 8


class SampleError(MmdataError):
    """One sample cannot go on; the runner turns it into `reason` and `detail`."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason.value}: {detail}" if detail else reason.value)
        self.reason = reason
        self.detail = detail
