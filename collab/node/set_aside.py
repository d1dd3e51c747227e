"""Documents that somebody else holds locked in the database: what they wait to commit stands here, out of the way.

The recorder puts a document here when the store says that it is busy. It is tried again, by itself, until the log has
all that came meanwhile; then its updates go with everybody else's again. The order within a document stays.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

import structlog

from collab.errors import StoreUnavailable
from collab.node.queued import Item, retry_after, take

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

AT_ONCE = 2
"""Attempts at a time; each may keep a database connection waiting. With two, a document that stays locked does not hold
up one that is free again."""

log = structlog.get_logger(__name__)


class SetAside:
    """Tries each of its documents alone: a transaction that waits for one must not hold another one meanwhile."""

    def __init__(self, commit: Callable[[list[Item]], Awaitable[None]]) -> None:
        """``commit`` makes one attempt, tells the rooms when it succeeds and raises when it does not."""
        self._commit = commit
        self._waiting: dict[str, deque[Item]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._turns = asyncio.Semaphore(AT_ONCE)

    def __contains__(self, document: str) -> bool:
        """Whether the document is set aside; then everything new of it must be, too."""
        return document in self._waiting

    def add(self, item: Item) -> None:
        """Set an item aside, behind those of its document that are here already."""
        document = item.room.name
        if document in self._waiting:
            self._waiting[document].append(item)
            return
        self._waiting[document] = deque((item,))
        self._tasks[document] = asyncio.create_task(self._save(document), name=f"set aside {document}")

    async def close(self) -> None:
        """Stop trying."""
        tasks = tuple(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._waiting.clear()
        self._tasks.clear()

    async def _save(self, document: str) -> None:
        waiting = self._waiting[document]
        failures = 1  # the one that brought it here
        while waiting:
            items = take(waiting)
            while not await self._attempt(document, items, failures):
                failures += 1
            failures = 0
        del self._waiting[document]
        del self._tasks[document]
        if not self._waiting:
            log.info("set_aside_documents_saved")

    async def _attempt(self, document: str, items: list[Item], failures: int) -> bool:
        if failures:
            await asyncio.sleep(retry_after(failures))
        async with self._turns:
            try:
                await self._commit(items)
            except StoreUnavailable:
                return False
            except Exception:  # whatever it is, nothing is saved and the document must be tried again
                log.exception("commit_failed", document=document)
                return False
        return True
