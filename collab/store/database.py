"""What the SQL store needs of a database, and what SQLite and PostgreSQL share of it.

`Database` owns the connections and turns every driver error into `StoreUnavailable`. Its two adapters, `sqlite` and
`postgres`, say how transactions begin and how a batch of updates is written fastest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.engine import URL, Row
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as NoConnectionFree
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from collab.errors import Misuse, StoreUnavailable
from collab.store.migrate import Found, found_schema
from collab.store.port import ROW_WAIT_S, LogEntry
from collab.store.rules import TAIL_ROW_BYTES, TAIL_ROWS, checksum, counts_by_document, storable_or_none
from collab.store.urls import described


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long the store waits, in seconds. Guessed: an outage is noticed while somebody is watching."""

    connect_s: float = 5.0
    statement_s: float = 10.0
    lock_s: float = 5.0
    """For a row or table lock, and for SQLite's one write lock. An append to PostgreSQL may be told to wait less."""


@dataclass(slots=True)
class Counters:
    """What the store did since it was made; `/metrics` reads it."""

    append_transactions: int = 0
    appended_rows: int = 0
    repeated_rows: int = 0
    """Entries that were found stored already."""
    careful_appends: int = 0
    """Appends that had to look for entries stored before (lost reply, broken connection)."""
    compactions: int = 0


class Batch:
    """Log entries made ready for SQL: counted per document in name order, each with its place and checksum."""

    def __init__(self, entries: Sequence[LogEntry], now: datetime, *, row_wait_s: float = ROW_WAIT_S) -> None:
        self.entries = entries
        self.now = now
        self.row_wait_s = row_wait_s
        self.counts = counts_by_document(entries)
        self.checksums = [checksum(entry.document, entry.update) for entry in entries]

    def steps_back(self) -> list[int]:
        """For each entry, how far before its document's last sequence it stands."""
        left = dict(self.counts)
        steps = []
        for entry in self.entries:
            left[entry.document] -= 1
            steps.append(left[entry.document])
        return steps

    def rows(self, ends: Mapping[str, tuple[int, int]]) -> list[dict[str, object]]:
        """Rows for `tables.updates`, of the documents in ``ends``: name -> (id, last sequence)."""
        return [
            {
                "document_id": ends[entry.document][0],
                "seq": ends[entry.document][1] - back,
                "bytes": entry.update,
                "sha256": digest,
                "author": storable_or_none(entry.author),
                "node": entry.node,
                "number": entry.number,
                "created_at": self.now,
            }
            for entry, digest, back in zip(self.entries, self.checksums, self.steps_back(), strict=True)
            if entry.document in ends
        ]


SEQUENCES = "SELECT name, last_seq, deleted_at FROM documents WHERE name {among}"
"""For `Database.sequences`."""

TAILS = f"""
WITH given (name, after) AS ({{given}}), behind AS (
  SELECT documents.id, name, last_seq, after FROM given JOIN documents USING (name)
  WHERE deleted_at IS NULL AND last_seq > after
), sized AS (
  SELECT behind.id, name, last_seq, seq,
    sum({{length}}(bytes) + {TAIL_ROW_BYTES})
      OVER (ORDER BY behind.id, seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
  FROM behind LEFT JOIN updates ON document_id = behind.id AND seq > after AND seq <= after + {TAIL_ROWS}
)
SELECT name, last_seq, sized.seq, bytes, sha256, node, number
FROM sized LEFT JOIN updates ON document_id = sized.id AND updates.seq = sized.seq
WHERE before IS NULL OR before < {{limit}}
ORDER BY sized.id, sized.seq
"""  # noqa: S608
"""For `Database.tails`: first the sizes are added up, then only the bytes that are wanted are read."""

ROLES = """
WITH given (name, subject) AS ({given})
SELECT name, given.subject, role
FROM given JOIN documents USING (name)
JOIN grants ON grants.document_id = documents.id AND grants.subject = given.subject
WHERE deleted_at IS NULL
"""
"""For `Database.roles`."""


class Uncertain(Exception):
    """Some entry of an append is stored already, or may be: its connection broke before the answer came."""


class Database(ABC):
    """Connections to one database, and the statements that differ between the two kinds."""

    driver_errors: tuple[type[Exception], ...] = ()
    """What the driver raises past SQLAlchemy, for instance while it connects."""

    def __init__(self, url: URL, engines: Sequence[AsyncEngine]) -> None:
        self.url = url
        self.engines = engines
        self.name = described(url)
        self.closed = False
        self._outages: tuple[type[Exception], ...] = (
            DBAPIError,
            NoConnectionFree,
            OSError,
            TimeoutError,
            *self.driver_errors,
        )

    @abstractmethod
    async def prepare(self, *, migrate: bool) -> None:
        """Make the schema ready, or raise `StoreUnavailable` saying what is to be done."""

    @abstractmethod
    def reading(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """A transaction that sees one consistent state."""

    @abstractmethod
    def writing(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """A transaction that is committed, durably, when its block ends well, and undone otherwise."""

    @abstractmethod
    async def append(self, batch: Batch) -> dict[str, int]:
        """Store a batch whose entries are expected to be new: name -> last sequence; deleted documents are absent.

        Raises `Uncertain` when the batch has to be looked at entry by entry, and `DocumentsBusy`. Around every append
        there is nothing of SQLAlchemy: it would cost several times the CPU of the rest.
        """

    def appending(self, batch: Batch) -> AbstractAsyncContextManager[AsyncConnection]:
        """`writing`, for an append that has to look at its batch entry by entry; also raises `DocumentsBusy`."""
        return self.writing()

    @abstractmethod
    async def advance(
        self, connection: AsyncConnection, counts: Mapping[str, int], now: datetime
    ) -> dict[str, tuple[int, int]]:
        """Lock documents in name order, create missing ones, and add to their sequences: name -> (id, last sequence).

        Deleted documents are left alone and absent from the answer.
        """

    @abstractmethod
    async def serialise_compaction(self, connection: AsyncConnection, document_id: int) -> None:
        """Wait until no other transaction is compacting the document."""

    @abstractmethod
    async def sequences(self, connection: AsyncConnection, names: Collection[str]) -> Iterable[Row[Any]]:
        """(name, last_seq, deleted_at) of the documents that are there, in one statement."""

    @abstractmethod
    async def tails(
        self, connection: AsyncConnection, after: Mapping[str, int], limit_bytes: int
    ) -> Iterable[Row[Any]]:
        """Rows after a sequence number, of documents that have got farther and are not deleted, in one statement.

        (name, last_seq, seq, bytes, sha256, node, number), by document and in order, up to the one with which
        ``limit_bytes`` are reached. A document of whose rows none is left is one row without a seq.
        """

    @abstractmethod
    async def roles(self, connection: AsyncConnection, asked: Collection[tuple[str, str]]) -> Iterable[Row[Any]]:
        """Name, subject and role of each pair of document and subject that has one."""

    async def schema(self) -> Found:
        """What the schema is, and whether this version of collab can use it."""
        async with self.reading() as connection:
            return await connection.run_sync(found_schema)

    async def close(self) -> None:
        """Give back every connection, for good."""
        self.closed = True
        await self.release()

    async def release(self) -> None:
        """Give back the connections of a failed start; another may follow."""
        for engine in self.engines:
            await engine.dispose()

    @contextmanager
    def translating(self) -> Iterator[None]:
        """Turn driver errors into `StoreUnavailable`, with the cause kept and no values in the text."""
        if self.closed:
            raise StoreUnavailable(f"{self.name} is closed")
        try:
            yield
        except (IntegrityError, DataError) as error:
            raise Misuse(f"{self.name} refused a value: {type(error.orig).__name__}") from error
        except self._outages as error:
            raise StoreUnavailable(f"{self.name} is unavailable: {_sentence(error)}") from error


def _sentence(error: BaseException) -> str:
    if isinstance(error, NoConnectionFree):
        return "every connection is in use"
    origin = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    first_line = (str(origin).splitlines() or [""])[0]
    return first_line.rsplit(">: ", 1)[-1] or ("no answer in time" if isinstance(origin, TimeoutError) else "no answer")


@asynccontextmanager
async def transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """One transaction on one connection of ``engine``."""
    async with engine.connect() as connection, connection.begin():
        yield connection
