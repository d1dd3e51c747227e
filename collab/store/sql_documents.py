"""The catalogue of documents in SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from collab.errors import DocumentDeleted, DocumentExists, DocumentMissing
from collab.store import queries, rules
from collab.store.database import Batch, Database
from collab.store.port import Change, Document, LogEntry, Page
from collab.store.tables import documents, updates


class SqlDocuments:
    """`Documents` on a `Database`."""

    def __init__(self, database: Database, clock: rules.Clock) -> None:
        self._database = database
        self._clock = clock

    async def create(
        self,
        name: str,
        *,
        title: str | None = None,
        meta: Mapping[str, Any] | None = None,
        entry: LogEntry | None = None,
    ) -> Document:
        """See `Documents.create`."""
        rules.check_create(name, entry)
        now = self._clock()
        values = {
            "name": name,
            "title": rules.storable_or_none(title),
            "meta": rules.checked_meta(meta),
            "created_at": now,
            "updated_at": now,
            "last_seq": 0 if entry is None else 1,
        }
        batch = Batch([] if entry is None else [entry], now)
        with self._database.translating():
            try:
                return await self._insert(values, batch)
            except IntegrityError:
                return await self._made_before(name, batch)

    async def _insert(self, values: Mapping[str, Any], batch: Batch) -> Document:
        async with self._database.writing() as connection:
            made = await connection.execute(insert(documents).values(**values).returning(documents.c.id))
            document_id = made.scalar_one()
            if batch.entries:
                await connection.execute(insert(updates), batch.rows({values["name"]: (document_id, 1)}))
            return await _read(connection, values["name"])

    async def _made_before(self, name: str, batch: Batch) -> Document:
        """Tell a repeated call, whose reply was lost, from a name that is taken: the first entry is in the log."""
        async with self._database.reading() as connection:
            taken = await connection.execute(select(documents.c.id).where(documents.c.name == name))
            if taken.one_or_none() is None or not await queries.stored_keys(connection, batch):
                raise DocumentExists(name)
            return await _read(connection, name)

    async def get(self, name: str) -> Document:
        """See `Documents.get`."""
        with self._database.translating():
            async with self._database.reading() as connection:
                return await _read(connection, name)

    async def list(self, *, prefix: str = "", after: str | None = None, limit: int = 50) -> Page:
        """See `Documents.list`."""
        size = rules.page_size(limit)
        if rules.storable(prefix) != prefix:
            return Page((), None)
        with self._database.translating():
            async with self._database.reading() as connection:
                rows = (await connection.execute(_page(prefix, after).limit(size + 1))).all()
                found = await _with_sizes(connection, rows[:size])
        return Page(tuple(found), found[-1].name if len(rows) > size else None)

    async def change(self, name: str, change: Change) -> Document:
        """See `Documents.change`."""
        values: dict[str, Any] = {"updated_at": self._clock()}
        if change.title is not None:
            values["title"] = rules.storable(change.title)
        if change.meta is not None:
            values["meta"] = rules.checked_meta(change.meta)
        with self._database.translating():
            async with self._database.writing() as connection:
                await connection.execute(update(documents).where(_is_live(name)).values(**values))
                return await _read(connection, name)

    async def delete(self, name: str) -> None:
        """See `Documents.delete`."""
        now = self._clock()
        with self._database.translating():
            async with self._database.writing() as connection:
                stamping = update(documents).where(_is_live(name)).values(deleted_at=now, updated_at=now)
                if (await connection.execute(stamping)).rowcount == 0:
                    try:
                        await queries.need(connection, name)
                    except DocumentDeleted:
                        return


def _is_live(name: str) -> ColumnElement[bool]:
    return (documents.c.name == name) & documents.c.deleted_at.is_(None)


def _page(prefix: str, after: str | None) -> Select[Any]:
    return select(documents).where(*queries.listed(prefix, after)).order_by(documents.c.name)


async def _read(connection: AsyncConnection, name: str) -> Document:
    row = (await connection.execute(select(documents).where(documents.c.name == name))).one_or_none()
    if row is None:
        raise DocumentMissing(name)
    if row.deleted_at is not None:
        raise DocumentDeleted(name)
    return (await _with_sizes(connection, [row]))[0]


async def _with_sizes(connection: AsyncConnection, rows: Sequence[Row[Any]]) -> list[Document]:
    sizes = await queries.sizes(connection, [row.id for row in rows])
    return [
        Document(row.name, row.title, row.meta, row.created_at, row.updated_at, bytes=sizes[row.id], seq=row.last_seq)
        for row in rows
    ]
