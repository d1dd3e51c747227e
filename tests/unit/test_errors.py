"""The one table of close codes (C1, C2), and the exceptions that lead to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from collab import errors
from collab.errors import CloseCode, CollabError, close_code_for, error_for

README = Path(__file__).parents[2] / "README.md"


@pytest.mark.parametrize("code", CloseCode, ids=lambda code: code.name)
def test_c2_the_range_tells_whether_to_come_back(code: CloseCode) -> None:
    assert code.retry is not (4400 <= code.code <= 4499)


@pytest.mark.parametrize("code", CloseCode, ids=lambda code: code.name)
def test_c1_every_code_stands_in_the_readme(code: CloseCode) -> None:
    assert f"| {code.code} | {code.reason} | {'yes' if code.retry else 'no'} |" in README.read_text()


def test_c1_codes_are_unique_and_reasons_fit_a_close_frame() -> None:
    assert len({code.code for code in CloseCode}) == len(CloseCode)
    assert all(len(code.reason.encode()) <= 123 for code in CloseCode)


def test_c1_every_exception_has_a_code_and_what_is_unexpected_is_a_fault() -> None:
    remote = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.RemoteError)]
    assert all(not close_code_for(kind("x")).retry for kind in remote)
    assert close_code_for(errors.StoreUnavailable("x")) is CloseCode.UNAVAILABLE
    assert close_code_for(ValueError("x")) is CloseCode.FAULT


@pytest.mark.parametrize("code", CloseCode, ids=lambda code: code.name)
def test_a_code_becomes_an_exception_for_callers_without_a_socket(code: CloseCode) -> None:
    error = error_for(code, "why")
    assert isinstance(error, CollabError)
    assert str(error) == "why"
    if code in {CloseCode.DELETED, CloseCode.QUOTA, CloseCode.QUARANTINED, CloseCode.MALFORMED}:
        assert close_code_for(error) is code
