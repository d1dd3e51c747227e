"""Content routes: a document rendered from what is committed, and updates from programs.

Nothing is rendered from the live room, so every node answers the same and a reader never slows an editor down.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Annotated, Any, cast

import structlog
from fastapi import APIRouter, Query, Request, Response

from collab.engine.port import Format, Render, RootType
from collab.server.audit import event
from collab.server.guard import UPDATE_MEDIA_TYPE, GuardedRoute, TheAccess, TheHub, TheJobs
from collab.server.problems import documented
from collab.server.rest.schemas import DocumentName, RootName, Saved
from collab.server.rights import is_nobody

router = APIRouter(prefix="/v1/documents/{name}", tags=["content"], route_class=GuardedRoute)
log = structlog.get_logger("collab.rest")

AskedFormat = Annotated[Format, Query(description="`update` is one Yjs v1 update with everything that is complete.")]
AskedRoot = Annotated[
    RootName | None,
    Query(description="Name of the shared type; default: the only one, else the best-known editor name."),
]
AskedType = Annotated[
    RootType | None,
    Query(description="Kind of the shared type, where what its items suggest is wrong (the wire does not say)."),
]
_FORMS: dict[str, tuple[str, str]] = {
    "update": (UPDATE_MEDIA_TYPE, "yjs"),
    "json": ("application/json", "json"),
    "text": ("text/plain; charset=utf-8", "txt"),
    "html": ("text/html; charset=utf-8", "html"),
    "markdown": ("text/markdown; charset=utf-8", "md"),
}
RENDERED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The content. All but json comes as an attachment, so that a browser never runs it.",
        "headers": {"ETag": {"schema": {"type": "string"}, "description": "Changes with every committed update."}},
        "content": {
            "application/json": {"example": {"type": "doc", "content": []}},
            "text/plain": {"example": "First draft."},
            "text/html": {"example": "<p>First draft.</p>"},
            "text/markdown": {"example": "First draft."},
            UPDATE_MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}},
        },
    },
    304: {"description": "Not changed since the ETag in If-None-Match."},
}


@router.get(
    "/content",
    response_class=Response,
    responses={**RENDERED, **documented(400, 401, 403, 404, 410, 422, 423, 503)},
    summary="Read the content",
)
async def read_content(
    name: DocumentName,
    hub: TheHub,
    jobs: TheJobs,
    access: TheAccess,
    request: Request,
    format: AskedFormat = "json",  # noqa: A002 - the query parameter's name
    root: AskedRoot = None,
    type: AskedType = None,  # noqa: A002
) -> Response:
    """The committed content of the document in one format."""
    document = await hub.store.documents.get(name)
    created = int(document.created_at.timestamp() * 1_000_000)
    if unchanged := not_modified(request, etag(created, document.seq)):
        return unchanged
    stored = await hub.store.log.load(name)
    for damage in stored.damage:
        log.warning("document damaged", document=name, damage=damage)
    content = cast("bytes", await jobs.run(name, Render(stored.all_updates, format, root, type)))
    if not is_nobody(access):
        hub.audit.note(event("document.export", access, name, format=format))
    return rendered(content, format, name, etag(created, stored.last_seq))


@router.post(
    "/updates",
    responses=documented(400, 401, 403, 404, 410, 413, 415, 422, 423, 503),
    summary="Apply an update",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {UPDATE_MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def post_update(name: DocumentName, hub: TheHub, access: TheAccess, request: Request) -> Saved:
    """Apply one Yjs v1 update; whoever has the document open sees it. Answers after the commit."""
    await hub.store.documents.get(name)
    seq = await hub.submit(name, await request.body(), author=access.identity.subject)
    return Saved(seq=seq)


def etag(*parts: object) -> str:
    """A strong ETag. ``parts`` must change whenever the content does."""
    return f'"{sha256(repr(parts).encode()).hexdigest()[:24]}"'


def not_modified(request: Request, tag: str) -> Response | None:
    """A 304 when the client has this very version, else None (RFC 9110 section 13.1.2)."""
    asked = {part.strip().removeprefix("W/") for part in request.headers.get("if-none-match", "").split(",")}
    if tag in asked or "*" in asked:
        return Response(status_code=304, headers=_caching(tag))
    return None


def rendered(content: bytes, format: Format, name: str, tag: str) -> Response:  # noqa: A002
    """The response that carries rendered content; whatever it holds, a browser does not execute it."""
    media_type, extension = _FORMS[format]
    headers = _caching(tag)
    if format != "json":
        headers["Content-Disposition"] = f'attachment; filename="{name.replace(":", "_")}.{extension}"'
        headers["Content-Security-Policy"] = "sandbox; default-src 'none'; frame-ancestors 'none'"
    return Response(content, media_type=media_type, headers=headers)


def _caching(tag: str) -> dict[str, str]:
    # A cache may keep it for this user but must ask each time; the token is part of what the answer depends on.
    return {"ETag": tag, "Cache-Control": "private, no-cache", "Vary": "Authorization"}
