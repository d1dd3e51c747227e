"""The revocation route: tokens that are not to be believed any more although they have not expired."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from fastapi import APIRouter, HTTPException

from collab.node.connections import ANONYMOUS
from collab.server.audit import event
from collab.server.auth import LEEWAY_S
from collab.server.guard import GuardedRoute, TheAccess, TheHub, TheTokenLifetime
from collab.server.problems import documented
from collab.server.rest.access_schemas import Revocation, SubjectRevocation, TokenRevocation

router = APIRouter(prefix="/v1/revocations", tags=["access"], route_class=GuardedRoute)

KEPT_FOR = timedelta(days=366)
"""After this a revocation is forgotten where nobody knows how long tokens are good: longer than any should be."""
AHEAD = timedelta(seconds=LEEWAY_S + 1)
"""A token may say that it was issued so much later than now: what clocks may differ by, and the next full second."""


@router.post("", status_code=201, responses=documented(400, 401, 403, 409, 413, 415, 422, 503), summary="Revoke tokens")
async def create_revocation(
    new: SubjectRevocation | TokenRevocation, hub: TheHub, access: TheAccess, lifetime: TheTokenLifetime
) -> Revocation:
    """Believe a subject's tokens, or one token, no more. Their sessions are closed (4401) on every node within five
    seconds. Needs the role admin for every document (`*`).
    """
    now = datetime.now(UTC)
    if isinstance(new, SubjectRevocation):
        if new.subject == ANONYMOUS:
            raise HTTPException(422, "anonymous is everybody nobody knows; revoke the link instead")
        kind, value, not_before = "subject", new.subject, new.not_before or now
    else:
        # Nobody issues another token of that id, so the time only has to be late enough.
        kind, value, not_before = "token", new.token_id, new.not_before or now + AHEAD
    kept_for = KEPT_FOR if lifetime is None else timedelta(seconds=lifetime + 2 * LEEWAY_S)
    expires_at, by = max(not_before, now) + kept_for, access.identity.subject
    revocation = await hub.store.revocations.revoke(kind, value, not_before=not_before, expires_at=expires_at, by=by)
    await hub.access.changed()
    detail = {kind: value, "not_before": not_before.isoformat()}
    await hub.audit.append(event("revocation.create", access, **detail))
    return Revocation.of(revocation)
