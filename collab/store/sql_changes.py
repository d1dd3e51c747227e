"""Access changes in SQL: the epoch, raised by the ports beside it, and read by nodes.

The epoch is one row. A transaction raises it last, with every other row it needs already locked: so whoever holds it
waits for nobody and no two deadlock, and it is held for little more than a commit.
"""

from __future__ import annotations

from sqlalchemy import delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.schema import Table

from collab.store import access_rules, rules
from collab.store.access_port import AccessChange, AccessTail
from collab.store.database import Database
from collab.store.tables import access_changes, access_epoch, documents

_EPOCH = select(access_epoch.c.epoch)
_CHANGES = select(
    access_changes.c.epoch,
    documents.c.name,
    access_changes.c.subject,
    access_changes.c.link_id,
    access_changes.c.token,
).outerjoin_from(access_changes, documents, documents.c.id == access_changes.c.document_id)


class SqlAccessChanges:
    """`AccessChanges` on a `Database`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def epoch(self) -> int:
        """See `AccessChanges.epoch`."""
        with self._database.translating():
            async with self._database.reading() as connection:
                newest: int = (await connection.execute(_EPOCH)).scalar_one()
        return newest

    async def after(self, epoch: int, *, limit: int = 1000) -> AccessTail:
        """See `AccessChanges.after`."""
        query = _CHANGES.where(access_changes.c.epoch > epoch).order_by(access_changes.c.epoch)
        with self._database.translating():
            async with self._database.reading() as connection:
                newest = (await connection.execute(_EPOCH)).scalar_one()
                rows = (await connection.execute(query.limit(rules.page_size(limit)))).all()
        return access_rules.tail(epoch, newest, [AccessChange(*row) for row in rows])


async def raise_epoch(
    connection: AsyncConnection,
    *,
    document_id: int | None = None,
    subject: str | None = None,
    link_id: int | None = None,
    token: str | None = None,
) -> None:
    """Count a change in the transaction that makes it, and say what it is about; forget the oldest."""
    raising = update(access_epoch).values(epoch=access_epoch.c.epoch + 1).returning(access_epoch.c.epoch)
    epoch = (await connection.execute(raising)).scalar_one()
    adding = insert(access_changes).values(
        epoch=epoch, document_id=document_id, subject=subject, link_id=link_id, token=token
    )
    await connection.execute(adding)
    await connection.execute(delete(access_changes).where(access_changes.c.epoch <= epoch - access_rules.KEPT_CHANGES))


def upsert(connection: AsyncConnection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """An insert that can say what happens to a row that is there already."""
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)
