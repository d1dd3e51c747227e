"""Document routes: create, list, get, change, delete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import structlog
from fastapi import APIRouter, Query, Request, Response

from collab.errors import CloseCode, CollabError, DocumentDeleted, DocumentMissing
from collab.protocol.names import canonical_name
from collab.room import Role
from collab.server.audit import event
from collab.server.guard import GuardedRoute, TheAccess, TheHub, TheJobs, TheRights
from collab.server.problems import documented
from collab.server.rest.drafts import content_of, described, drafted
from collab.server.rest.schemas import Document, DocumentChange, DocumentName, DocumentPage, OwnRole
from collab.store.port import Change

if TYPE_CHECKING:
    from collections.abc import Iterable

    from collab.store.port import Document as StoredDocument
    from collab.store.port import Documents

router = APIRouter(prefix="/v1/documents", tags=["documents"], route_class=GuardedRoute)
log = structlog.get_logger("collab.rest")

NamePart = Annotated[str, Query(max_length=200, pattern=r"^[A-Za-z0-9._:~-]*$")]
_CREATED: dict[int | str, dict[str, Any]] = {
    201: {"headers": {"Location": {"schema": {"type": "string"}, "description": "Address of the new document."}}}
}


@router.post(
    "",
    status_code=201,
    responses={**_CREATED, **documented(400, 401, 403, 409, 413, 415, 422, 423, 503)},
    summary="Create a document",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/NewDocument"}}},
        }
    },
)
async def create_document(
    hub: TheHub, jobs: TheJobs, access: TheAccess, request: Request, response: Response
) -> Document:
    """Create a document, with content when given: both are committed together or not at all."""
    access.require_somewhere(Role.WRITE)
    author = access.identity.subject
    draft = await drafted(await request.body(), jobs, author)
    new = described(draft)
    name = canonical_name(new.name)
    access.require(name, Role.WRITE)
    content = content_of(draft, new)
    entry = None if content is None else hub.next_entry(name, content, author)
    document = await hub.store.documents.create(name, title=new.title, meta=new.meta, entry=entry)
    if entry is not None and hub.holds(name):
        await _tell_room(hub, name, entry.update, author)
    await hub.audit.append(event("document.create", access, name))
    response.headers["Location"] = f"{request.scope.get('root_path', '')}/v1/documents/{name}"
    return Document.of(document)


@router.get("", responses=documented(400, 401, 403, 422, 503), summary="List documents")
async def list_documents(
    hub: TheHub,
    access: TheAccess,
    rights: TheRights,
    prefix: Annotated[NamePart, Query(description="Only names that begin like this.", examples=["acme:"])] = "",
    cursor: Annotated[NamePart | None, Query(description="`next` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
) -> DocumentPage:
    """Documents in name order, of those the caller may read: by token, by grant, by the link presented."""
    found: list[StoredDocument] = []
    names = await rights.named(access, prefix=prefix, after=cursor, limit=limit + 1)
    for reach in _reaches((*access.grants, *names), prefix):
        if len(found) <= limit:
            found += await _within(hub.store.documents, reach, cursor, limit + 1 - len(found))
    shown = found[:limit]
    return DocumentPage(
        documents=[Document.of(document) for document in shown],
        next=shown[-1].name if len(found) > limit else None,
    )


@router.get("/{name}", responses=documented(400, 401, 403, 404, 410, 422, 503), summary="Get a document")
async def get_document(name: DocumentName, hub: TheHub) -> Document:
    """What is known of a document besides its content: its durable state."""
    return Document.of(await hub.store.documents.get(name))


@router.get("/{name}/role", responses=documented(400, 401, 403, 422, 503), summary="Get your own role")
async def get_role(name: DocumentName, access: TheAccess, rights: TheRights) -> OwnRole:
    """What the caller may do with a document: the highest of token, grant and link. Also of one nobody has made yet."""
    role = await rights.highest(access, name, Role.READ)
    return OwnRole(role=role.value)


@router.patch(
    "/{name}", responses=documented(400, 401, 403, 404, 410, 413, 415, 422, 503), summary="Change title or meta"
)
async def change_document(name: DocumentName, change: DocumentChange, hub: TheHub, access: TheAccess) -> Document:
    """Change what is said about a document; a field left out stays as it is."""
    document = await hub.store.documents.change(name, Change(change.title, change.meta))
    if fields := sorted(change.model_dump(exclude_none=True)):
        await hub.audit.append(event("document.change", access, name, fields=fields))
    return Document.of(document)


@router.delete("/{name}", status_code=204, responses=documented(400, 401, 403, 404, 422, 503), summary="Delete")
async def delete_document(name: DocumentName, hub: TheHub, access: TheAccess) -> None:
    """Delete for everybody. Whoever has it open is told; the name stays taken, so no late client brings it back."""
    await hub.store.documents.delete(name)
    await hub.close_document(name, CloseCode.DELETED)
    await hub.audit.append(event("document.delete", access, name))


async def _tell_room(hub: Any, name: str, update: bytes, author: str) -> None:
    # The name may be open in an editor although no document had it; that room loaded before the content was committed.
    try:
        await hub.submit(name, update, author=author)
    except CollabError as error:
        log.warning("room not told of new content", document=name, error=type(error).__name__)


def _reaches(patterns: Iterable[str], prefix: str) -> list[str]:
    """The patterns cut down to ``prefix``, in name order, none inside another: what a caller may list."""
    cut = {
        prefix + "*" if pattern.endswith("*") and prefix.startswith(pattern[:-1]) else pattern for pattern in patterns
    }
    reaches: list[str] = []
    # "*" is below every character of a name, so a beginning sorts just before the names it holds.
    for pattern in sorted(p for p in cut if p.removesuffix("*").startswith(prefix)):
        if not (reaches and reaches[-1].endswith("*") and pattern.startswith(reaches[-1][:-1])):
            reaches.append(pattern)
    return reaches


async def _within(documents: Documents, reach: str, after: str | None, limit: int) -> list[StoredDocument]:
    if reach.endswith("*"):
        return list((await documents.list(prefix=reach[:-1], after=after, limit=limit)).documents)
    if after is not None and reach <= after:
        return []
    try:
        return [await documents.get(reach)]
    except (DocumentMissing, DocumentDeleted):
        return []
