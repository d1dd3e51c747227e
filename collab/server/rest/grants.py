"""Grant routes: who has which role on a document. All of them need the role admin there."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException, Query

from collab.node.connections import ANONYMOUS
from collab.server.audit import event
from collab.server.guard import GuardedRoute, TheAccess, TheHub
from collab.server.problems import documented
from collab.server.rest.access_schemas import Grant, GrantPage, NewGrant, Subject
from collab.server.rest.schemas import DocumentName

router = APIRouter(prefix="/v1/documents/{name}/grants", tags=["access"], route_class=GuardedRoute)


@router.get("", responses=documented(400, 401, 403, 404, 409, 410, 422, 503), summary="List grants")
async def list_grants(
    name: DocumentName,
    hub: TheHub,
    cursor: Annotated[str | None, Query(max_length=255, description="`next` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
) -> GrantPage:
    """Who was granted a role on the document, by subject. Tokens and links, which grant too, are not shown here."""
    page = await hub.store.grants.of_document(name, after=cursor, limit=limit)
    return GrantPage(grants=[Grant.of(grant) for grant in page.grants], next=page.next)


@router.get(
    "/{subject:path}", responses=documented(400, 401, 403, 404, 409, 410, 422, 503), summary="Get somebody's grant"
)
async def get_grant(name: DocumentName, subject: Subject, hub: TheHub) -> Grant:
    """The role somebody was granted."""
    grant = await hub.store.grants.get(name, subject)
    if grant is None:
        raise HTTPException(404, "nothing was granted to this subject")
    return Grant.of(grant)


@router.put(
    "/{subject:path}",
    responses=documented(400, 401, 403, 404, 409, 410, 413, 415, 422, 503),
    summary="Grant a role",
)
async def put_grant(name: DocumentName, subject: Subject, new: NewGrant, hub: TheHub, access: TheAccess) -> Grant:
    """Grant a role instead of what was granted before; whoever is connected has it within five seconds."""
    if subject == ANONYMOUS:
        raise HTTPException(422, "anonymous is everybody nobody knows; make a link instead")
    grant = await hub.store.grants.put(name, subject, new.role, by=access.identity.subject)
    await hub.access.changed()
    await hub.audit.append(event("grant.put", access, name, subject=subject, role=new.role))
    return Grant.of(grant)


@router.delete(
    "/{subject:path}",
    status_code=204,
    responses=documented(400, 401, 403, 404, 409, 410, 422, 503),
    summary="Take a grant back",
)
async def remove_grant(name: DocumentName, subject: Subject, hub: TheHub, access: TheAccess) -> None:
    """Take back what was granted; twice is no mistake. The last admin's goes like any other: tokens make admins."""
    await hub.store.grants.remove(name, subject)
    await hub.access.changed()
    await hub.audit.append(event("grant.remove", access, name, subject=subject))
