"""Links and tickets as clients hold them: opaque secrets with a prefix that says what they are.

A link may stand wherever a token may, beside a token or instead of one; a ticket stands alone, and opens or renews one
WebSocket. Of both the store has only the hash. This module makes and finds them; `collab.server.rights` says what they
are worth.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from starlette.requests import HTTPConnection

from collab.errors import Unauthenticated
from collab.server.auth.tokens import TOKEN_SUBPROTOCOL, bearer_of, tokens_in

if TYPE_CHECKING:
    from datetime import datetime

LINK, TICKET = "cl_", "ct_"
SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class PresentedLink:
    """A link that a client presented and the store knew. What it is worth is asked for anew each time."""

    id: int
    secret_hash: bytes = field(repr=False)
    document: str
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Passes:
    """What of this kind stands in a request."""

    link: str | None = None
    ticket: str | None = None
    beside: bool = False
    """Whether a token stands there, too."""


def new_secret(prefix: str) -> str:
    """A secret nobody guesses: 256 random bits."""
    return prefix + secrets.token_urlsafe(SECRET_BYTES)


def hash_of(secret: str) -> bytes:
    """What the store keeps of it. No salt and no stretching: there are too many bits to try."""
    return sha256(secret.encode("utf-8", "replace")).digest()


def passes_of(request: HTTPConnection, *, link_in_url: bool = True) -> Passes:
    """What stands in a request; raises `Unauthenticated` for more of it than one way in.

    A ticket may always stand in the address: whoever reads it there comes too late.
    """
    if not link_in_url and any(value.startswith(LINK) for value in request.query_params.getlist("token")):
        raise Unauthenticated("Links are not taken from the address here: histories and logs keep addresses.")
    found = tokens_in(request)
    links = [value for value in found if value.startswith(LINK)]
    tickets = [value for value in found if value.startswith(TICKET)]
    if len(links) > 1 or (tickets and len(found) > 1):
        raise Unauthenticated("One link or one ticket, please.")
    return Passes(next(iter(links), None), next(iter(tickets), None), beside=len(found) > len(links))


def without(request: HTTPConnection, link: str) -> HTTPConnection:
    """The request as it would be had nobody presented ``link``: what `authenticate` is shown."""
    scope = dict(request.scope)
    query = [(name, value) for name, value in request.query_params.multi_items() if value != link]
    scope["query_string"] = urlencode(query).encode()
    if bearer_of(request) == link:
        scope["headers"] = [header for header in scope["headers"] if header[0] != b"authorization"]
    scope["subprotocols"] = [one for one in scope.get("subprotocols") or () if one != TOKEN_SUBPROTOCOL + link]
    return HTTPConnection(scope)


def with_token(token: str, client: object) -> HTTPConnection:
    """What `authenticate` is shown when a client at address ``client`` sends a token within its session."""
    headers = [(b"authorization", b"Bearer " + token.encode("utf-8", "replace"))]
    scope = {"type": "websocket", "path": "/", "query_string": b"", "headers": headers, "client": client}
    return HTTPConnection(scope)
