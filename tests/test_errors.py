"""The exception tree with its exit codes, and the closed list of reasons."""

from __future__ import annotations

import re

import pytest

from mmdata import errors
from mmdata.errors import MmdataError, Reason, SampleError, Status

EXIT_CODES = {
    "ConfigError": 2,
    "SourceError": 2,
    "ChangedError": 3,
    "ShardError": 4,
    "StorageError": 5,
    "BudgetError": 6,
    "OtherDriverError": 7,
    "DamageError": 8,
}


@pytest.mark.parametrize(("name", "code"), EXIT_CODES.items())
def test_every_error_ends_with_its_documented_exit_code(name: str, code: int) -> None:
    error = getattr(errors, name)
    assert issubclass(error, MmdataError)
    assert error.exit_code == code
    assert re.search(rf"{name} +exit {code}\b", errors.__doc__ or ""), "the tree in the docstring says otherwise"


def test_an_error_without_a_code_of_its_own_is_a_bug_with_exit_1() -> None:
    own = {cls.__name__ for cls in MmdataError.__subclasses__()}
    assert own == {*EXIT_CODES, "SampleError"}
    assert MmdataError.exit_code == SampleError.exit_code == 1


@pytest.mark.parametrize("reason", Reason)
def test_the_group_of_a_reason_fixes_its_status(reason: Reason) -> None:
    wanted = {
        "ok": Status.OK,
        **dict.fromkeys(("filtered", "policy", "blocked"), Status.DROPPED),
        **dict.fromkeys(("fetch", "content", "decode", "score", "internal"), Status.FAILED),
    }
    assert reason.status is wanted[reason.group]


@pytest.mark.parametrize("reason", [r for r in Reason if r is not Reason.OK])
def test_a_reason_is_written_group_dot_code_in_small_letters(reason: Reason) -> None:
    assert re.fullmatch(r"[a-z]+\.[a-z0-9]+(_[a-z0-9]+)*", reason.value)


def test_no_two_reasons_share_a_code() -> None:
    assert len({reason.value for reason in Reason}) == len(Reason.__members__)


def test_only_failures_of_fetching_are_transient() -> None:
    transient = {reason.value for reason in Reason if reason.is_transient}
    assert transient == {
        "fetch.dns",
        "fetch.connect",
        "fetch.timeout",
        "fetch.too_slow",
        "fetch.reset",
        "fetch.truncated_body",
        "fetch.rate_limited",
        "fetch.http_5xx",
        "fetch.storage",
        "fetch.site_rate_limited",
    }


def test_codes_that_datasets_may_hold_are_still_there() -> None:
    """Codes may be added, never renamed: a ledger of last year must stay readable."""
    kept = (
        "ok filtered.duplicate_url filtered.duplicate_content filtered.too_small filtered.aspect filtered.score_low "
        "policy.optout_header blocked.bad_url blocked.scheme blocked.port blocked.address blocked.redirect fetch.dns "
        "fetch.connect fetch.tls fetch.timeout fetch.reset fetch.truncated_body fetch.http_4xx fetch.gone "
        "fetch.rate_limited fetch.http_5xx fetch.redirect_loop fetch.too_large fetch.empty content.type_mismatch "
        "content.unsupported content.hash_mismatch decode.corrupt decode.truncated decode.too_many_pixels "
        "decode.timeout decode.oom decode.crashed score.failed internal.error"
    )
    assert set(kept.split()) <= {reason.value for reason in Reason}


def test_a_sample_error_says_reason_and_detail() -> None:
    error = SampleError(Reason.CORRUPT, "no such marker")
    assert (error.reason, error.detail) == (Reason.CORRUPT, "no such marker")
    assert str(error) == "decode.corrupt: no such marker"
    assert str(SampleError(Reason.CORRUPT)) == "decode.corrupt"
