"""Documents that somebody else holds locked in the database: what they wait to commit stands here, out of the way.

The recorder puts documents here when the store says that they are busy. They are tried again apart from everybody
else's, until the log has all that came meanwhile; then their updates go with everybody else's again. The order within a
document stays.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Protocol

import structlog

from collab.errors import DocumentsBusy, StoreUnavailable
from collab.node.queued import Item, retry_after, split, take
from collab.store.port import ROW_WAIT_S

if TYPE_CHECKING:
    from collections.abc import Collection

AT_ONCE = 2
"""Attempts at a time; each may keep a database connection waiting. With two, a document that stays locked does not hold
up one that is free again."""

ROW_WAIT_MAX_S = 6.0
"""Each attempt waits twice as long for the rows as the one before, up to this. Guessed; the store has its own bound."""

log = structlog.get_logger(__name__)


def row_wait(failures: int) -> float:
    """Seconds an attempt after so many failures in a row waits for rows; the first few find out what is free."""
    return min(ROW_WAIT_S * 2.0 ** min(max(failures - 1, 0), 8), ROW_WAIT_MAX_S)


class Commit(Protocol):
    """One attempt to commit items; tells the rooms when it succeeds and raises what the store raises when not."""

    async def __call__(self, items: list[Item], row_wait_s: float) -> None:
        """Wait this many seconds for a row."""
        ...


class SetAside:
    """Tries again, together, what was found locked together, and parts from it what turns out to be free.

    Documents that another node is just writing come free together; the one that somebody forgot is soon alone, since a
    transaction that waits for it must not hold other rows meanwhile.
    """

    def __init__(self, commit: Commit) -> None:
        self._commit = commit
        self._waiting: dict[str, deque[Item]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._turns = asyncio.Semaphore(AT_ONCE)

    def __contains__(self, document: str) -> bool:
        """Whether the document is set aside; then everything new of it must be, too."""
        return document in self._waiting

    def add(self, item: Item) -> None:
        """Queue an item behind those of its document, which is set aside already."""
        self._waiting[item.room.name].append(item)

    def put(self, documents: Collection[str], items: Collection[Item]) -> None:
        """Set documents aside that are not yet, and what waits for them, in order."""
        for document in documents:
            self._waiting[document] = deque()
        for item in items:
            self.add(item)
        self._try(frozenset(documents), [], failures=1)  # the one that brought them here

    async def close(self) -> None:
        """Stop trying."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._waiting.clear()

    def _try(self, documents: frozenset[str], items: list[Item], failures: int) -> None:
        name = f"set aside {min(documents)}"
        task = asyncio.create_task(self._save(documents, items, failures), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _save(self, documents: frozenset[str], items: list[Item], failures: int) -> None:
        """Commit ``items``, which are a batch that failed, and all that waits for these documents."""
        while documents:
            if failures:
                await asyncio.sleep(retry_after(failures))
            items = items or self._next(documents)
            try:
                async with self._turns:
                    await self._commit(items, row_wait(failures))
            except DocumentsBusy as busy:
                failures += 1
                if free := documents - busy.documents:
                    documents -= free
                    items, theirs = split(items, documents)
                    self._try(free, theirs, failures=0)
            except StoreUnavailable:
                failures += 1
            except Exception:  # whatever it is, nothing is saved and the documents must be tried again
                log.exception("commit_failed", documents=len(documents), one=min(documents))
                failures += 1
            else:
                failures, items = 0, []
                documents -= self._release(documents)

    def _next(self, documents: frozenset[str]) -> list[Item]:
        """Remove what their next transaction holds."""
        waiting = deque(item for document in sorted(documents) for item in self._waiting[document])
        items = take(waiting)
        for document in documents:
            self._waiting[document] = deque()
        for item in waiting:
            self.add(item)
        return items

    def _release(self, documents: frozenset[str]) -> frozenset[str]:
        """Give back to the recorder those of which nothing waits any more."""
        done = frozenset(document for document in documents if not self._waiting[document])
        for document in done:
            del self._waiting[document]
        if done and not self._waiting:
            log.info("set_aside_documents_saved")
        return done
