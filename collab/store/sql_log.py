"""The update log in SQL: appends that may be repeated, loads that survive damage, compaction that loses nothing.

The statements are the same on both databases; what differs is behind `Database`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import delete, insert
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from collab.store import queries, rules
from collab.store.database import Batch, Counters, Database, Uncertain
from collab.store.port import ROW_WAIT_S, Appended, Compaction, LogEntry, LoggedUpdate, Stored, Tail
from collab.store.queries import Base, Found
from collab.store.rules import TailRow
from collab.store.sql_loads import Loads
from collab.store.tables import snapshots, updates


class SqlLog:
    """`UpdateLog` on a `Database`."""

    def __init__(self, database: Database, clock: rules.Clock, counters: Counters) -> None:
        self._database = database
        self._clock = clock
        self._counters = counters
        self._loads = Loads(database)

    async def append(self, entries: Sequence[LogEntry], *, row_wait_s: float = ROW_WAIT_S) -> Appended:
        """See `UpdateLog.append`."""
        if not entries:
            return Appended({})
        batch = Batch(entries, self._clock(), row_wait_s=row_wait_s)
        repeated = False
        with self._database.translating():
            try:
                last_seq = await self._database.append(batch)
            except Uncertain:
                # Either some entry is there already (its reply was lost), or the connection broke and nobody knows.
                # Both are settled by looking first; looking every time would cost every append a round trip.
                last_seq = await self._append_carefully(batch)
                repeated = True
            else:
                self._counters.append_transactions += 1
                self._counters.appended_rows += sum(batch.counts[name] for name in last_seq)
        return Appended(last_seq, frozenset(batch.counts.keys() - last_seq.keys()), repeated=repeated)

    async def _append_carefully(self, batch: Batch) -> dict[str, int]:
        async with self._database.appending(batch) as connection:
            # Locking first is what makes the question below final: an earlier attempt that is still running on the
            # server holds these rows, and once we have them, its entries are either visible or will never be.
            held = await self._database.advance(connection, dict.fromkeys(batch.counts, 0), batch.now)
            stored = await queries.stored_keys(connection, batch)
            fresh = [entry for key, entry in rules.distinct(batch.entries).items() if key not in stored]
            rest = [entry for entry in fresh if entry.document in held]
            ends = dict(held)
            if rest:
                remaining = Batch(rest, batch.now)
                ends |= await self._database.advance(connection, remaining.counts, batch.now)
                await connection.execute(insert(updates), remaining.rows(ends))
        self._counters.append_transactions += 1
        self._counters.careful_appends += 1
        self._counters.appended_rows += len(rest)
        self._counters.repeated_rows += sum(batch.counts[name] for name in held) - len(rest)
        return {name: last_seq for name, (_, last_seq) in ends.items()}

    async def load(self, document: str) -> Stored:
        """See `UpdateLog.load`."""
        return await self._loads.load(document) or await self._load_alone(document)

    async def _load_alone(self, document: str) -> Stored:
        with self._database.translating():
            async with self._database.reading() as connection:
                found = await queries.find(connection, document)
                if found is None:
                    return Stored(None, ())
                base = await queries.newest_good(connection, document, found.id)
                good, unreadable = await queries.uncovered_rows(connection, document, found, base.coverage)
        return Stored(
            base.update,
            tuple(LoggedUpdate(seq, update) for seq, update in good),
            last_seq=found.last_seq,
            snapshot_id=base.id,
            damage=(*base.damage, *unreadable),
        )

    async def last_seq(self, document: str) -> int:
        """See `UpdateLog.last_seq`."""
        with self._database.translating():
            async with self._database.reading() as connection:
                found = await queries.find(connection, document)
        return 0 if found is None else found.last_seq

    async def last_seqs(self, documents: Collection[str]) -> dict[str, int | None]:
        """See `UpdateLog.last_seqs`."""
        if not documents:
            return {}
        with self._database.translating():
            async with self._database.reading() as connection:
                found = await self._database.sequences(connection, documents)
        return {row.name: row.last_seq if row.deleted_at is None else None for row in found}

    async def tail(self, after: Mapping[str, int], *, limit_bytes: int = 4 * 1024 * 1024) -> dict[str, Tail]:
        """See `UpdateLog.tail`."""
        if not after:
            return {}
        limit_bytes = max(limit_bytes, 1)
        with self._database.translating():
            async with self._database.reading() as connection:
                found = list(await self._database.tails(connection, after, limit_bytes))
        return await queries.hashing(sum(len(row.bytes or b"") for row in found), _tails, after, found, limit_bytes)

    async def compact(self, document: str, compaction: Compaction) -> bool:
        """See `UpdateLog.compact`."""
        digest = await queries.hashing(len(compaction.update), rules.checksum, document, compaction.update)
        with self._database.translating():
            async with self._database.writing() as connection:
                found = await queries.find(connection, document)
                if found is None:
                    return False
                rules.check_covered(compaction.covered, found.last_seq)
                await self._database.serialise_compaction(connection, found.id)
                base = await queries.newest_good(connection, document, found.id)
                if base.id != compaction.base or await queries.beyond_help(connection, found, base):
                    return False
                await self._replace_base(connection, found, base, compaction, digest)
        self._counters.compactions += 1
        return True

    async def _replace_base(
        self, connection: AsyncConnection, found: Found, base: Base, compaction: Compaction, digest: bytes
    ) -> None:
        """Add the snapshot; drop the rows and snapshots that only the state before ``base`` needed.

        What ``base`` does not cover stays, so that ``base`` and the log still make the whole document if the new
        snapshot turns out damaged.
        """
        coverage = base.coverage.extended(compaction.covered)
        await connection.execute(
            insert(snapshots).values(
                document_id=found.id,
                kind="compaction",
                bytes=compaction.update,
                state_vector=compaction.state_vector,
                sha256=digest,
                covered_through=coverage.through,
                waiting=sorted(coverage.waiting),
                seq=found.last_seq,
                created_at=self._clock(),
            )
        )
        if base.id is None:
            return
        await queries.delete_covered_rows(connection, found, base.coverage)
        await connection.execute(delete(snapshots).where(queries.folds_of(found.id), snapshots.c.id < base.id))


def _tails(after: Mapping[str, int], found: Sequence[Row[Any]], limit_bytes: int) -> dict[str, Tail]:
    """Make a tail of each document's rows. What was found ends early with the row that reaches the limit, if at all."""
    tails: dict[str, Tail] = {}
    left = limit_bytes
    for (name, last_seq), group in groupby(found, key=lambda row: (row.name, row.last_seq)):
        rows = [TailRow(row.seq, row.bytes, row.sha256, row.node, row.number) for row in group if row.seq is not None]
        left -= sum(row.size for row in rows)
        tails[name] = rules.tail(name, after[name], last_seq, rows, cut=left <= 0)
    return tails
