"""Alembic's way in: run by `collab migrate`, `SqlStore.open` and the tests, always with a URL in `attributes`.

One transaction for all revisions, behind a lock, so that nodes that start together do not collide. On PostgreSQL it
gives up rather than wait long for a table, because everybody who writes there would queue behind it.
"""

from __future__ import annotations

import asyncio

from alembic import context
from sqlalchemy import Connection, event, text
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from collab.store.migrate import LOCK_TIMEOUT_S, VERSION_TABLE, found_schema
from collab.store.tables import metadata

LOCK_KEY = 0x636F6C6C61620001
"""The name of "collab is migrating" among PostgreSQL's advisory locks; any number, but always the same."""


def migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table=VERSION_TABLE,
        transactional_ddl=True,
        render_as_batch=connection.dialect.name == "sqlite",
    )
    with context.begin_transaction():
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK_KEY})
            connection.execute(text(f"SET LOCAL lock_timeout = {int(LOCK_TIMEOUT_S * 1000)}"))
        if found_schema(connection).newer:  # a newer collab came first, perhaps while the lock was waited for
            return
        context.run_migrations()


async def connect_and_migrate(url: URL) -> None:
    engine = create_async_engine(url, poolclass=NullPool, hide_parameters=True)
    if url.get_backend_name() == "sqlite":
        event.listen(engine.sync_engine, "connect", _leave_transactions_to_us)
        event.listen(engine.sync_engine, "begin", _begin_immediate)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(migrate)
    finally:
        await engine.dispose()


def _leave_transactions_to_us(connection: object, _record: object) -> None:
    connection.isolation_level = None  # type: ignore[attr-defined]


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


asyncio.run(connect_and_migrate(context.config.attributes["url"]))
