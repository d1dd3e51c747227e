"""SQLite: one file, one writing connection, readers beside it.

WAL lets readers go on while the writer works; `synchronous=FULL` makes a commit an fsync; `BEGIN IMMEDIATE` takes the
write lock at once, because a transaction that reads first and writes later can fail half-way with "database is locked".
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.engine import URL, Row
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from collab.errors import StoreUnavailable
from collab.store import migrate as schema
from collab.store.database import ROLES, SEQUENCES, TAILS, Batch, Database, Timeouts, Uncertain, transaction
from collab.store.tables import SQLITE_TIME

# At DEBUG this library logs every statement's values, and documents are not for logs.
logging.getLogger("aiosqlite").setLevel(logging.INFO)

READERS = 4
"""Reading connections, each a thread. Guessed."""

_ADVANCE = """
INSERT INTO documents (name, meta, created_at, updated_at, last_seq)
SELECT json_extract(value, '$[0]'), '{}', ?1, ?1, json_extract(value, '$[1]') FROM json_each(?2) WHERE true
ON CONFLICT (name) DO UPDATE SET last_seq = last_seq + excluded.last_seq, updated_at = excluded.updated_at
WHERE deleted_at IS NULL
RETURNING name, id, last_seq
"""

_INSERT = """
INSERT INTO updates (document_id, seq, bytes, sha256, author, node, number, created_at)
VALUES (:document_id, :seq, :bytes, :sha256, :author, :node, :number, :created_at)
"""


_SEQUENCES = SEQUENCES.format(among="IN (SELECT value FROM json_each(?1))")
_PAIRS = "SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?1)"
_TAILS = TAILS.format(given=_PAIRS, length="length", limit="?2")
_ROLES = ROLES.format(given=_PAIRS)


class SqliteDatabase(Database):
    """See the module."""

    driver_errors = (sqlite3.Error,)

    def __init__(self, url: URL, timeouts: Timeouts) -> None:
        self._writer = _engine(url, timeouts, "BEGIN IMMEDIATE", 1)
        self._readers = _engine(url, timeouts, "BEGIN", READERS)
        self._appender = _Appender(str(url.database), timeouts)
        self._turn = asyncio.Lock()  # the two writing connections take turns here, instead of polling the file's lock
        super().__init__(url, (self._readers, self._writer))

    async def prepare(self, *, migrate: bool) -> None:
        """Create the file and bring it up to date; a file needs no administrator, so ``migrate`` is not asked for."""
        await asyncio.to_thread(self._migrate)

    def _migrate(self) -> None:
        path = Path(str(self.url.database))
        if not path.parent.is_dir():
            raise StoreUnavailable(f"{self.name} cannot be made: its folder is missing")
        with _folder_lock(path.parent):
            found = schema.current(self.url)
            if found.objection() is not None:
                schema.upgrade(self.url)
                found = schema.current(self.url)
            if objection := found.objection():
                raise StoreUnavailable(f"{self.name} {objection}")
            _keep_a_write_ahead_log(path)

    def reading(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """See `Database.reading`: in WAL a transaction keeps the state of its first read."""
        return transaction(self._readers)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """See `Database.writing`."""
        async with self._turn, transaction(self._writer) as connection:
            yield connection

    async def append(self, batch: Batch) -> dict[str, int]:
        """See `Database.append`."""
        async with self._turn:
            return await asyncio.get_running_loop().run_in_executor(self._appender.thread, self._appender.append, batch)

    async def close(self) -> None:
        """See `Database.close`."""
        if self.closed:
            return
        await super().close()
        await asyncio.get_running_loop().run_in_executor(self._appender.thread, self._appender.close)
        self._appender.thread.shutdown()

    async def advance(
        self, connection: AsyncConnection, counts: Mapping[str, int], now: datetime
    ) -> dict[str, tuple[int, int]]:
        """See `Database.advance`; the write lock is the row lock."""
        found = await connection.exec_driver_sql(_ADVANCE, _advance_values(counts, now))
        return {row.name: (row.id, row.last_seq) for row in found}

    async def serialise_compaction(self, connection: AsyncConnection, document_id: int) -> None:
        """Nothing to do: there is one writer at a time."""

    async def sequences(self, connection: AsyncConnection, names: Collection[str]) -> Iterable[Row[Any]]:
        """See `Database.sequences`."""
        return await connection.exec_driver_sql(_SEQUENCES, (json.dumps(list(names)),))

    async def tails(
        self, connection: AsyncConnection, after: Mapping[str, int], limit_bytes: int
    ) -> Iterable[Row[Any]]:
        """See `Database.tails`."""
        return await connection.exec_driver_sql(_TAILS, (json.dumps(list(after.items())), limit_bytes))

    async def roles(self, connection: AsyncConnection, asked: Collection[tuple[str, str]]) -> Iterable[Row[Any]]:
        """See `Database.roles`."""
        return await connection.exec_driver_sql(_ROLES, (json.dumps(list(asked)),))


class _Appender:
    """A connection of its own in a thread of its own: a whole append costs the event loop one hop, not eight."""

    def __init__(self, path: str, timeouts: Timeouts) -> None:
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="collab-sqlite")
        self._path = path
        self._timeout_s = timeouts.lock_s
        self._connection: sqlite3.Connection | None = None

    def append(self, batch: Batch) -> dict[str, int]:
        """One transaction. Runs in the thread, like everything below."""
        connection = self._connected()
        connection.execute("BEGIN IMMEDIATE")
        try:
            found = connection.execute(_ADVANCE, _advance_values(batch.counts, batch.now)).fetchall()
            rows = batch.rows({name: (number, last_seq) for name, number, last_seq in found})
            time = _sqlite_time(batch.now)
            for row in rows:
                row["created_at"] = time
            connection.executemany(_INSERT, rows)
            connection.execute("COMMIT")
        except BaseException as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.IntegrityError):
                raise Uncertain from error
            raise
        return {name: last_seq for name, _, last_seq in found}

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = sqlite3.connect(self._path, timeout=self._timeout_s, isolation_level=None)
            _set_up(self._connection.cursor())
        return self._connection

    def close(self) -> None:
        """Give the connection back."""
        if self._connection is not None:
            self._connection.close()


def _sqlite_time(time: datetime) -> str:
    return time.astimezone(UTC).strftime(SQLITE_TIME)


def _advance_values(counts: Mapping[str, int], now: datetime) -> tuple[str, str]:
    return _sqlite_time(now), json.dumps(list(counts.items()))


def _set_up(cursor: Any) -> None:
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")


def _engine(url: URL, timeouts: Timeouts, begin: str, size: int) -> AsyncEngine:
    engine = create_async_engine(
        url,
        hide_parameters=True,
        pool_size=size,
        max_overflow=0,
        pool_timeout=timeouts.statement_s,
        connect_args={"timeout": timeouts.lock_s},
    )
    event.listen(engine.sync_engine, "connect", _connected(read_only=begin == "BEGIN"))
    event.listen(engine.sync_engine, "begin", _beginning(begin))
    return engine


def _connected(*, read_only: bool) -> Callable[[Any, object], None]:
    def connected(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver would begin transactions itself, and late
        cursor = connection.cursor()
        _set_up(cursor)
        if read_only:
            cursor.execute("PRAGMA query_only = ON")
        cursor.close()

    return connected


def _beginning(statement: str) -> Callable[[Connection], None]:
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(statement)

    return begin


def _keep_a_write_ahead_log(path: Path) -> None:
    """Set the file's journal mode: once, because it is kept in the file and changing it needs every lock."""
    with closing(sqlite3.connect(path)) as connection:
        [mode] = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise StoreUnavailable(f"SQLite file {path} is on a file system without the locks that WAL needs")


@contextmanager
def _folder_lock(folder: Path) -> Iterator[None]:
    """Let one process at a time make a database in ``folder``.

    Not a lock on the database file: closing any descriptor of it would drop the locks SQLite itself holds there.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
