"""Store adapters for the contract tests, each with a way to look behind the port and to damage what is kept.

`bench` is the fixture: one contract suite runs on memory, SQLite and PostgreSQL.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from collab.store import MemoryStore, SqlStore
from collab.store.migrate import upgrade
from collab.store.port import Compaction, LogEntry, Stored
from tests.support.postgres import PostgresServer, find_binaries, shared_server

START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Ticks:
    """A clock that moves one second each time it is read."""

    now: datetime = START

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


@dataclass
class Entries:
    """Makes log entries of one node, numbered from 1."""

    node: str = "node-a"
    numbers: Any = field(default_factory=lambda: itertools.count(1))

    def __call__(self, document: str, update: bytes, author: str | None = None) -> LogEntry:
        return LogEntry(document, update, self.node, next(self.numbers), author)


def folded(stored: Stored, update: bytes, *covered: int) -> Compaction:
    """Compact what was loaded; all of it unless some rows are named."""
    rows = frozenset(covered or (row.seq for row in stored.updates))
    return Compaction(stored.snapshot_id, update, b"\x00", rows)


class Bench:
    """A store on the bench."""

    def __init__(self, store: MemoryStore | SqlStore) -> None:
        self.store = store
        self.log = store.log
        self.documents = store.documents
        self.snapshots = store.snapshots

    async def rows(self, document: str) -> list[int]:
        """Sequences of the rows that are kept, covered or not."""
        if isinstance(self.store, MemoryStore):
            return sorted(self.store._shelf.records[document].rows)
        return await self._numbers(
            "SELECT seq FROM updates JOIN documents d ON d.id = document_id WHERE d.name = :name ORDER BY seq", document
        )

    async def folds(self, document: str) -> list[int]:
        """Ids of the compaction snapshots that are kept, oldest first."""
        if isinstance(self.store, MemoryStore):
            return sorted(self.store._shelf.records[document].folds)
        return await self._numbers(
            "SELECT s.id FROM snapshots s JOIN documents d ON d.id = document_id"
            " WHERE d.name = :name AND kind = 'compaction' ORDER BY s.id",
            document,
        )

    async def tickets(self) -> int:
        """How many are kept, used up or not."""
        if isinstance(self.store, MemoryStore):
            return len(self.store.tickets._tickets)
        async with self.store._database.reading() as connection:
            found: int = (await connection.execute(text("SELECT count(*) FROM access_tickets"))).scalar_one()
            return found

    async def damage_snapshot(self, document: str, snapshot: int) -> None:
        """Change its bytes behind the store's back."""
        if isinstance(self.store, MemoryStore):
            record = self.store._shelf.records[document]
            (record.folds | record.versions)[snapshot].update += b"!"  # type: ignore[operator]
        else:
            await self.sql("UPDATE snapshots SET bytes = :new WHERE id = :id", new=b"rotten", id=snapshot)

    async def damage_update(self, document: str, seq: int) -> None:
        """Change one row of the log behind the store's back."""
        if isinstance(self.store, MemoryStore):
            self.store._shelf.records[document].rows[seq].update += b"!"
        else:
            await self.sql(
                "UPDATE updates SET bytes = :new"
                " WHERE seq = :seq AND document_id = (SELECT id FROM documents WHERE name = :name)",
                new=b"rotten",
                seq=seq,
                name=document,
            )

    async def sql(self, statement: str, **values: object) -> None:
        """Run a statement on the store's own database."""
        assert isinstance(self.store, SqlStore)
        async with self.store._database.writing() as connection:
            await connection.execute(text(statement), values)

    async def _numbers(self, query: str, document: str) -> list[int]:
        assert isinstance(self.store, SqlStore)
        async with self.store._database.reading() as connection:
            return list((await connection.execute(text(query), {"name": document})).scalars())


async def migrated_database(server: PostgresServer) -> str:
    """The name of a fresh database at the newest revision."""
    if not await server.run("SELECT 1 FROM pg_database WHERE datname = 'migrated'"):
        await server.run("CREATE DATABASE migrated")
        await asyncio.to_thread(upgrade, server.url("migrated"))
    return await server.create_database(template="migrated")


ADAPTERS = ["memory", "sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]
DATABASES = ADAPTERS[1:]


@asynccontextmanager
async def fresh_database(kind: str, folder: Path) -> AsyncIterator[str]:
    """The URL of an empty database that is ready for `SqlStore`."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'collab.db'}"
        return
    if find_binaries() is None:
        pytest.skip("no PostgreSQL binaries on this machine")
    server = shared_server(fsync=False)  # rules, not durability, are tried here; faults have a server that syncs
    name = await migrated_database(server)
    yield server.url(name)
    await server.run(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=DATABASES)
async def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """Both kinds of database."""
    async with fresh_database(request.param, tmp_path) as url:
        yield url


@pytest.fixture(params=ADAPTERS)
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    """Every adapter, open, with a clock that ticks."""
    if request.param == "memory":
        memory = MemoryStore(clock=Ticks())
        await memory.open()
        yield Bench(memory)
        await memory.close()
        return
    async with fresh_database(request.param, tmp_path) as url:
        store = SqlStore(url, clock=Ticks())
        await store.open()
        yield Bench(store)
        await store.close()
