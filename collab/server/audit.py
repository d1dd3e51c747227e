"""What is written to the audit log, in whose name. `collab.node.audit_trail` writes it.

Never a secret, a token or text of a document; a link is named by its number.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from collab.node.connections import ANONYMOUS
from collab.store.access_port import AuditEvent

if TYPE_CHECKING:
    from collab.server.auth import Access

Action = Literal[
    "document.create",
    "document.open",
    "document.export",
    "document.change",
    "document.delete",
    "document.restore",
    "snapshot.create",
    "snapshot.delete",
    "session.close",
    "grant.put",
    "grant.remove",
    "link.create",
    "link.revoke",
    "ticket.create",
    "revocation.create",
]


def event(action: Action, access: Access, document: str | None = None, **detail: Any) -> AuditEvent:
    """Something that whoever has ``access`` did now."""
    subject = access.identity.subject
    if access.link is not None:
        detail["by_link"] = access.link.id
    return AuditEvent(
        action,
        datetime.now(UTC),
        actor=None if subject == ANONYMOUS else subject,
        actor_kind="link" if subject == ANONYMOUS and access.link is not None else None,
        document=document,
        detail=detail,
    )
