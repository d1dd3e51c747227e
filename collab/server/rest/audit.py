"""The audit route: who opened, shared, exported, changed, deleted, restored, and sent whom away."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from collab.protocol.names import MAX_NAME_LENGTH, canonical_name
from collab.room import Role
from collab.server.guard import GuardedRoute, TheAccess, TheHub, TheRights
from collab.server.problems import documented
from collab.server.rest.access_schemas import AuditEntry, AuditPage
from collab.server.rest.schemas import MAX_ID
from collab.store.access_port import MAX_SUBJECT_CHARS

router = APIRouter(prefix="/v1/audit", tags=["access"], route_class=GuardedRoute)


@router.get("", responses=documented(400, 401, 403, 422, 503), summary="Read the audit log")
async def read_audit(
    hub: TheHub,
    access: TheAccess,
    rights: TheRights,
    document: Annotated[str | None, Query(max_length=MAX_NAME_LENGTH, description="Only what was done to it.")] = None,
    actor: Annotated[str | None, Query(max_length=MAX_SUBJECT_CHARS, description="Only what this subject did.")] = None,
    before: Annotated[int | None, Query(ge=1, le=MAX_ID, description="`next` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
) -> AuditPage:
    """Who did what, newest first. Needs the role admin for the document, or for every document (`*`) without one.

    Opening and exporting are written a moment after they happened.
    """
    if document is None:
        access.require("*", Role.ADMIN)
    else:
        await rights.require(access, canonical_name(document), Role.ADMIN)
    found = await hub.store.audit.page(document=document, actor=actor, before=before, limit=limit + 1)
    shown = found[:limit]
    return AuditPage(
        entries=[AuditEntry.of(entry) for entry in shown], next=shown[-1].id if len(found) > limit else None
    )
