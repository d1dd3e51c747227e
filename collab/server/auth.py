"""Who is asking, and what they may do: the seam `Authenticate` and its two implementations.

`open_access` lets everybody write and is meant for one machine; `JwtAccess` believes HS256 tokens. Both take
Starlette's `HTTPConnection`, so REST requests and WebSocket upgrades pass the same door. Tokens are never logged and
never part of an error's text.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import jwt

from collab.errors import Forbidden, Misuse, Unauthenticated
from collab.room.session import Grant, Identity
from collab.settings import MIN_SECRET_BYTES

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection

    from collab.settings import Settings

SUBPROTOCOL = "yjs.v1"
"""The only WebSocket subprotocol the server ever selects."""
TOKEN_SUBPROTOCOL = "collab.token."  # noqa: S105 - a prefix, not a password
"""A client without headers or query may offer `collab.token.<jwt>` beside `SUBPROTOCOL`; it is never echoed."""
LEEWAY_S = 30
"""How far clocks may disagree about `exp`, `nbf` and `iat`."""
MAX_TOKEN_CHARS = 8192
_MAX_SUBJECT_CHARS, _MAX_NAME_CHARS, _MAX_PATTERNS = 200, 100, 200
_COLOR = re.compile(r"#[0-9a-fA-F]{6}")
_LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})


@dataclass(frozen=True, slots=True)
class Access:
    """An identity and what it was granted."""

    identity: Identity
    grants: Mapping[str, Grant]
    """Document name, or the beginning of names followed by `*`, -> grant. `*` alone means every document."""
    expires_at: float | None = None
    """Unix time after which a session must be closed (leeway included), or None."""

    def grant(self, document: str) -> Grant | None:
        """The grant of the most specific pattern: the full name, else the longest beginning. None: no access."""
        exact = self.grants.get(document)
        if exact is not None:
            return exact
        matching = [p for p in self.grants if p.endswith("*") and document.startswith(p[:-1])]
        return self.grants[max(matching, key=len)] if matching else None

    def require(self, document: str, *, write: bool) -> Grant:
        """The grant, or `Forbidden` when it does not reach. Says the same whether or not the document exists."""
        grant = self.grant(document)
        if grant is None:
            raise Forbidden("You have no access to this document.")
        if write and grant is not Grant.WRITE:
            raise Forbidden("You may read this document but not change it.")
        return grant


Authenticate = Callable[["HTTPConnection", str | None], Awaitable[Access]]
"""The seam: says who is behind a request or WebSocket upgrade, and what they may do.

The second argument is the document asked for, or None on routes that are about no single document (listing shows
what `Access.grants` names). Raises `Unauthenticated` or `Forbidden` with a sentence fit for the client.
"""


@dataclass(frozen=True, slots=True)
class OpenAccess:
    """Everybody is "anonymous" and may write everything.

    With ``hosts`` the request's `Host` must be one of them: without that check any web page could reach an open
    server on the visitor's own machine by pointing its own name at 127.0.0.1 (DNS rebinding).
    """

    hosts: frozenset[str] | None = None

    async def __call__(self, request: HTTPConnection, document: str | None) -> Access:
        """Let in; raises `Forbidden` for a host name this server does not go by."""
        if self.hosts is not None and _without_port(request.headers.get("host", "")) not in self.hosts:
            raise Forbidden(
                "This server lets everybody in, so it answers only to localhost. "
                "Set COLLAB_PUBLIC_URL to the address it is reached by."
            )
        return Access(Identity("anonymous"), {"*": Grant.WRITE})


open_access = OpenAccess()


class JwtAccess:
    """Believes tokens signed with one HS256 key.

    Claims: `sub` and `exp` are required; `nbf` and `iat` are checked when present, `aud` and `iss` when configured.
    `documents` maps names or beginnings (`acme:*`) to "read" or "write"; `access` is the grant for every document that
    no entry of `documents` names. A token with neither grants nothing: a token made for another purpose with the
    same key must not open every document. `name` and `color` (`#rrggbb`) are shown to others.
    """

    def __init__(self, secret: str, *, audience: str | None = None, issuer: str | None = None) -> None:
        if len(secret.encode()) < MIN_SECRET_BYTES:
            raise Misuse(f"An HS256 key has at least {MIN_SECRET_BYTES} bytes.")
        self._secret = secret
        self._audience = audience
        self._issuer = issuer

    async def __call__(self, request: HTTPConnection, document: str | None) -> Access:
        """Read and check the token; raises `Unauthenticated`."""
        return self.access(token_of(request))

    def access(self, token: str) -> Access:
        """What ``token`` stands for; raises `Unauthenticated` without repeating any of it."""
        claims = self._claims(token)
        identity = Identity(
            _text(claims, "sub", _MAX_SUBJECT_CHARS) or "",
            name=_text(claims, "name", _MAX_NAME_CHARS),
            color=_color(claims.get("color")),
        )
        return Access(identity, _grants(claims), expires_at=float(claims["exp"]) + LEEWAY_S)

    def _claims(self, token: str) -> dict[str, Any]:
        try:
            return jwt.decode(
                token,
                self._secret,
                algorithms=["HS256"],
                audience=self._audience,
                issuer=self._issuer,
                leeway=timedelta(seconds=LEEWAY_S),
                options={"require": ["sub", "exp"], "verify_aud": self._audience is not None},
            )
        except jwt.ExpiredSignatureError as error:
            raise Unauthenticated("The token has expired.") from error
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise Unauthenticated("The token is not valid here.") from error


def authenticator(settings: Settings) -> Authenticate:
    """The implementation that ``settings`` ask for. Raises `Misuse` when they do not fit together."""
    if settings.auth == "jwt":
        secret = settings.jwt_secret.get_secret_value() if settings.jwt_secret else ""
        return JwtAccess(secret, audience=settings.jwt_audience, issuer=settings.jwt_issuer)
    if settings.allow_open_auth or not settings.is_loopback:
        return open_access
    public = {_host_of(settings.public_url)} if settings.public_url else set()
    return OpenAccess(hosts=_LOOPBACK_HOSTS | {settings.host.lower()} | public)


def token_of(request: HTTPConnection) -> str:
    """The token from `Authorization: Bearer`, a subprotocol or `?token=`; raises `Unauthenticated`.

    The same token may come twice; two different ones are refused, since picking one would be guessing.
    """
    tokens = set(request.query_params.getlist("token"))
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        tokens.add(credentials.strip())
    offered = request.scope.get("subprotocols") or ()
    tokens.update(p.removeprefix(TOKEN_SUBPROTOCOL) for p in offered if p.startswith(TOKEN_SUBPROTOCOL))
    tokens.discard("")
    if not tokens:
        raise Unauthenticated("A token is needed: Authorization: Bearer, the subprotocol collab.token.*, or ?token=.")
    if len(tokens) > 1 or len(token := tokens.pop()) > MAX_TOKEN_CHARS:
        raise Unauthenticated("One token, please.")
    return token


def select_subprotocol(offered: Sequence[str]) -> str | None:
    """What to answer to the subprotocols a client offers. Never a token (Chrome needs one of those offered)."""
    return SUBPROTOCOL if SUBPROTOCOL in offered else None


@dataclass(frozen=True, slots=True)
class Origins:
    """Which web pages may talk to this server. Programs send no `Origin` and are not asked."""

    allowed: frozenset[str] = field(default_factory=frozenset)
    """Exact origins in lower case, or "*"."""

    @classmethod
    def of(cls, settings: Settings) -> Origins:
        """The allowed origins and that of the public URL."""
        public = {_origin_of(settings.public_url)} if settings.public_url else set()
        return cls(frozenset(settings.allowed_origins) | public)

    def allows(self, request: HTTPConnection) -> bool:
        """Whether the page behind ``request`` may: it is allowed by name, or of the same origin as this server.

        Behind a proxy that ends TLS this server sees plain HTTP, so there the page's `https` counts as the same.
        """
        sent = request.headers.getlist("origin")
        if not sent:
            return True
        if len(sent) > 1:
            return False
        origin = sent[0].lower()
        if origin in self.allowed or "*" in self.allowed:
            return True
        scheme, _, host = origin.partition("://")
        schemes = {"https"} if request.scope.get("scheme") in {"https", "wss"} else {"http", "https"}
        return scheme in schemes and host != "" and host == request.headers.get("host", "").lower()


def _grants(claims: Mapping[str, Any]) -> dict[str, Grant]:
    documents = claims.get("documents", {})
    if not isinstance(documents, dict) or len(documents) > _MAX_PATTERNS:
        raise Unauthenticated("The token's documents claim is not a small object of patterns.")
    grants = {pattern: _grant(value) for pattern, value in documents.items()}
    if "access" in claims:
        grants.setdefault("*", _grant(claims["access"]))
    return grants


def _grant(value: object) -> Grant:
    if value == "write":
        return Grant.WRITE
    if value == "read":
        return Grant.READ
    raise Unauthenticated('A grant in the token is neither "read" nor "write".')


def _text(claims: Mapping[str, Any], claim: str, limit: int) -> str | None:
    value = claims.get(claim)
    if value is None and claim != "sub":
        return None
    if not isinstance(value, str) or not 0 < len(value) <= limit or not value.isprintable():
        raise Unauthenticated(f"The token's {claim} claim is not a short text.")
    return value


def _color(value: object) -> str | None:
    # Editors write the colour into a style attribute: anything but this form could carry CSS.
    if value is not None and not (isinstance(value, str) and _COLOR.fullmatch(value)):
        raise Unauthenticated("The token's color claim is not of the form #rrggbb.")
    return value


def _origin_of(url: str) -> str:
    return "/".join(url.lower().split("/")[:3])


def _host_of(url: str) -> str:
    return _without_port(_origin_of(url).partition("://")[2])


def _without_port(host: str) -> str:
    return re.sub(r":\d*$", "", host.lower())
