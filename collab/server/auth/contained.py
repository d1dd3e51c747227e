"""The fence around an `authenticate` that somebody else wrote: whatever it does fails one request, and says nothing.

What collab raises on purpose passes; any other exception, and any answer that is no usable `Access`, becomes a fault
of the server (500 and 4500), which the client may try again. The log has the traceback, the client has not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from collab.errors import CollabError, Misuse
from collab.room.session import Role
from collab.server.auth.access import Access

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection

    from collab.server.auth.access import Authenticate

log = structlog.get_logger(__name__)


def contained(authenticate: Authenticate) -> Authenticate:
    """``authenticate`` inside the fence. It has no deadline of its own: the caller's cancels it."""

    async def asked(request: HTTPConnection, document: str | None) -> Access:
        try:
            access = await authenticate(request, document)
            _check(access)
        except CollabError:
            raise
        except Exception as error:
            # Ours to log: on a WebSocket nobody else does.
            log.exception("authenticate_failed", error=type(error).__name__)
            raise Misuse("authenticate raised what is not collab's") from None
        return access

    return asked


def _check(access: object) -> None:
    # The mistakes that would otherwise surface far from here, in somebody's awareness or a grant's row.
    if not isinstance(access, Access):
        raise TypeError(f"authenticate returned {type(access).__name__}, not an Access")
    subject: object = access.identity.subject
    if not isinstance(subject, str) or not subject:
        raise TypeError("Identity.subject is a text that is not empty: str(user.pk), not user.pk")
    if not all(isinstance(role, Role) for role in access.grants.values()):
        raise TypeError("Access.grants maps patterns to Role")
