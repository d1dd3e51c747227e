"""Brings a database's schema to the revision this version of collab needs. `collab migrate` and `SqlStore` call it.

Blocking functions: each runs an event loop of its own, so call them from a thread when one is running already.
"""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from collab.store.urls import normalised

VERSION_TABLE = "collab_revision"
"""Where the revision is kept; not Alembic's default name, so that collab can share a database with an application."""

_ONE_AT_A_TIME = threading.Lock()
"""Alembic keeps the running migration in module globals, so two threads would meet there."""

_PACKAGE = Path(__file__).resolve().parents[1]


def migrations_folder() -> Path:
    """Where the migrations are: inside an installed package, beside it in a checkout."""
    shipped = _PACKAGE / "migrations"
    return shipped if shipped.is_dir() else _PACKAGE.parent / "migrations"


def config(url: str | URL) -> Config:
    """Alembic's configuration for ``url``, which travels as an attribute: ini text would choke on ``%``."""
    made = Config()
    made.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    made.set_main_option("path_separator", "os")
    made.attributes["url"] = normalised(url)
    return made


def head() -> str:
    """The revision this version of collab needs."""
    found = ScriptDirectory(os.fspath(migrations_folder())).get_current_head()
    if found is None:
        raise RuntimeError("the migrations folder is empty")
    return found


def revisions() -> frozenset[str]:
    """Every revision this version of collab knows."""
    scripts = ScriptDirectory(os.fspath(migrations_folder()))
    return frozenset(script.revision for script in scripts.walk_revisions())


def upgrade(url: str | URL) -> None:
    """Bring the database to `head`, waiting for another process that is at it. Raises the driver's errors."""
    with _ONE_AT_A_TIME:
        command.upgrade(config(url), "head")


def current(url: str | URL) -> str | None:
    """The revision the database is at; None for one that was never migrated. Raises the driver's errors."""
    return asyncio.run(_current(normalised(url)))


async def _current(url: URL) -> str | None:
    engine = create_async_engine(url, poolclass=NullPool, hide_parameters=True)
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(found_revision)
    finally:
        await engine.dispose()


def found_revision(connection: Connection) -> str | None:
    """Read the revision through an open connection."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    revision: str | None = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608
    return revision
