"""Access without tokens, for one machine: everybody may write, and only under the server's own host names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from collab.errors import Forbidden
from collab.node.connections import ANONYMOUS
from collab.room.session import Identity, Role
from collab.server.auth.access import Access
from collab.server.auth.origins import without_port

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection


@dataclass(frozen=True, slots=True)
class OpenAccess:
    """Everybody is "anonymous" and may write everything.

    With ``hosts`` the request's `Host` must be one of them: without that check any web page could reach an open
    server on the visitor's own machine by pointing its own name at 127.0.0.1 (DNS rebinding).
    """

    hosts: frozenset[str] | None = None

    async def __call__(self, request: HTTPConnection, document: str | None) -> Access:
        """Let in; raises `Forbidden` for a host name this server does not go by."""
        if self.hosts is not None and without_port(request.headers.get("host", "")) not in self.hosts:
            raise Forbidden(
                "This server lets everybody in, so it answers only to localhost. "
                "Set COLLAB_PUBLIC_URL to the address it is reached by."
            )
        return Access(Identity(ANONYMOUS), {"*": Role.WRITE})


open_access = OpenAccess()
