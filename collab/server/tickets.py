"""What a ticket stands for, as the store keeps it: who asked for it, for which document and role, by which rights.

The rights travel along, not only the role: a session that came by ticket is looked at again like any other when
something changes, and ends when the token does for which the ticket was given.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from collab.room import Identity, Role
from collab.server.auth import Access
from collab.server.passes import PresentedLink

if TYPE_CHECKING:
    from collections.abc import Mapping


def payload_of(access: Access, document: str, role: Role) -> dict[str, Any]:
    """What to keep, as plain JSON."""
    identity, pattern = access.identity, access.role(document)
    return {
        "subject": identity.subject,
        "name": identity.name,
        "color": identity.color,
        "document": document,
        "role": role.value,
        "by_token": None if pattern is None else pattern.value,
        "by_link": None if access.link is None or access.link.document != document else _plain(access.link),
        "expires_at": access.expires_at,
        "issued_at": access.issued_at,
        "token_id": access.token_id,
    }


def _plain(link: PresentedLink) -> dict[str, Any]:
    ends = None if link.expires_at is None else link.expires_at.timestamp()
    return {"id": link.id, "hash": link.secret_hash.hex(), "expires_at": ends}


def access_of(payload: Mapping[str, Any]) -> Access:
    """What was kept, as what a token would have been."""
    document, by_token, by_link = payload["document"], payload["by_token"], payload["by_link"]
    link = None
    if by_link is not None:
        ends = None if by_link["expires_at"] is None else datetime.fromtimestamp(by_link["expires_at"], UTC)
        link = PresentedLink(by_link["id"], bytes.fromhex(by_link["hash"]), document, ends)
    return Access(
        Identity(payload["subject"], payload["name"], payload["color"]),
        {} if by_token is None else {document: Role(by_token)},
        expires_at=payload["expires_at"],
        issued_at=payload["issued_at"],
        token_id=payload["token_id"],
        link=link,
        at_most=Role(payload["role"]),
    )
