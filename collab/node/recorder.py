"""The one writer of a node: group commit of updates to the log, the word that they are saved, and compaction.

Everything that waits when a transaction ends goes into the next one, so the batch grows with the load by itself. A
failed commit stays in memory and is repeated as it was until it succeeds (SPEC L3); nobody is told "saved" before.
Documents that somebody else holds locked are set aside, and the rest of their batch is committed without them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

import structlog

from collab.errors import DocumentsBusy, StoreUnavailable
from collab.node.queued import Item, first_seqs, retry_after, split, take, tell_delayed
from collab.node.set_aside import SetAside
from collab.store.port import ROW_WAIT_S, Appended, LogEntry

if TYPE_CHECKING:
    from collections.abc import Collection

    from collab.node.compactor import Compactor
    from collab.node.counters import Counters
    from collab.node.queued import Author
    from collab.room import Receipt
    from collab.store.port import UpdateLog

COMMIT_EVERY = 0.006
"""Seconds between the starts of two commits while there is always something to write. The first after a pause starts at
once, so a lone edit waits for nothing. Shorter than the beat that brings plain updates to the engine (`beat`), so that
what it has taken is written at once; without any pause commits are a quarter of a busy node's CPU (benchmark B)."""

PATIENCE = 0.5
"""Seconds a commit may take before rooms stop waiting with what they hold back for it."""

ROW_WAIT_COMMITS = 3
"""An append waits for rows as long as this many of the node's commits take: where every commit is slow, a row that
another node is just writing is no reason to set its document aside."""

RECENT_COMMITS = 4
"""The quickest of so many counts there: a single slow one may itself have waited for a row."""

ADOPTED = "+"
"""Ends the node id in the name of a log entry that another node wrote in its place. All that adopt an update use the
same name, so it is stored once; its origin's own entries have other names."""

log = structlog.get_logger(__name__)


class Recorder:
    """Owns the way from rooms to the update log. ``start`` it once, ``close`` it once."""

    def __init__(self, update_log: UpdateLog, *, node: str, counters: Counters, compactor: Compactor) -> None:
        """``node`` is the id of this process's life, new at every start: it names the log entries."""
        self._log = update_log
        self._node = node
        self._counters = counters
        self._compactor = compactor
        self._queue: deque[Item] = deque()
        self._set_aside = SetAside(self._commit)
        self._wake = asyncio.Event()
        self._unsaved = 0
        """Items that are not committed, wherever they are."""
        self._idle = asyncio.Event()
        self._idle.set()
        self._number = 0
        self._commits_took = deque([0.0], maxlen=RECENT_COMMITS)
        """Seconds."""
        self._task: asyncio.Task[None] | None = None
        self.failing = False
        """Whether the last attempt to commit failed, not counting documents set aside."""

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._run(), name="recorder")

    def reserve(self, count: int) -> int:
        """Gives the first of ``count`` numbers that name log entries; every number is given out once."""
        first = self._number + 1
        self._number += count
        return first

    def entry(self, document: str, update: bytes, author: str | None) -> LogEntry:
        """Make a log entry beside any room."""
        return LogEntry(document, update, self._node, self.reserve(1), author)

    def record(self, room: Author, receipt: Receipt, first: int) -> None:
        """Queue a receipt; receipts of one room are committed, and confirmed, in this order.

        ``first`` is the reserved number of its first log entry; the others follow it.
        """
        entries = tuple(
            LogEntry(room.name, update, self._node, number, author)
            for number, (update, author) in enumerate(receipt.updates, first)
        )
        if receipt.adopts:
            entries = tuple(
                LogEntry(room.name, foreign.message.update, foreign.node + ADOPTED, foreign.message.first)
                for foreign in receipt.adopts
            )
            self._counters.adopted += len(entries)
        self._add(Item(room, receipt, entries))

    def _add(self, item: Item) -> None:
        self._counters.unsaved_bytes += item.size
        self._unsaved += 1
        self._idle.clear()
        aside = item.room.name in self._set_aside
        if aside:
            self._set_aside.add(item)
        else:
            self._queue.append(item)
            self._wake.set()
        if aside or self.failing:
            tell_delayed((item,))

    async def flush(self) -> None:
        """Return when everything recorded so far is committed."""
        await self._idle.wait()

    async def close(self) -> None:
        """Stop writing. What is not committed by now is lost to the log: `flush` first."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        await self._set_aside.close()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        next_commit = 0.0
        while True:
            if not self._queue:
                self._wake.clear()
                await self._wake.wait()
            pause = next_commit - loop.time()
            if pause > 0:
                await asyncio.sleep(pause)
            next_commit = loop.time() + COMMIT_EVERY
            await self._save(take(self._queue))

    async def _save(self, items: list[Item]) -> None:
        """Commit all of these, however often it takes; only documents that are locked are left to `SetAside`."""
        failures = 0
        while items:
            try:
                await self._commit(items)
            except DocumentsBusy as busy:
                self._answered(failures)
                items = self._put_aside(items, busy.documents)
            except Exception as error:  # whatever it is, nothing is saved and the writer must go on trying
                self._failed(items, error)
                failures += 1
                await asyncio.sleep(retry_after(failures))
            else:
                self._answered(failures)
                return

    def _failed(self, items: list[Item], error: Exception) -> None:
        if not self.failing:
            updates = sum(len(item.entries) for item in items)
            unexpected = not isinstance(error, StoreUnavailable)
            log.error("commit_failed", updates=updates, error=str(error), exc_info=unexpected)
        self.failing = True
        tell_delayed(self._queue)

    def _answered(self, failures: int) -> None:
        if self.failing:
            log.info("commit_recovered", attempts=failures + 1)
        self.failing = False

    def _put_aside(self, items: list[Item], busy: Collection[str]) -> list[Item]:
        """Take what is of busy documents out of a batch and out of the queue behind it; gives the batch's rest."""
        aside, rest = split(items, busy)
        later, others = split(self._queue, busy)
        self._queue = deque(others)
        log.warning("documents_set_aside", documents=len(busy), one=min(busy), updates=len(aside))
        self._set_aside.put(busy, (*aside, *later))
        tell_delayed(later)
        return rest

    async def _commit(self, items: list[Item], row_wait_s: float = ROW_WAIT_S) -> None:
        """Make one attempt, and tell the rooms. Raises whatever the store raises."""
        entries = [entry for item in items for entry in item.entries]
        appended = await self._append(entries, items, row_wait_s) if entries else Appended({})
        next_seq = {} if appended.repeated else first_seqs(items, appended)
        for item in items:
            self._counters.unsaved_bytes -= item.size
            first_seq = next_seq.get(item.room.name)
            if first_seq is not None:
                next_seq[item.room.name] = first_seq + len(item.entries)
            self._tell(item, first_seq, deleted=item.room.name in appended.deleted)
        self._unsaved -= len(items)
        if not self._unsaved:
            self._idle.set()

    def _tell(self, item: Item, first_seq: int | None, *, deleted: bool) -> None:
        try:
            if deleted:
                item.room.deleted()
            else:
                item.room.committed(item.receipt, first_seq)
        except Exception:  # one room's fault must not stop the node's only writer
            log.exception("room_failed_on_commit", document=item.room.name)
        if not deleted:
            self._compactor.note(item.room.name, len(item.entries), item.size)

    async def _append(self, entries: list[LogEntry], items: list[Item], row_wait_s: float) -> Appended:
        loop = asyncio.get_running_loop()
        began = loop.time()
        timer = loop.call_later(PATIENCE, tell_delayed, items)
        try:
            row_wait_s = max(row_wait_s, ROW_WAIT_COMMITS * min(self._commits_took))
            appended = await self._log.append(entries, row_wait_s=row_wait_s)
        except Exception as error:
            # Documents that somebody holds locked are set aside: the store is well.
            self._counters.store_failures += not isinstance(error, DocumentsBusy)
            tell_delayed(items)
            raise
        finally:
            timer.cancel()
        self._commits_took.append(loop.time() - began)
        self._counters.transactions += 1
        self._counters.rows += len(entries)
        return appended
