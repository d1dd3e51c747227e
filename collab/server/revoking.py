"""How a subject's tokens, or one token, become worth nothing: committed, told to this node's sessions, written down.

Both ways to it come here: the REST route and `Collab.sign_out`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from collab.server.audit import event
from collab.server.auth import LEEWAY_S

if TYPE_CHECKING:
    from collab.node import Hub
    from collab.server.auth import Access
    from collab.store.access_port import Revocation, RevocationKind

AHEAD = timedelta(seconds=LEEWAY_S + 1)
"""A token may say that it was issued so much later than now: what clocks may differ by, and the next full second."""


async def revoke(
    hub: Hub, access: Access, kind: RevocationKind, value: str, *, kept_s: float, not_before: datetime | None = None
) -> Revocation:
    """Believe what ``value`` names no more; ``access`` is who says so.

    Of a subject that is what was issued before ``not_before``, or before now. It is remembered for ``kept_s`` seconds:
    as long as what is revoked may be good, see `as_long_as`. Raises `StoreUnavailable` and `Misuse`.
    """
    now = datetime.now(UTC)
    # Nobody issues another token of one id, so there the time only has to be late enough.
    not_before = not_before or (now if kind == "subject" else now + AHEAD)
    expires_at = max(not_before, now) + timedelta(seconds=kept_s)
    by = access.identity.subject
    revocation = await hub.store.revocations.revoke(kind, value, not_before=not_before, expires_at=expires_at, by=by)
    await hub.access.changed()
    detail = {kind: value, "not_before": not_before.isoformat()}
    await hub.audit.append(event("revocation.create", access, **detail))
    return revocation


def as_long_as(good_for_s: float) -> float:
    """How long to remember what was good for so many seconds; clocks may differ on both sides."""
    return good_for_s + 2 * LEEWAY_S
