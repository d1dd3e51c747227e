"""The way of this node to the audit log: what must be there before an answer, and what may follow in batches.

Joins and exports are noted and written together a moment later, off everybody's way. While the database is away they
wait in a bounded queue; what does not fit is counted and lost, since nobody's editor must wait for a log.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from contextvars import Context
from itertools import islice
from typing import TYPE_CHECKING

import structlog

from collab.errors import CollabError

if TYPE_CHECKING:
    from collab.node.counters import Counters
    from collab.store.access_port import AuditEvent
    from collab.store.port import Store

MAX_WAITING = 10_000
"""Events that wait for the database; some hundred bytes each."""
BATCH = 500
GATHER_S = 0.2
"""How long the first of a batch waits for company. Guessed."""
RETRY_S = 1.0
LAST_WORDS_S = 2.0
"""How long the end of a node waits for what was noted."""

log = structlog.get_logger(__name__)


class AuditTrail:
    """``close`` it once; it starts by itself."""

    def __init__(self, store: Store, counters: Counters) -> None:
        self._store = store
        self._counters = counters
        self._waiting: deque[AuditEvent] = deque()
        self._noted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failing = False
        self._closed = False

    async def append(self, event: AuditEvent) -> None:
        """Return when it is committed. Raises `StoreUnavailable`."""
        await self._store.audit.append((event,))

    def note(self, event: AuditEvent) -> None:
        """Write it soon."""
        if self._closed or len(self._waiting) >= MAX_WAITING:
            self._counters.audit_dropped += 1
            return
        self._waiting.append(event)
        self._noted.set()
        if self._task is None:
            # In a context of its own: it outlives the request in which it begins, and logs nothing in its name.
            self._task = asyncio.create_task(self._run(), name="audit trail", context=Context())

    async def close(self) -> None:
        """Write what waits, if that is soon done, and stop."""
        self._closed = True
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        with suppress(TimeoutError, CollabError):
            async with asyncio.timeout(LAST_WORDS_S):
                while self._waiting:
                    await self._write()
        self._counters.audit_dropped += len(self._waiting)

    async def _run(self) -> None:
        while True:
            await self._noted.wait()
            await asyncio.sleep(GATHER_S)
            self._noted.clear()
            while self._waiting:
                try:
                    await self._write()
                except CollabError as error:
                    self._failed(error)
                    await asyncio.sleep(RETRY_S)
                else:
                    self._failing = False

    async def _write(self) -> None:
        events = tuple(islice(self._waiting, BATCH))
        await self._store.audit.append(events)  # repeated after a lost answer it stores nothing twice
        for _ in events:
            self._waiting.popleft()

    def _failed(self, error: CollabError) -> None:
        if not self._failing:
            log.warning("audit_not_written", waiting=len(self._waiting), error=str(error))
        self._failing = True
