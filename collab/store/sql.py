"""The store on SQLite or PostgreSQL, chosen by its URL.

Composes the SQL ports over one `Database` and owns its life. Safe for many processes on one database.
"""

from __future__ import annotations

import asyncio

from sqlalchemy.engine import URL

from collab.errors import StoreUnavailable
from collab.store import migrate as schema
from collab.store import rules
from collab.store.database import Counters, Database, Timeouts
from collab.store.port import StoreStatus
from collab.store.postgres import PostgresDatabase
from collab.store.sql_audit import SqlAudit
from collab.store.sql_changes import SqlAccessChanges
from collab.store.sql_documents import SqlDocuments
from collab.store.sql_grants import SqlGrants
from collab.store.sql_links import SqlLinks
from collab.store.sql_log import SqlLog
from collab.store.sql_revocations import SqlRevocations
from collab.store.sql_snapshots import SqlSnapshots
from collab.store.sql_tickets import SqlTickets
from collab.store.sqlite import SqliteDatabase
from collab.store.urls import normalised

CHECK_TIMEOUT_S = 2.0
"""A health check that takes longer says no. Guessed: below the period of common probes."""


class SqlStore:
    """A `Store` in SQL. Await `open` first and `close` last, in one event loop.

    ``url`` is as people write it (see `urls`); raises `Misuse` when it cannot be used. ``migrate`` lets `open` change
    a PostgreSQL schema; SQLite files are always brought up to date. Nothing shown or raised here holds the password.
    """

    def __init__(
        self,
        url: str | URL,
        *,
        migrate: bool = False,
        clock: rules.Clock = rules.utc_now,
        timeouts: Timeouts = Timeouts(),  # noqa: B008
    ) -> None:
        address = normalised(url)
        kind = SqliteDatabase if address.get_backend_name() == "sqlite" else PostgresDatabase
        database: Database = kind(address, timeouts)
        self.counters = Counters()
        self.log = SqlLog(database, clock, self.counters)
        self.documents = SqlDocuments(database, clock)
        self.snapshots = SqlSnapshots(database, clock)
        self.grants = SqlGrants(database, clock)
        self.links = SqlLinks(database, clock)
        self.tickets = SqlTickets(database, clock)
        self.revocations = SqlRevocations(database, clock)
        self.access_changes = SqlAccessChanges(database)
        self.audit = SqlAudit(database)
        self._database = database
        self._migrate = migrate

    def __repr__(self) -> str:
        """Name the database, never its user or password."""
        return f"<SqlStore: {self._database.name}>"

    async def open(self) -> None:
        """See `Store.open`."""
        with self._database.translating():
            try:
                await self._database.prepare(migrate=self._migrate)
            except BaseException:
                await self._database.release()
                raise

    async def check(self) -> StoreStatus:
        """See `Store.check`."""
        expected = schema.head()
        try:
            with self._database.translating():
                async with asyncio.timeout(CHECK_TIMEOUT_S):
                    found = await self._database.schema()
        except StoreUnavailable as error:
            return StoreStatus(ok=False, detail=str(error), expected=expected)
        objection = found.objection()
        newer = f", migrated by a newer collab that leaves room for this one ({expected})" if found.newer else ""
        return StoreStatus(
            ok=objection is None,
            detail=f"{self._database.name} {objection or f'answers{newer}'}",
            schema=found.revision,
            expected=expected,
        )

    async def close(self) -> None:
        """See `Store.close`."""
        await self._database.close()


async def open_store(url: str | URL, *, migrate: bool = False, clock: rules.Clock = rules.utc_now) -> SqlStore:
    """Make and open a `SqlStore`. Raises `Misuse` (the URL) and `StoreUnavailable` (the database)."""
    store = SqlStore(url, migrate=migrate, clock=clock)
    await store.open()
    return store
