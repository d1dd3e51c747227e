"""Who is connected to a document, as nodes tell each other and REST shows it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from collab.room import Identity, Role


@dataclass(frozen=True, slots=True)
class Presence:
    """One session, as others may see it."""

    identity: Identity
    role: Role
    connected_at: datetime

    def fields(self) -> dict[str, Any]:
        """As another node reads it."""
        who = self.identity
        return {
            "subject": who.subject,
            "name": who.name,
            "color": who.color,
            "role": self.role.value,
            "connected_at": self.connected_at.isoformat(),
        }

    @classmethod
    def read(cls, fields: dict[str, Any]) -> Presence | None:
        """What another node wrote; None when only a newer version can read it."""
        try:
            identity = Identity(fields["subject"], fields["name"], fields["color"])
            return cls(identity, Role(fields["role"]), datetime.fromisoformat(fields["connected_at"]))
        except (KeyError, ValueError, TypeError):
            return None
