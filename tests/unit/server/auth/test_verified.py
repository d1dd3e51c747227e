"""The memory of verified tokens: bounded in number and time, and without any token in it."""

from __future__ import annotations

import pytest

from collab.room.session import Identity
from collab.server.auth.access import Access
from collab.server.auth.verified import VerifiedTokens

ANN = Access(Identity("ann"), {})


def test_d18_it_holds_a_bounded_number_the_newest() -> None:
    verified = VerifiedTokens(max_tokens=3)
    for n in range(10):
        verified.put(f"t{n}", ANN, 0.0)
        verified.put("again", ANN, 0.0)
        assert len(verified) <= 3
    assert [n for n in range(10) if verified.get(f"t{n}", 1.0)] == [8, 9]
    assert verified.get("again", 1.0) is ANN


@pytest.mark.parametrize(("expires_at", "until"), [(None, 160.0), (1000.0, 160.0), (130.0, 130.0), (100.0, 100.0)])
def test_d18_it_forgets_after_a_minute_and_with_the_token(expires_at: float | None, until: float) -> None:
    verified = VerifiedTokens()
    access = Access(Identity("ann"), {}, expires_at=expires_at)
    for now, kept in ((until - 0.01, until > 100.0), (until, False)):
        verified.put("t", access, 100.0)
        assert (verified.get("t", now) is access) is kept
    assert len(verified) == 0


def test_a_clock_set_back_lengthens_nothing() -> None:
    verified = VerifiedTokens()
    verified.put("t", ANN, 100.0)
    assert verified.get("t", 99.0) is None
    assert verified.get("t", 100.0) is None


def test_no_token_is_kept() -> None:
    verified = VerifiedTokens()
    verified.put("hunter2", ANN, 0.0)
    assert "hunter2" not in repr(vars(verified))
    verified.clear()
    assert len(verified) == 0
