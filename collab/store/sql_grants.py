"""Grants in SQL. Roles are asked for at every join and request, so those asked for at once share a query."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import delete, select

from collab.store import access_rules, queries, rules
from collab.store.access_port import Grant, GrantPage
from collab.store.database import Database
from collab.store.sql_changes import raise_epoch, upsert
from collab.store.tables import documents, grants
from collab.store.together import Together

ROLES_TOGETHER = 1_000
"""Roles asked for in one statement at most."""

_GRANTS = select(documents.c.name, grants.c.subject, grants.c.role, grants.c.granted_by, grants.c.granted_at).join_from(
    grants, documents
)


class SqlGrants:
    """`Grants` on a `Database`."""

    def __init__(self, database: Database, clock: rules.Clock) -> None:
        self._database = database
        self._clock = clock
        self._roles = Together(self._ask, most=ROLES_TOGETHER)

    async def put(self, document: str, subject: str, role: str, *, by: str) -> Grant:
        """See `Grants.put`."""
        access_rules.checked_subject(subject)
        access_rules.checked_role(role)
        given = {"role": role, "granted_by": rules.storable(by), "granted_at": self._clock()}
        with self._database.translating():
            async with self._database.writing() as connection:
                found = await queries.need(connection, document)
                adding = upsert(connection, grants).values(document_id=found.id, subject=subject, **given)
                changing = adding.on_conflict_do_update(
                    index_elements=[grants.c.document_id, grants.c.subject],
                    set_={name: adding.excluded[name] for name in given},
                    where=grants.c.role != adding.excluded.role,
                )
                if (await connection.execute(changing.returning(grants.c.document_id))).first() is not None:
                    await raise_epoch(connection, document_id=found.id, subject=subject)
                query = _GRANTS.where(grants.c.document_id == found.id, grants.c.subject == subject)
                return Grant(*(await connection.execute(query)).one())

    async def remove(self, document: str, subject: str) -> bool:
        """See `Grants.remove`."""
        with self._database.translating():
            async with self._database.writing() as connection:
                found = await queries.need(connection, document)
                if not access_rules.names_somebody(subject):
                    return False
                taking = delete(grants).where(grants.c.document_id == found.id, grants.c.subject == subject)
                if (await connection.execute(taking)).rowcount == 0:
                    return False
                await raise_epoch(connection, document_id=found.id, subject=subject)
                return True

    async def get(self, document: str, subject: str) -> Grant | None:
        """See `Grants.get`."""
        with self._database.translating():
            async with self._database.reading() as connection:
                found = await queries.need(connection, document)
                if not access_rules.names_somebody(subject):
                    return None
                query = _GRANTS.where(grants.c.document_id == found.id, grants.c.subject == subject)
                row = (await connection.execute(query)).one_or_none()
        return None if row is None else Grant(*row)

    async def of_document(self, document: str, *, after: str | None = None, limit: int = 50) -> GrantPage:
        """See `Grants.of_document`."""
        size = rules.page_size(limit)
        with self._database.translating():
            async with self._database.reading() as connection:
                found = await queries.need(connection, document)
                query = _GRANTS.where(grants.c.document_id == found.id).order_by(grants.c.subject)
                if after is not None:
                    query = query.where(grants.c.subject > rules.storable(after))
                rows = (await connection.execute(query.limit(size + 1))).all()
        return _page(rows, size, "subject")

    async def role(self, document: str, subject: str) -> str | None:
        """See `Grants.role`."""
        if not access_rules.names_somebody(subject) or rules.storable(document) != document:
            return None
        return await self._roles.ask((document, subject))

    async def _ask(self, asked: Collection[tuple[str, str]]) -> Mapping[tuple[str, str], str]:
        with self._database.translating():
            async with self._database.reading() as connection:
                rows = await self._database.roles(connection, asked)
                return {(row.name, row.subject): row.role for row in rows}

    async def documents_of(
        self, subject: str, *, prefix: str = "", after: str | None = None, limit: int = 50
    ) -> GrantPage:
        """See `Grants.documents_of`."""
        size = rules.page_size(limit)
        if not access_rules.names_somebody(subject) or rules.storable(prefix) != prefix:
            return GrantPage((), None)
        query = _GRANTS.where(grants.c.subject == subject, *queries.listed(prefix, after)).order_by(documents.c.name)
        with self._database.translating():
            async with self._database.reading() as connection:
                rows = (await connection.execute(query.limit(size + 1))).all()
        return _page(rows, size, "document")


def _page(rows: Any, size: int, by: str) -> GrantPage:
    found = tuple(Grant(*row) for row in rows[:size])
    return GrantPage(found, getattr(found[-1], by) if len(rows) > size else None)
