"""The revocation route: tokens that are not to be believed any more although they have not expired."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from fastapi import APIRouter

from collab.server.audit import event
from collab.server.guard import GuardedRoute, TheAccess, TheHub
from collab.server.problems import documented
from collab.server.rest.access_schemas import Revocation, SubjectRevocation, TokenRevocation

router = APIRouter(prefix="/v1/revocations", tags=["access"], route_class=GuardedRoute)

KEPT_FOR = timedelta(days=366)
"""After this a revocation is forgotten: longer than any token should live."""


@router.post("", status_code=201, responses=documented(400, 401, 403, 409, 413, 415, 422, 503), summary="Revoke tokens")
async def create_revocation(new: SubjectRevocation | TokenRevocation, hub: TheHub, access: TheAccess) -> Revocation:
    """Believe a subject's tokens, or one token, no more. Their sessions are closed (4401) on every node within five
    seconds. Needs the role admin for every document (`*`).
    """
    now = datetime.now(UTC)
    not_before = new.not_before or now
    kind, value = ("subject", new.subject) if isinstance(new, SubjectRevocation) else ("token", new.token_id)
    expires_at, by = max(not_before, now) + KEPT_FOR, access.identity.subject
    revocation = await hub.store.revocations.revoke(kind, value, not_before=not_before, expires_at=expires_at, by=by)
    await hub.access.changed()
    detail = {kind: value, "not_before": not_before.isoformat()}
    await hub.audit.append(event("revocation.create", access, **detail))
    return Revocation.of(revocation)
