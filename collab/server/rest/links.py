"""Link routes: secrets that let whoever holds them into one document. All of them need the role admin there."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query

from collab.server.audit import event
from collab.server.guard import GuardedRoute, TheAccess, TheHub
from collab.server.passes import LINK, hash_of, new_secret
from collab.server.problems import documented
from collab.server.rest.access_schemas import Link, LinkId, LinkPage, MadeLink, NewLink
from collab.server.rest.schemas import MAX_ID, DocumentName

router = APIRouter(prefix="/v1/documents/{name}/links", tags=["access"], route_class=GuardedRoute)


@router.post(
    "",
    status_code=201,
    responses=documented(400, 401, 403, 404, 409, 410, 413, 415, 422, 503),
    summary="Make a link",
)
async def create_link(name: DocumentName, new: NewLink, hub: TheHub, access: TheAccess) -> MadeLink:
    """Make a secret that lets whoever holds it in. It is shown this once; of it only a hash is kept."""
    if new.expires_at is not None and new.expires_at <= datetime.now(UTC):
        raise HTTPException(422, "expires_at is over already")
    secret = new_secret(LINK)
    by = access.identity.subject
    link = await hub.store.links.create(name, new.role, hash_of(secret), by=by, expires_at=new.expires_at)
    await hub.audit.append(event("link.create", access, name, link=link.id, role=new.role))
    return MadeLink.of(link, secret=secret)


@router.get("", responses=documented(400, 401, 403, 404, 409, 410, 422, 503), summary="List links")
async def list_links(
    name: DocumentName,
    hub: TheHub,
    before: Annotated[int | None, Query(ge=1, le=MAX_ID, description="`next` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
) -> LinkPage:
    """Links to the document that are not revoked, newest first, without their secrets."""
    found = await hub.store.links.of_document(name, before=before, limit=limit + 1)
    shown = found[:limit]
    return LinkPage(links=[Link.of(link) for link in shown], next=shown[-1].id if len(found) > limit else None)


@router.delete(
    "/{link}",
    status_code=204,
    responses=documented(400, 401, 403, 404, 409, 410, 422, 503),
    summary="Revoke a link",
)
async def revoke_link(name: DocumentName, link: LinkId, hub: TheHub, access: TheAccess) -> None:
    """End a link for good; whoever is connected by it alone is sent away within five seconds. Twice is no mistake."""
    await hub.store.links.revoke(name, link)
    await hub.access.changed()
    await hub.audit.append(event("link.revoke", access, name, link=link))
