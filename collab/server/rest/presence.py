"""Presence routes: who is connected to a document, on whatever node, and sending people away."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from collab.errors import CloseCode
from collab.room import Role
from collab.server.audit import event
from collab.server.guard import GuardedRoute, TheAccess, TheHub
from collab.server.problems import documented
from collab.server.rest.schemas import DocumentName, Presence, Present

router = APIRouter(prefix="/v1", tags=["presence"], route_class=GuardedRoute)

Subject = Annotated[str, Query(min_length=1, max_length=200, description="Of the user, as in the token's `sub`.")]
Final = Annotated[
    bool,
    Query(
        description="False: their editors come back and are asked again who they are and what they may. "
        "True: stock editors stop until their page is loaded again."
    ),
]


@router.get(
    "/documents/{name}/presence",
    responses=documented(400, 401, 403, 404, 422, 503),
    summary="Who is connected",
)
async def get_presence(name: DocumentName, hub: TheHub) -> Presence:
    """Every session of a document on every node, longest there first."""
    present, complete = await hub.present_everywhere(name)
    return Presence(present=[Present.of(presence) for presence in present], complete=complete)


@router.delete(
    "/documents/{name}/presence",
    status_code=204,
    responses=documented(400, 401, 403, 404, 422, 503),
    summary="Send a user out of a document",
)
async def remove_from_document(
    name: DocumentName, hub: TheHub, access: TheAccess, subject: Subject, final: Final = False
) -> None:
    """Close a user's sessions in one document, on every node; while Redis is away, on the node that answers. Nothing
    happens when there are none."""
    hub.close_user(subject, _code(final), document=name)
    await hub.audit.append(event("session.close", access, name, subject=subject, final=final))


@router.delete(
    "/presence", status_code=204, responses=documented(400, 401, 403, 422, 503), summary="Send a user away everywhere"
)
async def remove_everywhere(hub: TheHub, access: TheAccess, subject: Subject, final: Final = False) -> None:
    """Close all of a user's sessions, on every node; while Redis is away, on the node that answers, and a revocation
    closes them everywhere. Needs the role write for every document (`*`)."""
    access.require("*", Role.WRITE)
    hub.close_user(subject, _code(final))
    await hub.audit.append(event("session.close", access, subject=subject, final=final))


def _code(final: bool) -> CloseCode:
    return CloseCode.FORBIDDEN if final else CloseCode.RESTART
