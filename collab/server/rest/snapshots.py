"""Snapshot routes: labelled versions of a document, kept until deleted, and the way back to one."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import APIRouter, Query, Request, Response

from collab.engine.port import Fold, Folded, Render, Revert
from collab.protocol.yjs import EMPTY_UPDATE
from collab.server.audit import event
from collab.server.guard import GuardedRoute, TheAccess, TheHub, TheJobs
from collab.server.problems import documented
from collab.server.rest.content import RENDERED, AskedFormat, AskedRoot, AskedType, etag, not_modified, rendered
from collab.server.rest.schemas import MAX_ID, DocumentName, NewSnapshot, Saved, Snapshot, SnapshotId, SnapshotPage
from collab.server.rights import is_nobody

router = APIRouter(prefix="/v1/documents/{name}/snapshots", tags=["snapshots"], route_class=GuardedRoute)


@router.post(
    "",
    status_code=201,
    responses=documented(400, 401, 403, 404, 410, 413, 415, 422, 423, 503),
    summary="Take a snapshot",
)
async def create_snapshot(
    name: DocumentName,
    hub: TheHub,
    jobs: TheJobs,
    access: TheAccess,
    request: Request,
    response: Response,
    new: NewSnapshot | None = None,
) -> Snapshot:
    """Keep what is committed now, under a label."""
    await hub.store.documents.get(name)
    stored = await hub.store.log.load(name)
    folded = cast("Folded", await jobs.run(name, Fold(stored.all_updates)))
    snapshot = await hub.store.snapshots.create(
        name,
        update=folded.update,
        state_vector=folded.state_vector,
        seq=stored.last_seq,
        label=new.label if new else None,
        author=access.identity.subject,
    )
    await hub.audit.append(event("snapshot.create", access, name, snapshot=snapshot.id))
    response.headers["Location"] = f"{request.scope.get('root_path', '')}/v1/documents/{name}/snapshots/{snapshot.id}"
    return Snapshot.of(snapshot)


@router.get("", responses=documented(400, 401, 403, 404, 410, 422, 503), summary="List snapshots")
async def list_snapshots(
    name: DocumentName,
    hub: TheHub,
    before: Annotated[int | None, Query(ge=1, le=MAX_ID, description="`next` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
) -> SnapshotPage:
    """Snapshots of the document, newest first."""
    found = await hub.store.snapshots.list(name, before=before, limit=limit + 1)
    shown = found[:limit]
    return SnapshotPage(
        snapshots=[Snapshot.of(snapshot) for snapshot in shown],
        next=shown[-1].id if len(found) > limit else None,
    )


@router.get("/{snapshot}", responses=documented(400, 401, 403, 404, 410, 422, 503), summary="Get a snapshot")
async def get_snapshot(name: DocumentName, snapshot: SnapshotId, hub: TheHub) -> Snapshot:
    """What is known of a snapshot besides its content."""
    found, _ = await hub.store.snapshots.get(name, snapshot)
    return Snapshot.of(found)


@router.get(
    "/{snapshot}/content",
    response_class=Response,
    responses={**RENDERED, **documented(400, 401, 403, 404, 410, 422, 423, 503)},
    summary="Read the content of a snapshot",
)
async def read_snapshot(
    name: DocumentName,
    snapshot: SnapshotId,
    hub: TheHub,
    jobs: TheJobs,
    access: TheAccess,
    request: Request,
    format: AskedFormat = "json",  # noqa: A002 - the query parameter's name
    root: AskedRoot = None,
    type: AskedType = None,  # noqa: A002
) -> Response:
    """The content of a snapshot in one format."""
    found, update = await hub.store.snapshots.get(name, snapshot)
    tag = etag(found.created_at.timestamp(), found.id)
    if unchanged := not_modified(request, tag):
        return unchanged
    content = cast("bytes", await jobs.run(name, Render((update,), format, root, type)))
    if not is_nobody(access):
        hub.audit.note(event("document.export", access, name, format=format, snapshot=snapshot))
    return rendered(content, format, f"{name}.{found.id}", tag)


@router.post(
    "/{snapshot}/restore",
    responses=documented(400, 401, 403, 404, 410, 422, 423, 503),
    summary="Restore a snapshot",
)
async def restore_snapshot(
    name: DocumentName, snapshot: SnapshotId, hub: TheHub, jobs: TheJobs, access: TheAccess
) -> Saved:
    """Give the document the snapshot's content by a new change: live editors receive it, and nothing before is lost."""
    _, target = await hub.store.snapshots.get(name, snapshot)
    stored = await hub.store.log.load(name)
    change = cast("bytes", await jobs.run(name, Revert(stored.all_updates, (target,))))
    seq = stored.last_seq
    if change != EMPTY_UPDATE:
        seq = await hub.submit(name, change, author=access.identity.subject)
    await hub.audit.append(event("document.restore", access, name, snapshot=snapshot))
    return Saved(seq=seq)


@router.delete(
    "/{snapshot}", status_code=204, responses=documented(400, 401, 403, 404, 410, 422, 503), summary="Delete a snapshot"
)
async def delete_snapshot(name: DocumentName, snapshot: SnapshotId, hub: TheHub, access: TheAccess) -> None:
    """Delete one snapshot; the document stays as it is."""
    await hub.store.snapshots.delete(name, snapshot)
    await hub.audit.append(event("snapshot.delete", access, name, snapshot=snapshot))
