"""Which pages are believed."""

from __future__ import annotations

import pytest

from collab.server.auth import Origins
from collab.settings import Settings
from tests.unit.server.auth.signing import connection


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "https://app.example.evil.example",
        "http://app.example",
        "https://app.example.",
        "https://app.example:444",
        "",
        "collab.test:8000",
        "http://collab.test",
        "ws://collab.test:8000",
    ],
)
def test_a01_a_page_of_another_origin_is_not_let_in(origin: str) -> None:
    origins = Origins(frozenset({"https://app.example"}))
    assert not origins.allows(connection({"Origin": origin, "Host": "collab.test:8000"}))


@pytest.mark.parametrize("origin", ["https://app.example", "HTTPS://APP.example", "http://collab.test:8000"])
def test_a_named_origin_and_our_own_are_let_in(origin: str) -> None:
    origins = Origins(frozenset({"https://app.example"}))
    assert origins.allows(connection({"Origin": origin, "Host": "collab.test:8000"}))


def test_over_tls_a_plain_page_of_the_same_host_is_another_origin() -> None:
    headers = {"Origin": "http://collab.test", "Host": "collab.test"}
    assert Origins().allows(connection(headers, scheme="http"))
    assert not Origins().allows(connection(headers, scheme="https"))
    assert not Origins().allows(connection(headers, scheme="wss"))


@pytest.mark.parametrize("scheme", ["http", "ws", "https", "wss"])
def test_a01_with_a_public_url_over_tls_a_plain_page_of_the_same_host_is_another_origin(scheme: str) -> None:
    """Whatever the last hop speaks: the proxy that ends TLS speaks plain HTTP to this server."""
    for url, over_tls in (("https://collab.test", True), ("https://Collab.TEST/editor", True), ("http://x", False)):
        origins = Origins.of(Settings(public_url=url))
        for host in ("collab.test", "inner:8000"):
            plain = connection({"Origin": f"http://{host}", "Host": host}, scheme=scheme)
            assert origins.allows(plain) == (not over_tls and scheme in {"http", "ws"})
            assert origins.allows(connection({"Origin": f"https://{host}", "Host": host}, scheme=scheme))


def test_a01_a_plain_origin_that_is_named_is_let_in_all_the_same() -> None:
    origins = Origins.of(Settings(public_url="https://collab.test", allowed_origins=("http://localhost:5173",)))
    assert origins.allows(connection({"Origin": "http://localhost:5173", "Host": "collab.test"}))


def test_a_program_sends_no_origin() -> None:
    assert Origins().allows(connection({"Host": "collab.test"}))


def test_two_origins_are_refused() -> None:
    both = [("Origin", "http://collab.test"), ("Origin", "http://evil"), ("Host", "collab.test")]
    assert not Origins().allows(connection(both))


def test_any_origin_only_when_asked_for() -> None:
    assert Origins.of(Settings(allowed_origins=("*",))).allows(connection({"Origin": "https://evil", "Host": "x"}))


def test_the_public_url_is_an_origin() -> None:
    origins = Origins.of(Settings(public_url="https://Docs.example/editor"))
    assert origins.allowed == {"https://docs.example"}
