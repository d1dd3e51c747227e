"""What `authenticate` answers: an identity and the roles it was granted, by patterns of document names.

Every implementation of `Authenticate` returns an `Access`; the routes and the WebSocket endpoint ask it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from collab.errors import Forbidden
from collab.room.session import Identity, Role

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection

    from collab.server.passes import PresentedLink

_LACKING = {
    Role.READ: "You have no access to this document.",
    Role.COMMENT: "You may read this document but not comment on it.",
    Role.WRITE: "You may read this document but not change it.",
    Role.ADMIN: "This needs the role admin.",
}


@dataclass(frozen=True, slots=True)
class Access:
    """An identity and what it was granted."""

    identity: Identity
    grants: Mapping[str, Role]
    """What the token grants by patterns: document name, or the beginning of names followed by `*`, -> role. `*` alone
    means every document. The grants stored for the subject are not among them."""
    expires_at: float | None = None
    """Unix time after which a session must be closed (leeway included), or None."""
    issued_at: float | None = None
    """Unix time at which the token was issued or the user signed in. None: not known, so no later than any revocation
    of the subject."""
    token_id: str | None = None
    """What a revocation of this one token names (the `jti` claim), or None."""
    link: PresentedLink | None = None
    """What was presented beside a token, or instead of one."""
    at_most: Role | None = None
    """A ticket was made out for this role; nothing raises it."""

    def role(self, document: str) -> Role | None:
        """What the most specific pattern says: the full name, else the longest beginning. None: no access."""
        exact = self.grants.get(document)
        if exact is not None:
            return exact
        matching = [p for p in self.grants if p.endswith("*") and document.startswith(p[:-1])]
        return self.grants[max(matching, key=len)] if matching else None

    def require(self, document: str, needed: Role) -> Role:
        """The role, or `Forbidden` when it does not reach. Says the same whether or not the document exists."""
        role = self.role(document)
        if role is None:
            raise Forbidden("You have no access to this document.")
        if not role.reaches(needed):
            raise Forbidden(_LACKING[needed])
        return role

    def require_somewhere(self, needed: Role) -> None:
        """`Forbidden` when no pattern grants so much: then there is no document for which `require` would pass."""
        if not any(role.reaches(needed) for role in self.grants.values()):
            raise Forbidden("There is no document you may do this with.")


Authenticate = Callable[["HTTPConnection", str | None], Awaitable[Access]]
"""The seam: says who is behind a request or WebSocket upgrade, and what they may do.

The second argument is the document asked for, or None on routes that are about no single document (listing shows
what `Access.grants` names). Raises `Unauthenticated` or `Forbidden` with a sentence fit for the client; any other
exception is the server's fault, and the client hears no more of it than that (500, 4500). It is called for every
request and every upgrade and must not block; the deadline of the handshake cancels one that takes too long.
"""
