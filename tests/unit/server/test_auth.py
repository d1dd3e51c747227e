"""The door: tokens good and bad, where they may stand, what they grant, and which pages and hosts are believed."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import jwt
import pytest
from pydantic import SecretStr
from starlette.requests import HTTPConnection

from collab.errors import CollabError, Forbidden, Misuse, Unauthenticated
from collab.room.session import Grant, Identity
from collab.server.auth import (
    LEEWAY_S,
    Access,
    JwtAccess,
    OpenAccess,
    Origins,
    authenticator,
    open_access,
    select_subprotocol,
    token_of,
)
from collab.settings import Settings

SECRET = "k3Zp0s9QwX7vB2nM5cR8tY1uI4oL6aD_"
NOW = int(time.time())
GOOD = {"sub": "ann", "exp": NOW + 3600, "access": "write"}


def connection(
    headers: dict[str, str] | list[tuple[str, str]] | None = None,
    *,
    query: str = "",
    subprotocols: list[str] | None = None,
    scheme: str = "http",
) -> HTTPConnection:
    pairs = headers.items() if isinstance(headers, dict) else headers or []
    return HTTPConnection(
        {
            "type": "http" if subprotocols is None else "websocket",
            "scheme": scheme,
            "path": "/yjs/d",
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in pairs],
            **({} if subprotocols is None else {"subprotocols": subprotocols}),
        }
    )


def token(claims: dict[str, Any] = GOOD, *, key: str = SECRET, **more: Any) -> str:
    claims = {**claims, **more.pop("claims", {})}
    return jwt.encode({name: value for name, value in claims.items() if value is not None}, key, "HS256", **more)


def forged(header: dict[str, Any], claims: dict[str, Any] = GOOD, signature: bytes = b"") -> str:
    parts = [json.dumps(header).encode(), json.dumps(claims).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


class TestTokens:
    async def test_a_good_token_names_the_user_and_the_grants(self) -> None:
        claims = {
            **GOOD,
            "access": None,
            "name": "Ann",
            "color": "#aB12ef",
            "documents": {"a:*": "read", "a:1": "write"},
        }
        access = await JwtAccess(SECRET)(connection({"Authorization": f"Bearer {token(claims)}"}), "a:1")
        assert access.identity == Identity("ann", "Ann", "#aB12ef")
        assert (access.grant("a:1"), access.grant("a:2"), access.grant("b")) == (Grant.WRITE, Grant.READ, None)
        assert access.expires_at == NOW + 3600 + LEEWAY_S

    async def test_it_may_stand_in_header_query_or_subprotocol(self) -> None:
        good = token()
        for request in (
            connection({"Authorization": f"bearer {good}"}),
            connection(query=f"token={good}&x=1"),
            connection(subprotocols=["yjs.v1", f"collab.token.{good}"]),
            connection({"Authorization": f"Bearer {good}"}, query=f"token={good}"),
        ):
            assert (await JwtAccess(SECRET)(request, "d")).identity.subject == "ann"

    @pytest.mark.parametrize(
        "request_",
        [
            connection(),
            connection({"Authorization": "Basic YTpi"}),
            connection({"Authorization": "Bearer"}),
            connection(query="token="),
            connection(query="token=a&token=b"),
            connection({"Authorization": "Bearer a"}, query="token=b"),
            connection(subprotocols=["yjs.v1"]),
            connection(query=f"token={'x' * 9000}"),
        ],
    )
    def test_none_two_or_too_long_is_refused(self, request_: HTTPConnection) -> None:
        with pytest.raises(Unauthenticated):
            token_of(request_)

    def test_the_server_never_echoes_a_token_as_subprotocol(self) -> None:
        assert select_subprotocol(["collab.token.abc", "yjs.v1"]) == "yjs.v1"
        assert select_subprotocol(["collab.token.abc"]) is None
        assert select_subprotocol([]) is None

    @pytest.mark.parametrize("algorithm", ["none", "None", "nOnE", "HS512", "RS256", ""])
    def test_d01_d03_any_other_algorithm_is_refused(self, algorithm: str) -> None:
        with pytest.raises(Unauthenticated):
            JwtAccess(SECRET).access(forged({"alg": algorithm, "typ": "JWT"}))

    def test_d01_another_key_or_a_changed_token_is_refused(self) -> None:
        door = JwtAccess(SECRET)
        head, _, signature = token().split(".")
        body = base64.urlsafe_b64encode(json.dumps({**GOOD, "sub": "root"}).encode()).rstrip(b"=").decode()
        for bad in (
            token(key=SECRET[::-1]),
            f"{head}.{body}.{signature}",
            f"{head}.{body}.",
            "a.b.c",
            "",
            "ä.ö.ü",
            ".",
        ):
            with pytest.raises(Unauthenticated):
                door.access(bad)

    def test_d04_a_critical_extension_nobody_knows_is_refused(self) -> None:
        with pytest.raises(Unauthenticated):
            JwtAccess(SECRET).access(token(headers={"crit": ["x"], "x": 1}))

    def test_d05_keys_named_by_the_token_are_ignored(self) -> None:
        door = JwtAccess(SECRET)
        named = {"jku": "http://127.0.0.1:9/keys", "jwk": {"kty": "oct", "k": "AAAA"}, "kid": "../../x"}
        with pytest.raises(Unauthenticated):
            door.access(token(key="another-key-of-more-than-32-bytes!", headers=named))
        assert door.access(token(headers=named)).identity.subject == "ann"

    @pytest.mark.parametrize(
        "claims",
        [
            {"sub": None},
            {"sub": ""},
            {"sub": 7},
            {"sub": "a" * 201},
            {"sub": "a\nb"},
            {"exp": None},
            {"exp": "soon"},
            {"exp": NOW - LEEWAY_S - 5},
            {"nbf": NOW + LEEWAY_S + 3600},
            {"iat": NOW + LEEWAY_S + 3600},
            {"name": ["x"]},
            {"name": "a\x1b[31m"},
            {"color": "red;background:url(//evil/x)"},
            {"color": "#12345g"},
            {"color": 5},
            {"access": "admin"},
            {"access": True},
            {"documents": ["a"]},
            {"documents": {"a": "own"}},
            {"documents": {"a": None}},
            {"documents": {str(n): "read" for n in range(201)}},
        ],
    )
    def test_d07_d08_a_claim_that_is_missing_or_of_the_wrong_kind_is_refused(self, claims: dict[str, Any]) -> None:
        with pytest.raises(Unauthenticated):
            JwtAccess(SECRET).access(token({**GOOD, **claims}))

    def test_d08_clocks_may_differ_by_the_leeway(self) -> None:
        door = JwtAccess(SECRET)
        now = int(time.time())
        late = {**GOOD, "exp": now - 1, "nbf": now + LEEWAY_S - 1}
        assert door.access(token(late)).identity.subject == "ann"

    @pytest.mark.parametrize(
        "claims",
        [
            {},
            {"aud": "other", "iss": "us"},
            {"aud": "collab", "iss": "us2"},
            {"aud": "collab"},
            {"iss": "us"},
            {"aud": 5, "iss": "us"},
        ],
    )
    def test_d07_audience_and_issuer_must_match_once_configured(self, claims: dict[str, Any]) -> None:
        door = JwtAccess(SECRET, audience="collab", issuer="us")
        with pytest.raises(Unauthenticated):
            door.access(token({**GOOD, **claims}))
        assert door.access(token({**GOOD, "aud": ["x", "collab"], "iss": "us"})).identity.subject == "ann"

    def test_no_error_repeats_any_of_the_token(self) -> None:
        bad = token({**GOOD, "sub": "ann", "color": "hunter2"})
        with pytest.raises(Unauthenticated) as caught:
            JwtAccess(SECRET).access(bad)
        assert "hunter2" not in str(caught.value)
        assert bad[-20:] not in str(caught.value)

    def test_a_token_that_names_no_right_grants_none(self) -> None:
        access = JwtAccess(SECRET).access(token({**GOOD, "access": None}))
        assert access.grant("d") is None
        with pytest.raises(Forbidden):
            access.require("d", write=False)

    def test_a_short_key_is_refused(self) -> None:
        with pytest.raises(Misuse):
            JwtAccess("x" * 31)


class TestGrants:
    def test_the_most_specific_pattern_decides(self) -> None:
        access = Access(
            Identity("a"),
            {"*": Grant.WRITE, "acme:*": Grant.READ, "acme:wiki:*": Grant.WRITE, "acme:wiki:x": Grant.READ},
        )
        grants = {
            name: access.grant(name) for name in ("other", "acme:1", "acme:wiki:1", "acme:wiki:x", "acme:wiki:x1")
        }
        assert grants == {
            "other": Grant.WRITE,
            "acme:1": Grant.READ,
            "acme:wiki:1": Grant.WRITE,
            "acme:wiki:x": Grant.READ,
            "acme:wiki:x1": Grant.WRITE,
        }

    def test_a_star_in_the_middle_is_no_wildcard(self) -> None:
        access = Access(Identity("a"), {"a*b": Grant.WRITE})
        assert access.grant("axb") is None


class TestOpen:
    async def test_everybody_is_anonymous_and_may_write(self) -> None:
        access = await open_access(connection(), "d")
        assert (access.identity, access.grant("d")) == (Identity("anonymous"), Grant.WRITE)

    async def test_an_open_server_on_this_machine_answers_only_to_its_own_names(self) -> None:
        door = authenticator(Settings(public_url="https://docs.example/x"))
        for host in ("localhost:8000", "127.0.0.1", "[::1]:8000", "LOCALHOST", "docs.example"):
            assert (await door(connection({"Host": host}), "d")).grant("d") is Grant.WRITE
        for host in ("evil.example:8000", "localhost.evil.example", "", "127.0.0.1.evil.example"):
            with pytest.raises(Forbidden):
                await door(connection({"Host": host}), "d")

    def test_settings_choose_the_implementation(self) -> None:
        assert isinstance(authenticator(Settings()), OpenAccess)
        assert authenticator(Settings(host="0.0.0.0", allow_open_auth=True)) is open_access
        assert isinstance(authenticator(Settings(auth="jwt", jwt_secret=SecretStr(SECRET))), JwtAccess)
        with pytest.raises(CollabError):
            authenticator(Settings(auth="jwt"))


class TestOrigins:
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
    def test_a01_a_page_of_another_origin_is_not_let_in(self, origin: str) -> None:
        origins = Origins(frozenset({"https://app.example"}))
        assert not origins.allows(connection({"Origin": origin, "Host": "collab.test:8000"}))

    @pytest.mark.parametrize("origin", ["https://app.example", "HTTPS://APP.example", "http://collab.test:8000"])
    def test_a_named_origin_and_our_own_are_let_in(self, origin: str) -> None:
        origins = Origins(frozenset({"https://app.example"}))
        assert origins.allows(connection({"Origin": origin, "Host": "collab.test:8000"}))

    def test_over_tls_a_plain_page_of_the_same_host_is_another_origin(self) -> None:
        headers = {"Origin": "http://collab.test", "Host": "collab.test"}
        assert Origins().allows(connection(headers, scheme="http"))
        assert not Origins().allows(connection(headers, scheme="https"))
        assert not Origins().allows(connection(headers, scheme="wss"))

    def test_a_program_sends_no_origin(self) -> None:
        assert Origins().allows(connection({"Host": "collab.test"}))

    def test_two_origins_are_refused(self) -> None:
        both = [("Origin", "http://collab.test"), ("Origin", "http://evil"), ("Host", "collab.test")]
        assert not Origins().allows(connection(both))

    def test_any_origin_only_when_asked_for(self) -> None:
        assert Origins.of(Settings(allowed_origins=("*",))).allows(connection({"Origin": "https://evil", "Host": "x"}))

    def test_the_public_url_is_an_origin(self) -> None:
        origins = Origins.of(Settings(public_url="https://Docs.example/editor"))
        assert origins.allowed == {"https://docs.example"}
