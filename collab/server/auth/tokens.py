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
    tokens = set(request.query_params.getlist("token"))
    if not in_url and tokens:
        raise Unauthenticated("Tokens are not taken from the address here: histories and logs keep addresses.")
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        tokens.add(credentials.strip())
    offered = request.scope.get("subprotocols") or ()
    tokens.update(p.removeprefix(TOKEN_SUBPROTOCOL) for p in offered if p.startswith(TOKEN_SUBPROTOCOL))
    tokens.discard("")
    if not tokens:
        url = ", or ?token=" if in_url else ""
        raise Unauthenticated(f"A token is needed: Authorization: Bearer, the subprotocol collab.token.*{url}.")
    if len(tokens) > 1 or len(token := tokens.pop()) > MAX_TOKEN_CHARS:
        raise Unauthenticated("One token, please.")
    return token


def select_subprotocol(offered: Sequence[str]) -> str | None:
    """What to answer to the subprotocols a client offers. Never a token (Chrome needs one of those offered)."""
    return SUBPROTOCOL if SUBPROTOCOL in offered else None
