"""Links in SQL. Revoked ones stay, so that a secret that once was one never is one again."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import or_, select, update

from collab.errors import LinkMissing
from collab.store import access_rules, queries, rules
from collab.store.access_port import Link
from collab.store.database import Database
from collab.store.sql_changes import raise_epoch, upsert
from collab.store.tables import access_links as links
from collab.store.tables import documents

_LINKS = select(
    links.c.id, documents.c.name, links.c.role, links.c.created_by, links.c.created_at, links.c.expires_at
).join_from(links, documents)


class SqlLinks:
    """`Links` on a `Database`."""

    def __init__(self, database: Database, clock: rules.Clock) -> None:
        self._database = database
        self._clock = clock

    async def create(
        self, document: str, role: str, secret_hash: bytes, *, by: str, expires_at: datetime | None = None
    ) -> Link:
        """See `Links.create`."""
        access_rules.checked_role(role)
        access_rules.checked_hash(secret_hash)
        ends = None if expires_at is None else expires_at.astimezone(UTC)
        with self._database.translating():
            async with self._database.writing() as connection:
                found = await queries.need(connection, document)
                adding = upsert(connection, links).values(
                    document_id=found.id,
                    role=role,
                    secret_hash=secret_hash,
                    created_by=rules.storable(by),
                    created_at=self._clock(),
                    expires_at=ends,
                )
                once = adding.on_conflict_do_nothing(index_elements=[links.c.secret_hash]).returning(links.c.id)
                made = (await connection.execute(once)).scalar_one_or_none()
                if made is not None:
                    await raise_epoch(connection, document_id=found.id, link_id=made)
                row = (await connection.execute(_LINKS.where(links.c.secret_hash == secret_hash))).one()
        return access_rules.same_link(Link(*row), document, role, ends)

    async def find(self, secret_hash: bytes) -> Link | None:
        """See `Links.find`."""
        query = _LINKS.where(
            links.c.secret_hash == secret_hash,
            links.c.revoked_at.is_(None),
            or_(links.c.expires_at.is_(None), links.c.expires_at > self._clock()),
            documents.c.deleted_at.is_(None),
        )
        with self._database.translating():
            async with self._database.reading() as connection:
                row = (await connection.execute(query)).one_or_none()
        return None if row is None else Link(*row)

    async def of_document(self, document: str, *, before: int | None = None, limit: int = 50) -> tuple[Link, ...]:
        """See `Links.of_document`."""
        with self._database.translating():
            async with self._database.reading() as connection:
                found = await queries.need(connection, document)
                query = _LINKS.where(links.c.document_id == found.id, links.c.revoked_at.is_(None))
                if before is not None:
                    query = query.where(links.c.id < queries.key(before))
                rows = (await connection.execute(query.order_by(links.c.id.desc()).limit(rules.page_size(limit)))).all()
        return tuple(Link(*row) for row in rows)

    async def revoke(self, document: str, link_id: int) -> None:
        """See `Links.revoke`."""
        with self._database.translating():
            async with self._database.writing() as connection:
                found = await queries.need(connection, document)
                this = (links.c.document_id == found.id) & (links.c.id == queries.key(link_id))
                ending = update(links).where(this, links.c.revoked_at.is_(None)).values(revoked_at=self._clock())
                if (await connection.execute(ending)).rowcount > 0:
                    await raise_epoch(connection, document_id=found.id, link_id=link_id)
                elif (await connection.execute(select(links.c.id).where(this))).first() is None:
                    raise LinkMissing(access_rules.no_link(document, link_id))
