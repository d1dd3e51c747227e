"""The questions the SQL ports ask, the same on both databases.

Each runs inside the caller's transaction. Checksums of much data are computed in a thread, never in the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import ParamSpec, TypeVar

from sqlalchemy import ColumnElement, Select, and_, delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from collab.errors import DocumentDeleted, DocumentMissing, Misuse
from collab.store import rules
from collab.store.database import Batch
from collab.store.rules import Coverage
from collab.store.tables import documents, snapshots, updates

HASHED_IN_LOOP_BYTES = 256 * 1024
"""More than this is hashed in a thread. Guessed: well under a millisecond."""

PAGE_ROWS = 250
"""Rows of a log that are read and checked before anything else has its turn. Measured: 10,000 hold it for 59 ms."""

_PER_STATEMENT = 500

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Found:
    """A document that is there."""

    id: int
    last_seq: int


@dataclass(frozen=True, slots=True)
class Base:
    """The newest readable compaction snapshot, or the empty document before the first."""

    id: int | None = None
    update: bytes | None = None
    coverage: Coverage = rules.NOTHING_COVERED
    damage: tuple[str, ...] = ()


async def hashing(size: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call ``work``, which hashes ``size`` bytes, where it holds nobody up."""
    if size <= HASHED_IN_LOOP_BYTES:
        return work(*args, **kwargs)
    return await asyncio.to_thread(work, *args, **kwargs)


async def find(connection: AsyncConnection, name: str) -> Found | None:
    """The document, or None. Raises `DocumentDeleted`."""
    query = select(documents.c.id, documents.c.last_seq, documents.c.deleted_at).where(documents.c.name == name)
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        return None
    if row.deleted_at is not None:
        raise DocumentDeleted(name)
    return Found(row.id, row.last_seq)


async def need(connection: AsyncConnection, name: str) -> Found:
    """The document. Raises `DocumentMissing`, `DocumentDeleted`."""
    found = await find(connection, name)
    if found is None:
        raise DocumentMissing(name)
    return found


def listed(prefix: str, after: str | None) -> list[ColumnElement[bool]]:
    """Say which documents a listing shows. ``prefix`` is storable."""
    conditions: list[ColumnElement[bool]] = [documents.c.deleted_at.is_(None)]
    if prefix:
        conditions.append(documents.c.name >= prefix)
        if (end := rules.prefix_end(prefix)) is not None:
            conditions.append(documents.c.name < end)
    if after is not None:
        conditions.append(documents.c.name > rules.storable(after))
    return conditions


def key(number: int) -> int:
    """``number`` within what a key may be: no driver could send one beyond 63 bits."""
    return max(0, min(number, (1 << 63) - 1))


def folds_of(document_id: int) -> ColumnElement[bool]:
    """Say which snapshots are compactions of the document."""
    return and_(snapshots.c.document_id == document_id, snapshots.c.kind == "compaction")


async def newest_good(connection: AsyncConnection, name: str, document_id: int) -> Base:
    """The newest compaction snapshot whose checksum holds, and a sentence for each newer one."""
    damage: list[str] = []
    below: int | None = None
    while True:
        query = select(snapshots).where(folds_of(document_id)).order_by(snapshots.c.id.desc()).limit(1)
        row = (await connection.execute(query if below is None else query.where(snapshots.c.id < below))).one_or_none()
        if row is None:
            return Base(damage=tuple(damage))
        if await hashing(len(row.bytes), rules.checksum, name, row.bytes) == row.sha256:
            coverage = Coverage(row.covered_through, frozenset(row.waiting))
            return Base(row.id, row.bytes, coverage, tuple(damage))
        damage.append(rules.snapshot_damage(row.id))
        below = row.id


async def beyond_help(connection: AsyncConnection, found: Found, base: Base) -> bool:
    """Say whether every snapshot is damaged and rows they held are gone.

    Such a document is left alone for a person to look at: a new snapshot would make the loss look like the truth, and
    the one after it would throw the damaged bytes away.
    """
    if base.id is not None or not base.damage:
        return False
    counting = select(func.count()).select_from(updates).where(updates.c.document_id == found.id)
    return (await connection.execute(counting)).scalar_one() < found.last_seq


async def uncovered_rows(
    connection: AsyncConnection, document: str, found: Found, coverage: Coverage
) -> tuple[list[tuple[int, bytes]], list[str]]:
    """(seq, update) of the rows a snapshot with this coverage does not hold, and a sentence for each damaged one."""
    good: list[tuple[int, bytes]] = []
    damage: list[str] = []
    async for rows in _pages(connection, found, coverage):
        readable, sentences = await hashing(sum(len(row[1]) for row in rows), rules.undamaged, document, rows)
        good += readable
        damage += sentences
    return good, damage


async def _pages(
    connection: AsyncConnection, found: Found, coverage: Coverage
) -> AsyncIterator[list[tuple[int, bytes, bytes]]]:
    columns = (updates.c.seq, updates.c.bytes, updates.c.sha256)
    query = select(*columns).where(updates.c.document_id == found.id).order_by(updates.c.seq)
    for waiting in chunks(coverage.waiting):
        yield await _rows(connection, query.where(updates.c.seq.in_(waiting)))
    after: int | None = coverage.through
    while after is not None:
        rows = await _rows(connection, query.where(updates.c.seq > after).limit(PAGE_ROWS))
        yield rows
        after = rows[-1][0] if len(rows) == PAGE_ROWS else None


async def _rows(connection: AsyncConnection, query: Select[tuple[int, bytes, bytes]]) -> list[tuple[int, bytes, bytes]]:
    return [(row.seq, row.bytes, row.sha256) for row in await connection.execute(query)]


async def delete_covered_rows(connection: AsyncConnection, found: Found, coverage: Coverage) -> None:
    """Delete exactly the rows a snapshot with this coverage holds."""
    low = 0
    for kept in [*chunks(coverage.waiting), []]:
        high = kept[-1] if kept else coverage.through
        span = and_(updates.c.document_id == found.id, updates.c.seq > low, updates.c.seq <= high)
        await connection.execute(delete(updates).where(span, updates.c.seq.not_in(kept)))
        low = high


def chunks(numbers: Iterable[int]) -> list[list[int]]:
    """In order, in lists short enough for a statement's parameters: a hostile client may make many rows wait."""
    ordered = sorted(numbers)
    return [ordered[start : start + _PER_STATEMENT] for start in range(0, len(ordered), _PER_STATEMENT)]


async def stored_keys(connection: AsyncConnection, batch: Batch) -> set[tuple[str, int]]:
    """Which of the batch's (node, number) the log holds. Raises `Misuse` when one names another update there."""
    ours = {(e.node, e.number): digest for e, digest in zip(batch.entries, batch.checksums, strict=True)}
    stored: set[tuple[str, int]] = set()
    for node, keys in groupby(sorted(ours), key=lambda key: key[0]):
        for numbers in chunks(number for _, number in keys):
            query = select(updates.c.number, updates.c.sha256).where(
                updates.c.node == node, updates.c.number.in_(numbers)
            )
            for row in await connection.execute(query):
                if row.sha256 != ours[node, row.number]:
                    raise Misuse(rules.two_updates(node, row.number))
                stored.add((node, row.number))
    return stored


def is_newest_fold(document_ids: Collection[int]) -> ColumnElement[bool]:
    """Say which snapshots are the newest compaction of one of these documents."""
    newest = (
        select(func.max(snapshots.c.id))
        .where(snapshots.c.kind == "compaction", snapshots.c.document_id.in_(document_ids))
        .group_by(snapshots.c.document_id)
    )
    return snapshots.c.id.in_(newest)


async def sizes(connection: AsyncConnection, document_ids: Collection[int]) -> Mapping[int, int]:
    """Bytes of the newest compaction snapshot plus the rows it does not cover, per document, without reading them."""
    folds = select(
        snapshots.c.document_id,
        func.length(snapshots.c.bytes).label("size"),
        snapshots.c.covered_through,
        snapshots.c.waiting,
    ).where(is_newest_fold(document_ids))
    total = dict.fromkeys(document_ids, 0)
    parts = [log_after_folds(document_ids)]
    for fold in await connection.execute(folds):
        total[fold.document_id] = fold.size
        of_document = updates.c.document_id == fold.document_id
        parts.extend(and_(of_document, updates.c.seq.in_(waiting)) for waiting in chunks(fold.waiting))
    for part in parts:
        summed = select(updates.c.document_id, func.sum(func.length(updates.c.bytes)).label("size")).where(part)
        for row in await connection.execute(summed.group_by(updates.c.document_id)):
            total[row.document_id] += int(row.size)
    return total


def log_after_folds(document_ids: Collection[int]) -> ColumnElement[bool]:
    """Say which rows come after their document's newest compaction snapshot."""
    through = (
        select(snapshots.c.covered_through)
        .where(snapshots.c.document_id == updates.c.document_id, snapshots.c.kind == "compaction")
        .order_by(snapshots.c.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    return and_(updates.c.document_id.in_(document_ids), updates.c.seq > func.coalesce(through, 0))
