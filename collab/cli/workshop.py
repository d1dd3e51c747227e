"""The database and an engine for commands that work without a running server."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from collab.engine.inline import InlineEngine
from collab.engine.isolated import IsolatedEngine
from collab.engine.process import ProcessOptions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from collab.engine.port import Engine
    from collab.settings import Settings
    from collab.store.port import Store


@asynccontextmanager
async def open_store(wanted: Settings) -> AsyncIterator[Store]:
    """The database of ``wanted``, open. Raises `Misuse` and `StoreUnavailable` with a sentence."""
    from collab.store.sql import SqlStore

    store = SqlStore(wanted.database.get_secret_value(), migrate=wanted.migrate)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def open_engine(wanted: Settings) -> AsyncIterator[Engine]:
    """The engine of ``wanted``, started: isolated by default, since stored bytes came from strangers."""
    engine = _make_engine(wanted)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()


def _make_engine(wanted: Settings) -> InlineEngine | IsolatedEngine:
    if wanted.engine == "inline":
        return InlineEngine()
    return IsolatedEngine(
        options=ProcessOptions(memory_bytes=wanted.engine_memory_mib * 1024 * 1024),
        live_deadline_s=wanted.engine_deadline_s,
    )


@asynccontextmanager
async def open_both(wanted: Settings) -> AsyncIterator[tuple[Store, Engine]]:
    """Database and engine."""
    async with open_store(wanted) as store, open_engine(wanted) as engine:
        yield store, engine
