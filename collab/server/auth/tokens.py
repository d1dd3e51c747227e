"""Where a token may stand in a request: a header, a WebSocket subprotocol, and where allowed the address.

Only finds it; whether it is believed is `collab.server.auth.jwt_access`'s business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from collab.errors import Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import HTTPConnection

SUBPROTOCOL = "yjs.v1"
"""The only WebSocket subprotocol the server ever selects."""
TOKEN_SUBPROTOCOL = "collab.token."  # noqa: S105 - a prefix, not a password
"""A client without headers or query may offer `collab.token.<jwt>` beside `SUBPROTOCOL`; it is never echoed."""
MAX_TOKEN_CHARS = 8192


def token_of(request: HTTPConnection, *, in_url: bool = True) -> str:
    """The token from `Authorization: Bearer`, a subprotocol or, with ``in_url``, `?token=`; raises `Unauthenticated`.

    The same token may come twice; two different ones are refused, since picking one would be guessing. So is one in
    the address where that is not allowed, even beside a good one: whoever put it there must learn of it.
    """
    if not in_url and request.query_params.getlist("token"):
        raise Unauthenticated("Tokens are not taken from the address here: histories and logs keep addresses.")
    tokens = tokens_in(request)
    if not tokens:
        url = ", or ?token=" if in_url else ""
        raise Unauthenticated(f"A token is needed: Authorization: Bearer, the subprotocol collab.token.*{url}.")
    if len(tokens) > 1 or len(token := tokens.pop()) > MAX_TOKEN_CHARS:
        raise Unauthenticated("One token, please.")
    return token


def tokens_in(request: HTTPConnection) -> set[str]:
    """What stands wherever a token may, whatever it is."""
    offered = request.scope.get("subprotocols") or ()
    found = {one.removeprefix(TOKEN_SUBPROTOCOL) for one in offered if one.startswith(TOKEN_SUBPROTOCOL)}
    found.update(request.query_params.getlist("token"))
    found.add(bearer_of(request))
    found.discard("")
    return found


def bearer_of(request: HTTPConnection) -> str:
    """What stands in the header; empty when nothing does."""
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    return credentials.strip() if scheme.lower() == "bearer" else ""


def select_subprotocol(offered: Sequence[str]) -> str | None:
    """What to answer to the subprotocols a client offers. Never a token (Chrome needs one of those offered)."""
    return SUBPROTOCOL if SUBPROTOCOL in offered else None
