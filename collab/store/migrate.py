"""Brings a database's schema to the revision this version of collab needs. `collab migrate` and `SqlStore` call it.

Nodes of two versions share a database while they are replaced. So a migration adds what the new version needs
(expand) and only a later one takes away what the old one needed (contract); the one row of `collab_schema` says for
whom there is still room. Revisions are ordered by their names.

Blocking functions: each runs an event loop of its own, so call them from a thread when one is running already.
"""

from __future__ import annotations

import asyncio
import functools
import os
import threading
from dataclasses import dataclass
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, select, text
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from collab.store.tables import collab_schema
from collab.store.urls import normalised

VERSION_TABLE = "collab_revision"
"""Where the revision is kept; not Alembic's default name, so that collab can share a database with an application."""

LOCK_TIMEOUT_S = 2.0
"""How long a migration waits for a PostgreSQL table: whoever wants to write there waits behind it."""

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


@functools.cache
def _scripts(folder: Path) -> ScriptDirectory:
    """Read once: `/readyz` asks often, and this reads files."""
    return ScriptDirectory(os.fspath(folder))


def head() -> str:
    """The revision this version of collab needs."""
    found = _scripts(migrations_folder()).get_current_head()
    if found is None:
        raise RuntimeError("the migrations folder is empty")
    return found


def revisions() -> frozenset[str]:
    """Every revision this version of collab knows."""
    return frozenset(script.revision for script in _scripts(migrations_folder()).walk_revisions())


@dataclass(frozen=True, slots=True)
class Found:
    """What a database says about its schema."""

    revision: str | None
    """None: it was never migrated."""
    oldest: str | None = None
    """Asked only of a newer schema: the oldest revision whose code still runs on it."""

    @property
    def newer(self) -> bool:
        """A newer collab migrated it, so this one never does."""
        return self.revision is not None and self.revision not in revisions()

    def objection(self) -> str | None:
        """Why this version of collab cannot use the database, to be said after its name; None when it can."""
        needed = head()
        if self.revision is None:
            return "has no tables yet; run `collab migrate`"
        if not self.newer:
            behind = f"is at schema {self.revision}, {needed} is needed; run `collab migrate`"
            return None if self.revision == needed else behind
        if self.oldest is not None and self.oldest <= needed < self.revision:
            return None
        room = "" if self.oldest is None else f", with room for {self.oldest} and later"
        return f"was written by a newer collab (schema {self.revision}{room}); this one knows {needed}"


def upgrade(url: str | URL) -> None:
    """Bring the database to `head`, waiting for another process that is at it; leave a newer one as it is.

    Raises the driver's errors.
    """
    with _ONE_AT_A_TIME:
        command.upgrade(config(url), "head")


def current(url: str | URL) -> Found:
    """The schema the database is at. Raises the driver's errors."""
    return asyncio.run(_current(normalised(url)))


async def _current(url: URL) -> Found:
    engine = create_async_engine(url, poolclass=NullPool, hide_parameters=True)
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(found_schema)
    finally:
        await engine.dispose()


def found_schema(connection: Connection) -> Found:
    """Read the schema's revision through an open connection, and how far back a newer one leaves room."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return Found(None)
    revision = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608
    found = Found(revision)
    if not found.newer or not inspect(connection).has_table(collab_schema.name):
        return found
    return Found(revision, connection.execute(select(collab_schema.c.oldest)).scalar())
