"""The revocation route: tokens that are not to be believed any more although they have not expired."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException

from collab.node.connections import ANONYMOUS
from collab.server.guard import GuardedRoute, TheAccess, TheHub, TheTokenLifetime
from collab.server.problems import documented
from collab.server.rest.access_schemas import Revocation, SubjectRevocation, TokenRevocation
from collab.server.revoking import as_long_as, revoke

router = APIRouter(prefix="/v1/revocations", tags=["access"], route_class=GuardedRoute)

KEPT_S = 366 * 24 * 3600.0
"""After this a revocation is forgotten where nobody knows how long tokens are good: longer than any should be."""


@router.post("", status_code=201, responses=documented(400, 401, 403, 409, 413, 415, 422, 503), summary="Revoke tokens")
async def create_revocation(
    new: SubjectRevocation | TokenRevocation, hub: TheHub, access: TheAccess, lifetime: TheTokenLifetime
) -> Revocation:
    """Believe a subject's tokens, or one token, no more. Their sessions are closed (4401) on every node within five
    seconds. Needs the role admin for every document (`*`).
    """
    kept_s = KEPT_S if lifetime is None else as_long_as(lifetime)
    if isinstance(new, SubjectRevocation):
        if new.subject == ANONYMOUS:
            raise HTTPException(422, "anonymous is everybody nobody knows; revoke the link instead")
        done = await revoke(hub, access, "subject", new.subject, kept_s=kept_s, not_before=new.not_before)
    else:
        done = await revoke(hub, access, "token", new.token_id, kept_s=kept_s, not_before=new.not_before)
    return Revocation.of(done)
