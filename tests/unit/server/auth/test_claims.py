"""Every claim: absent, of the wrong type, of the wrong value. Time stands still at `NOW`."""

from __future__ import annotations

from datetime import datetime, tzinfo
from typing import Any, Self

import pytest

from collab.errors import Forbidden, Unauthenticated
from collab.room.session import Identity, Role
from collab.server.auth import LEEWAY_S, MAX_LIFETIME_S, Access, JwtAccess
from tests.unit.server.auth.signing import GOOD, NOW, SECRET, forged, token

HEADER = {"alg": "HS256", "typ": "JWT"}
WRONG_TYPES: tuple[Any, ...] = (None, True, False, [], {}, ["x"], {"x": 1})
NO_TIMES: tuple[Any, ...] = (*WRONG_TYPES, "soon", str(NOW + 3600), float("nan"), float("inf"), 1e999, 10**30)
NO_TEXTS: tuple[Any, ...] = (True, False, 0, 7, 1.5, [], {}, ["x"], {"x": 1}, "", "a\nb", "a\x1b[31m", "x" * 201)


class Standstill(datetime):
    """What PyJWT asks for the time."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        return cls.fromtimestamp(NOW, tz)


@pytest.fixture(autouse=True)
def _time_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jwt.api_jwt.datetime", Standstill)


def believed(claims: dict[str, Any], **expected: Any) -> Access:
    """What exactly these claims, signed, stand for. Made by hand: PyJWT refuses to sign some of them."""
    return JwtAccess(SECRET, clock=lambda: NOW, **expected).access(forged(HEADER, claims, secret=SECRET.encode()))


def without(claim: str) -> dict[str, Any]:
    return {name: value for name, value in GOOD.items() if name != claim}


def refused(claims: Any, **expected: Any) -> str:
    with pytest.raises(Unauthenticated) as caught:
        believed(claims, **expected)
    return str(caught.value)


def test_a_good_token_names_the_user_and_the_grants() -> None:
    said = {"name": "Ann", "color": "#aB12ef", "documents": {"a:*": "read", "a:1": "write"}}
    access = believed({**without("access"), **said, "iat": NOW - 5, "nbf": NOW - 5, "jti": "t-1"})
    assert access.identity == Identity("ann", "Ann", "#aB12ef")
    assert (access.role("a:1"), access.role("a:2"), access.role("b")) == (Role.WRITE, Role.READ, None)
    assert access.expires_at == NOW + 3600 + LEEWAY_S
    assert (access.issued_at, access.token_id) == (NOW - 5, "t-1")


def test_what_a_revocation_needs_is_none_when_the_token_does_not_say() -> None:
    access = believed(GOOD)
    assert (access.issued_at, access.token_id) == (None, None)


@pytest.mark.parametrize("claim", ["sub", "exp"])
def test_d07_a_required_claim_that_is_absent_is_refused(claim: str) -> None:
    refused(without(claim))


@pytest.mark.parametrize("value", NO_TIMES, ids=repr)
@pytest.mark.parametrize("claim", ["exp", "iat", "nbf"])
def test_d07_a_time_of_the_wrong_type_is_refused(claim: str, value: Any) -> None:
    refused({**GOOD, claim: value})


@pytest.mark.parametrize("claim", ["exp", "iat", "nbf"])
def test_d07_a_time_before_1970_is_refused(claim: str) -> None:
    refused({**GOOD, claim: -1})


@pytest.mark.parametrize("value", NO_TEXTS, ids=lambda value: repr(value)[:20])
@pytest.mark.parametrize("claim", ["sub", "jti", "name"])
def test_d07_a_text_of_the_wrong_type_or_length_is_refused(claim: str, value: Any) -> None:
    refused({**GOOD, claim: value})


@pytest.mark.parametrize(
    "value", ["red;background:url(//evil/x)", "#12345g", "#fff", "", 5, True, ["#aabbcc"]], ids=repr
)
def test_d07_a_color_is_a_color(value: Any) -> None:
    refused({**GOOD, "color": value})


@pytest.mark.parametrize("value", ["owner", "WRITE", "", True, 1, None, ["write"], {"write": True}], ids=repr)
def test_d07_a_role_is_one_of_four(value: Any) -> None:
    refused({**GOOD, "access": value})
    refused({**GOOD, "documents": {"a": value}})


@pytest.mark.parametrize(
    "value", [["a"], "a", 1, True, None, {str(n): "read" for n in range(201)}], ids=lambda v: repr(v)[:20]
)
def test_d07_documents_are_a_small_object(value: Any) -> None:
    refused({**GOOD, "documents": value})


@pytest.mark.parametrize("payload", [b"[]", b'"x"', b"7", b"null", b"{", b"", b"\xff", b'{"sub":', b"[" * 6000])
def test_d07_a_payload_that_is_no_object_is_refused(payload: bytes) -> None:
    refused(payload)


@pytest.mark.parametrize(
    ("claims", "good"),
    [
        ({"exp": NOW - 29}, True),
        ({"exp": NOW - 30}, False),
        ({"exp": NOW - 31}, False),
        ({"nbf": NOW + 30}, True),
        ({"nbf": NOW + 31}, False),
        ({"iat": NOW + 30}, True),
        ({"iat": NOW + 31}, False),
        ({"exp": NOW + MAX_LIFETIME_S, "iat": NOW}, True),
        ({"exp": NOW + MAX_LIFETIME_S + 1, "iat": NOW}, False),
        ({"exp": NOW + 100, "iat": NOW + 101 - MAX_LIFETIME_S}, True),
        ({"exp": NOW + 100, "iat": NOW + 99 - MAX_LIFETIME_S}, False),
        ({"exp": NOW + MAX_LIFETIME_S + 30}, True),
        ({"exp": NOW + MAX_LIFETIME_S + 31}, False),
        ({"exp": 253_402_300_799}, False),  # in the year 9999
        ({"exp": 253_402_300_799, "iat": NOW}, False),
    ],
    ids=str,
)
def test_d08_times_count_to_the_second_with_a_leeway_of_30_s_and_a_bounded_lifetime(
    claims: dict[str, Any], good: bool
) -> None:
    if good:
        assert believed({**GOOD, **claims}).identity.subject == "ann"
    else:
        refused({**GOOD, **claims})


def test_d08_the_lifetime_allowed_is_a_setting_and_its_refusal_says_so() -> None:
    claims = {**GOOD, "iat": NOW, "exp": NOW + 901}
    assert "900 s" in refused(claims, max_lifetime_s=900)
    assert believed({**claims, "exp": NOW + 900}, max_lifetime_s=900).issued_at == NOW


@pytest.mark.parametrize(
    "value",
    [
        "other",
        "collab2",
        "colla",
        "COLLAB",
        "collab ",
        "",
        [],
        ["other"],
        ["collab2"],
        {"collab": 1},
        5,
        True,
        [["collab"]],
    ],
    ids=repr,
)
def test_d07_another_audience_is_refused(value: Any) -> None:
    refused({**GOOD, "aud": value}, audience="collab")


@pytest.mark.parametrize(
    "value", ["https://us.example2", "https://us", "us.example", "HTTPS://US.EXAMPLE", "", 5, True], ids=repr
)
def test_d07_another_issuer_a_part_of_it_included_is_refused(value: Any) -> None:
    refused({**GOOD, "iss": value}, issuer="https://us.example")
    refused({**GOOD, "iss": ["https://us.example"]}, issuer="https://us.example")


def test_d07_audience_and_issuer_are_required_once_configured() -> None:
    expected = {"audience": "collab", "issuer": "us"}
    for lacking in ({}, {"aud": "collab"}, {"iss": "us"}):
        refused({**GOOD, **lacking}, **expected)
    assert believed({**GOOD, "aud": ["x", "collab"], "iss": "us"}, **expected).identity.subject == "ann"
    assert believed({**GOOD, "aud": "collab", "iss": "us"}, **expected).identity.subject == "ann"


def test_d10_a_token_for_an_audience_is_refused_by_a_server_that_has_none() -> None:
    assert "audience" in refused({**GOOD, "aud": "billing"})


@pytest.mark.parametrize(
    "claims", [{"admin": False}, {"admin": True}, {"roles": ["admin"]}, {"scope": "admin"}], ids=str
)
def test_d09_claims_that_are_not_ours_grant_nothing(claims: dict[str, Any]) -> None:
    access = believed({**GOOD, "access": "read", **claims})
    assert access.role("d") is Role.READ


def test_a_token_that_names_no_right_grants_none() -> None:
    access = believed(without("access"))
    assert access.role("d") is None
    with pytest.raises(Forbidden):
        access.require("d", Role.READ)


@pytest.mark.parametrize("claims", [{"color": "hunter2"}, {"sub": "hunter2\n"}, {"exp": "hunter2"}, {"aud": "hunter2"}])
def test_no_error_repeats_any_of_the_token(claims: dict[str, Any]) -> None:
    assert "hunter2" not in refused({**GOOD, **claims})
    assert token()[-20:] not in refused({**GOOD, **claims})
