"""Labelled versions of documents in SQL."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, and_, delete, func, insert, select

from collab.errors import SnapshotMissing
from collab.store import queries, rules
from collab.store.database import Database
from collab.store.port import Snapshot
from collab.store.tables import snapshots

_FACTS = (
    snapshots.c.id,
    snapshots.c.label,
    snapshots.c.author,
    snapshots.c.created_at,
    func.length(snapshots.c.bytes).label("size"),
    snapshots.c.seq,
)


class SqlSnapshots:
    """`Snapshots` on a `Database`."""

    def __init__(self, database: Database, clock: rules.Clock) -> None:
        self._database = database
        self._clock = clock

    async def create(
        self, document: str, *, update: bytes, state_vector: bytes, seq: int, label: str | None, author: str | None
    ) -> Snapshot:
        """See `Snapshots.create`."""
        digest = await queries.hashing(len(update), rules.checksum, document, update)
        with self._database.translating():
            async with self._database.writing() as connection:
                found = await queries.need(connection, document)
                adding = insert(snapshots).values(
                    document_id=found.id,
                    kind="version",
                    label=rules.storable_or_none(label),
                    bytes=update,
                    state_vector=state_vector,
                    sha256=digest,
                    covered_through=0,
                    waiting=[],
                    seq=seq,
                    author=rules.storable_or_none(author),
                    created_at=self._clock(),
                )
                made = (await connection.execute(adding.returning(snapshots.c.id))).scalar_one()
                row = (await connection.execute(select(*_FACTS).where(snapshots.c.id == made))).one()
        return _snapshot(document, row)

    async def list(self, document: str, *, before: int | None = None, limit: int = 50) -> tuple[Snapshot, ...]:
        """See `Snapshots.list`."""
        with self._database.translating():
            async with self._database.reading() as connection:
                found = await queries.need(connection, document)
                query = select(*_FACTS).where(_versions_of(found.id)).order_by(snapshots.c.id.desc())
                if before is not None:
                    query = query.where(snapshots.c.id < before)
                rows = (await connection.execute(query.limit(rules.page_size(limit)))).all()
        return tuple(_snapshot(document, row) for row in rows)

    async def get(self, document: str, snapshot: int) -> tuple[Snapshot, bytes]:
        """See `Snapshots.get`."""
        with self._database.translating():
            async with self._database.reading() as connection:
                found = await queries.need(connection, document)
                query = select(*_FACTS, snapshots.c.bytes, snapshots.c.sha256)
                row = (await connection.execute(query.where(_version(found.id, snapshot)))).one_or_none()
        if row is None:
            raise SnapshotMissing(rules.no_snapshot(document, snapshot))
        if await queries.hashing(row.size, rules.checksum, document, row.bytes) != row.sha256:
            raise SnapshotMissing(rules.no_snapshot(document, snapshot)) from ValueError(
                rules.snapshot_damage(snapshot)
            )
        return _snapshot(document, row), row.bytes

    async def delete(self, document: str, snapshot: int) -> None:
        """See `Snapshots.delete`."""
        with self._database.translating():
            async with self._database.writing() as connection:
                found = await queries.need(connection, document)
                removed = await connection.execute(delete(snapshots).where(_version(found.id, snapshot)))
        if removed.rowcount == 0:
            raise SnapshotMissing(rules.no_snapshot(document, snapshot))


def _versions_of(document_id: int) -> ColumnElement[bool]:
    return and_(snapshots.c.document_id == document_id, snapshots.c.kind == "version")


def _version(document_id: int, snapshot: int) -> ColumnElement[bool]:
    # A number beyond 63 bits is nobody's id, and no driver could send it.
    return and_(_versions_of(document_id), snapshots.c.id == (snapshot if 0 < snapshot < 1 << 63 else 0))


def _snapshot(document: str, row: Any) -> Snapshot:
    return Snapshot(row.id, document, row.label, row.author, row.created_at, bytes=row.size, seq=row.seq)
