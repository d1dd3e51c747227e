"""The audit log in SQL: rows are added and read; triggers refuse the rest."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from collab.store import access_rules, queries, rules
from collab.store.access_port import AuditEntry, AuditEvent
from collab.store.database import Database
from collab.store.sql_changes import upsert
from collab.store.tables import audit_log

_FIELDS = ("action", "at", "actor", "actor_kind", "document", "detail", "key")
_ENTRIES = select(audit_log.c.id, *(audit_log.c[name] for name in _FIELDS))


class SqlAudit:
    """`Audit` on a `Database`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def append(self, events: Sequence[AuditEvent]) -> None:
        """See `Audit.append`."""
        kept = [access_rules.storable_event(event) for event in events]
        rows = [{name: getattr(event, name) for name in _FIELDS} for event in kept]
        if not rows:
            return
        with self._database.translating():
            async with self._database.writing() as connection:
                adding = upsert(connection, audit_log)
                await connection.execute(adding.on_conflict_do_nothing(index_elements=[audit_log.c.key]), rows)

    async def page(
        self, *, document: str | None = None, actor: str | None = None, before: int | None = None, limit: int = 50
    ) -> tuple[AuditEntry, ...]:
        """See `Audit.page`."""
        query = _ENTRIES.order_by(audit_log.c.id.desc()).limit(rules.page_size(limit))
        if document is not None:
            query = query.where(audit_log.c.document == access_rules.audit_text(document))
        if actor is not None:
            query = query.where(audit_log.c.actor == access_rules.audit_text(actor))
        if before is not None:
            query = query.where(audit_log.c.id < queries.key(before))
        with self._database.translating():
            async with self._database.reading() as connection:
                rows = (await connection.execute(query)).all()
        return tuple(AuditEntry(row[0], AuditEvent(**dict(zip(_FIELDS, row[1:], strict=True)))) for row in rows)
