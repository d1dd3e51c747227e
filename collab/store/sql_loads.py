"""Loads that come together travel together: a thousand documents opened at once are not three thousand statements.

Only what is usual goes that way: small snapshots, short tails, nothing damaged. Everything else is left to
`SqlLog`, which reads it alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from collab.errors import DocumentDeleted
from collab.store import queries, rules
from collab.store.database import Database
from collab.store.port import LoggedUpdate, Stored
from collab.store.tables import documents, snapshots, updates
from collab.store.together import Together

TOGETHER = 50
"""Documents read in one transaction at most."""

SMALL_BYTES = 256 * 1024
"""A larger snapshot is read alone, so that fifty of them are not in memory at once."""

SHORT_TAIL = 200
"""The same for so many rows behind it; they may hold `SMALL_BYTES`, too."""

Answer = Stored | DocumentDeleted
"""What became of a load; of what is to be read alone there is none."""


class Loads:
    """The loads of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._together = Together(self._read_all, most=TOGETHER)

    async def load(self, document: str) -> Stored | None:
        """The document as it is committed after the call; None when it must be read alone.

        Raises `DocumentDeleted`, `StoreUnavailable`.
        """
        answer = await self._together.ask(document)
        if isinstance(answer, DocumentDeleted):
            raise answer
        return answer

    async def _read_all(self, names: Collection[str]) -> dict[str, Answer]:
        if len(names) == 1:
            return {}
        with self._database.translating():
            async with self._database.reading() as connection:
                return await _read_some(connection, names)


async def _read_some(connection: AsyncConnection, names: Collection[str]) -> dict[str, Answer]:
    answers: dict[str, Answer] = dict.fromkeys(names, Stored(None, ()))
    columns = (documents.c.id, documents.c.name, documents.c.last_seq, documents.c.deleted_at)
    usual: dict[int, Any] = {}
    for row in await connection.execute(select(*columns).where(documents.c.name.in_(names))):
        if row.deleted_at is not None:
            answers[row.name] = DocumentDeleted(row.name)
        else:
            del answers[row.name]
            usual[row.id] = row
    if not usual:
        return answers
    folds = await _newest_folds(connection, usual)
    for document_id, row in tuple(usual.items()):
        if not _is_usual(row, folds.get(document_id)):
            del usual[document_id]
    if not usual:
        return answers
    for document_id, size in await _tail_bytes(connection, usual):
        if size > SMALL_BYTES:
            del usual[document_id]
    if not usual:
        return answers
    bytes_of = await _fold_bytes(connection, [fold.id for key, fold in folds.items() if key in usual])
    rows = await _rows(connection, usual)
    size = sum(map(len, bytes_of.values())) + sum(len(row[1]) for tail in rows.values() for row in tail)
    return answers | await queries.hashing(size, _checked, usual, folds, bytes_of, rows)


def _is_usual(document: Any, fold: Any | None) -> bool:
    through = 0 if fold is None else fold.covered_through
    small = fold is None or (fold.size <= SMALL_BYTES and not fold.waiting)
    return small and document.last_seq - through <= SHORT_TAIL


async def _newest_folds(connection: AsyncConnection, ids: Collection[int]) -> dict[int, Any]:
    """Document id -> facts of its newest compaction snapshot, without the bytes."""
    facts = select(
        snapshots.c.id,
        snapshots.c.document_id,
        func.length(snapshots.c.bytes).label("size"),
        snapshots.c.covered_through,
        snapshots.c.waiting,
        snapshots.c.sha256,
    )
    found = await connection.execute(facts.where(queries.is_newest_fold(ids)))
    return {row.document_id: row for row in found}


async def _fold_bytes(connection: AsyncConnection, ids: Collection[int]) -> dict[int, bytes]:
    if not ids:
        return {}
    found = await connection.execute(select(snapshots.c.id, snapshots.c.bytes).where(snapshots.c.id.in_(ids)))
    return {row.id: row.bytes for row in found}


async def _tail_bytes(connection: AsyncConnection, ids: Collection[int]) -> Iterable[tuple[int, int]]:
    """Document id and size of the rows behind its newest snapshot, where there are any."""
    size = func.sum(func.length(updates.c.bytes))
    found = select(updates.c.document_id, size).where(queries.log_after_folds(ids)).group_by(updates.c.document_id)
    return [(document_id, int(size)) for document_id, size in await connection.execute(found)]


async def _rows(connection: AsyncConnection, ids: Collection[int]) -> dict[int, list[tuple[int, bytes, bytes]]]:
    """Document id -> (seq, update, checksum) of the rows behind its newest snapshot, in order."""
    columns = (updates.c.document_id, updates.c.seq, updates.c.bytes, updates.c.sha256)
    query = select(*columns).where(queries.log_after_folds(ids)).order_by(updates.c.document_id, updates.c.seq)
    rows: dict[int, list[tuple[int, bytes, bytes]]] = {}
    for row in await connection.execute(query):
        rows.setdefault(row.document_id, []).append((row.seq, row.bytes, row.sha256))
    return rows


def _checked(
    usual: Mapping[int, Any],
    folds: Mapping[int, Any],
    bytes_of: Mapping[int, bytes],
    rows: Mapping[int, Sequence[tuple[int, bytes, bytes]]],
) -> dict[str, Answer]:
    """What passes its checksums; the rest is read alone, which knows what to do about it."""
    answers: dict[str, Answer] = {}
    for document_id, document in usual.items():
        fold = folds.get(document_id)
        update = None if fold is None else bytes_of[fold.id]
        if fold is not None and update is not None and rules.checksum(document.name, update) != fold.sha256:
            continue
        good, damage = rules.undamaged(document.name, rows.get(document_id, ()))
        if not damage:
            tail = tuple(LoggedUpdate(seq, row) for seq, row in good)
            snapshot_id = None if fold is None else fold.id
            answers[document.name] = Stored(update, tail, last_seq=document.last_seq, snapshot_id=snapshot_id)
    return answers
