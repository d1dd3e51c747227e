"""PostgreSQL through asyncpg: a batch of updates of many documents is one statement and one round trip.

Order without gaps. The tempting way is to let an identity column number the log and to read "everything after the
last number I saw". Identity values are handed out before commit, so 12 can be visible before 11 is, and a reader
that has seen 12 never asks for 11 again: an update is lost on that reader for ever. Here the number is taken from the
document's own row, by an UPDATE that keeps the row locked until the transaction ends. The next writer of that
document waits, then counts on from what was committed. So within one document, numbers become visible in order and
without gaps, and "covered through 400" can be said in one number. A transaction that is undone takes its numbers back.

Documents are locked in name order, by every transaction that locks more than one, so two batches that overlap wait for
each other instead of deadlocking. An append waits for a row as briefly as it is told to: when one stays locked,
`DocumentsBusy` tells which, so that a forgotten transaction on one document does not hold up all that share a batch
with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from typing import Any

import asyncpg
from sqlalchemy import text
from sqlalchemy.engine import URL, Row
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from collab.errors import DocumentsBusy, StoreUnavailable
from collab.store import migrate as schema
from collab.store.database import ROLES, SEQUENCES, TAILS, Batch, Database, Timeouts, Uncertain, transaction
from collab.store.rules import storable_or_none

CONNECTIONS = 5
"""For everything but appends, per process. Guessed; a default server takes 100."""
APPENDING_CONNECTIONS = 3
"""One for the recorder's batches, two for the documents it has set aside, which may wait for a lock."""

_BROKEN = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    ConnectionError,
)
"""How a connection that was fine tells that it is not; whether the statement was committed nobody knows."""

_COMPACTING = 0x636F6C6C << 32
"""Advisory locks from here upwards, by document id, mean "this document is being compacted"."""

_ADVANCE = """
INSERT INTO documents AS d (name, meta, created_at, updated_at, last_seq)
SELECT name, '{}', $1, $1, count FROM unnest($2::text[], $3::bigint[]) AS given (name, count)
ON CONFLICT (name) DO UPDATE SET last_seq = d.last_seq + excluded.last_seq, updated_at = excluded.updated_at
WHERE d.deleted_at IS NULL
RETURNING d.name, d.id, d.last_seq
"""

_APPEND = f"""
WITH ends AS ({_ADVANCE}), added AS (
  INSERT INTO updates (document_id, seq, bytes, sha256, author, node, number, created_at)
  SELECT ends.id, ends.last_seq - back, bytes, sha256, author, node, number, $1
  FROM unnest($4::text[], $5::bigint[], $6::bytea[], $7::bytea[], $8::text[], $9::text[], $10::bigint[])
    AS given (name, back, bytes, sha256, author, node, number)
  JOIN ends USING (name)
)
SELECT name, last_seq FROM ends
"""  # noqa: S608


# Its locks end with it. FOR NO KEY UPDATE is what an append takes, so this finds what holds up an append and nothing
# else: a compaction's snapshot refers to its document's row with a weaker lock. The row of a document that is just
# being created elsewhere cannot be seen yet, let alone be asked about.
_BUSY = """
WITH free AS MATERIALIZED (
  SELECT name FROM documents WHERE name = ANY($1::text[]) FOR NO KEY UPDATE SKIP LOCKED
)
SELECT given.name, documents.name IS NULL AS unseen
FROM unnest($1::text[]) AS given (name) LEFT JOIN documents USING (name)
WHERE given.name NOT IN (SELECT name FROM free)
"""

_SEQUENCES = SEQUENCES.format(among="= ANY($1::text[])")
_TAILS = TAILS.format(given="SELECT * FROM unnest($1::text[], $2::bigint[])", length="octet_length", limit="$3::bigint")
_ROLES = ROLES.format(given="SELECT * FROM unnest($1::text[], $2::text[])")


class PostgresDatabase(Database):
    """See the module."""

    driver_errors = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

    def __init__(self, url: URL, timeouts: Timeouts) -> None:
        arguments = _connect_arguments(timeouts)
        self._lock_s = timeouts.lock_s
        self._engine = create_async_engine(
            url,
            hide_parameters=True,
            pool_size=CONNECTIONS,
            max_overflow=CONNECTIONS,
            pool_timeout=timeouts.statement_s,
            pool_pre_ping=True,  # one more round trip, so that a restarted server fails no request
            connect_args=arguments,
        )
        self._appenders = _Appenders({**self._engine.dialect.create_connect_args(url)[1], **arguments})
        self._readers = self._engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        super().__init__(url, (self._engine,))

    async def prepare(self, *, migrate: bool) -> None:
        """Check the schema; change it only when asked to."""
        found = await self.schema()
        if migrate and found.objection() is not None:
            await self._upgrade()
            found = await self.schema()
        if objection := found.objection():
            raise StoreUnavailable(f"{self.name} {objection}")

    async def _upgrade(self) -> None:
        try:
            await asyncio.to_thread(schema.upgrade, self.url)
        except DBAPIError as error:
            if not isinstance(_cause(error), asyncpg.LockNotAvailableError):
                raise
            waited = f"the migration waited {schema.LOCK_TIMEOUT_S:g} s for a table in use and changed nothing"
            raise StoreUnavailable(f"{self.name} is busy: {waited}; try again") from error

    def reading(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """See `Database.reading`."""
        return transaction(self._readers)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """See `Database.writing`."""
        async with transaction(self._engine) as connection:
            yield connection

    async def append(self, batch: Batch) -> dict[str, int]:
        """See `Database.append`: one statement is its own transaction; no BEGIN and no COMMIT to wait for."""
        entries = batch.entries
        values = (
            batch.now,
            list(batch.counts),
            list(batch.counts.values()),
            [entry.document for entry in entries],
            batch.steps_back(),
            [entry.update for entry in entries],
            batch.checksums,
            [storable_or_none(entry.author) for entry in entries],
            [entry.node for entry in entries],
            [entry.number for entry in entries],
        )
        try:
            found = await self._appenders.fetch(_APPEND, values, lock_s=self._row_wait(batch))
        except asyncpg.LockNotAvailableError as error:
            await self._tell_busy(batch, error)
            raise
        return {row["name"]: row["last_seq"] for row in found}

    @asynccontextmanager
    async def appending(self, batch: Batch) -> AsyncIterator[AsyncConnection]:
        """See `Database.appending`."""
        try:
            async with self.writing() as connection:
                await connection.exec_driver_sql(f"SET LOCAL lock_timeout = {_milliseconds(self._row_wait(batch))}")
                yield connection
        except DBAPIError as error:
            cause = _cause(error)
            if isinstance(cause, asyncpg.LockNotAvailableError):
                await self._tell_busy(batch, cause)
            raise

    def _row_wait(self, batch: Batch) -> float:
        return min(batch.row_wait_s, self._lock_s)

    async def _tell_busy(self, batch: Batch, error: asyncpg.LockNotAvailableError) -> None:
        """Raise `DocumentsBusy` if it was documents' rows that ``batch`` waited for in vain."""
        if error.context is None:  # "while locking tuple ..."; without it a whole table is locked
            return
        try:
            with self.translating():
                found = await self._appenders.fetch(_BUSY, (list(batch.counts),), lock_s=self._row_wait(batch))
        except (Uncertain, StoreUnavailable):
            return
        locked = [row["name"] for row in found if not row["unseen"]]
        unseen = [row["name"] for row in found if row["unseen"]]
        if busy := frozenset(locked or unseen):
            raise DocumentsBusy(f"{self.name}: somebody else holds {len(busy)} documents locked", busy) from error

    async def close(self) -> None:
        """See `Database.close`."""
        await super().close()
        await self._appenders.close()

    async def advance(
        self, connection: AsyncConnection, counts: Mapping[str, int], now: datetime
    ) -> dict[str, tuple[int, int]]:
        """See `Database.advance`."""
        found = await connection.exec_driver_sql(_ADVANCE, (now, list(counts), list(counts.values())))
        return {row.name: (row.id, row.last_seq) for row in found}

    async def serialise_compaction(self, connection: AsyncConnection, document_id: int) -> None:
        """Take an advisory lock; the document's row lock would hold up every append of this node's batch."""
        await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _COMPACTING + document_id})

    async def sequences(self, connection: AsyncConnection, names: Collection[str]) -> Iterable[Row[Any]]:
        """See `Database.sequences`."""
        return await connection.exec_driver_sql(_SEQUENCES, (list(names),))

    async def tails(
        self, connection: AsyncConnection, after: Mapping[str, int], limit_bytes: int
    ) -> Iterable[Row[Any]]:
        """See `Database.tails`."""
        return await connection.exec_driver_sql(_TAILS, (list(after), list(after.values()), limit_bytes))

    async def roles(self, connection: AsyncConnection, asked: Collection[tuple[str, str]]) -> Iterable[Row[Any]]:
        """See `Database.roles`."""
        names, subjects = zip(*asked, strict=True)
        return await connection.exec_driver_sql(_ROLES, (list(names), list(subjects)))


class _Appenders:
    """A few plain connections for appends, each of which says how long it waits for a lock.

    None is tried before it is used: when one turns out to be dead, all that were idle are given up and the append is
    `Uncertain`, which is settled on a new connection.
    """

    def __init__(self, arguments: dict[str, Any]) -> None:
        self._arguments = arguments
        self._idle: list[_Appender] = []
        self._closed = False
        self._room = asyncio.Semaphore(APPENDING_CONNECTIONS)

    async def fetch(self, statement: str, values: tuple[object, ...], *, lock_s: float) -> list[asyncpg.Record]:
        async with self._room:
            appender = self._idle.pop() if self._idle else _Appender(await asyncpg.connect(**self._arguments))
            try:
                found = await appender.fetch(statement, values, lock_s)
            except asyncpg.UniqueViolationError as error:
                self._give_back(appender)
                raise Uncertain from error
            except asyncpg.LockNotAvailableError:
                self._give_back(appender)
                raise
            except _BROKEN as error:
                for dead in (appender, *self._idle):
                    dead.connection.terminate()
                self._idle.clear()
                raise Uncertain from error
            except BaseException:
                appender.connection.terminate()
                raise
            self._give_back(appender)
            return found

    def _give_back(self, appender: _Appender) -> None:
        if self._closed:
            appender.connection.terminate()
        else:
            self._idle.append(appender)

    async def close(self) -> None:
        self._closed = True
        while self._idle:
            await self._idle.pop().connection.close()


class _Appender:
    """A connection, and how long it waits for locks: another round trip only when that changes."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection
        self._lock_s: float | None = None

    async def fetch(self, statement: str, values: tuple[object, ...], lock_s: float) -> list[asyncpg.Record]:
        if lock_s != self._lock_s:
            await self.connection.execute(f"SET lock_timeout = {_milliseconds(lock_s)}")
            self._lock_s = lock_s
        found: list[asyncpg.Record] = await self.connection.fetch(statement, *values)
        return found


def _cause(error: DBAPIError) -> BaseException | None:
    """What asyncpg raised."""
    return error.orig.__cause__ if error.orig is not None else None


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)


def _connect_arguments(timeouts: Timeouts) -> dict[str, Any]:
    return {
        "timeout": timeouts.connect_s,
        # The server ends a statement first; this one is for a server that is frozen or cut off.
        "command_timeout": timeouts.statement_s + 2,
        "server_settings": {
            "application_name": "collab",
            "statement_timeout": str(_milliseconds(timeouts.statement_s)),
            "lock_timeout": str(_milliseconds(timeouts.lock_s)),
            "idle_in_transaction_session_timeout": str(_milliseconds(timeouts.statement_s * 2)),
        },
    }
