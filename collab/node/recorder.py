"""The one writer of a node: group commit of updates to the log, the word that they are saved, and compaction.

Everything that waits when a transaction ends goes into the next one, so the batch grows with the load by itself. A
failed commit stays in memory and is repeated as it was until it succeeds (SPEC L3); nobody is told "saved" before.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Protocol

import structlog

from collab.errors import CollabError, StoreUnavailable
from collab.store.port import Appended, LogEntry

if TYPE_CHECKING:
    from collab.node.compactor import Compactor
    from collab.node.counters import Counters
    from collab.room import Receipt
    from collab.store.port import UpdateLog

MAX_TRANSACTION_UPDATES = 5_000
MAX_TRANSACTION_BYTES = 16 * 1024 * 1024
"""Guessed: a commit of this size takes tens of milliseconds, so that an acknowledgement never waits long behind one."""

COMMIT_EVERY = 0.01
"""Seconds between the starts of two commits while there is always something to write. The first after a pause starts at
once, so a lone edit waits for nothing; under load an acknowledgement waits half of this more and the database is
asked a fifth as often, which is a quarter of a busy node's CPU (measured, benchmark B)."""

PATIENCE = 0.5
"""Seconds a commit may take before rooms stop waiting with what they hold back for it."""

RETRY_AFTER = (0.1, 0.25, 0.5, 1.0, 2.0)
"""Seconds between attempts while the database does not answer; the last one repeats."""

log = structlog.get_logger(__name__)


class Author(Protocol):
    """A live room, as far as its recorder knows it."""

    @property
    def name(self) -> str:
        """The document."""
        ...

    def committed(self, receipt: Receipt, first_seq: int | None) -> None:
        """The receipt is in the log, its rows numbered from ``first_seq``; None when nobody knows from where."""
        ...

    def delayed(self, receipt: Receipt) -> None:
        """The commit is taking long."""
        ...

    def deleted(self) -> None:
        """The document was deleted; nothing of it was stored or ever will be."""
        ...


ADOPTED = "+"
"""Ends the node id in the name of a log entry that another node wrote in its place. All that adopt an update use the
same name, so it is stored once; its origin's own entries have other names."""


class _Item:
    __slots__ = ("entries", "receipt", "room", "size", "told_delayed")

    def __init__(self, room: Author, receipt: Receipt, entries: tuple[LogEntry, ...]) -> None:
        self.room = room
        self.receipt = receipt
        self.entries = entries
        self.size = sum(len(entry.update) for entry in entries)
        self.told_delayed = False


class Recorder:
    """Owns the way from rooms to the update log. ``start`` it once, ``close`` it once."""

    def __init__(self, update_log: UpdateLog, *, node: str, counters: Counters, compactor: Compactor) -> None:
        """``node`` is the id of this process's life, new at every start: it names the log entries."""
        self._log = update_log
        self._node = node
        self._counters = counters
        self._compactor = compactor
        self._queue: deque[_Item] = deque()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._number = 0
        self._task: asyncio.Task[None] | None = None
        self.failing = False
        """Whether the last attempt to commit failed."""

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._run(), name="recorder")

    def entry(self, document: str, update: bytes, author: str | None) -> LogEntry:
        """Name a log entry; every name is used once."""
        self._number += 1
        return LogEntry(document, update, self._node, self._number, author)

    def record(self, room: Author, receipt: Receipt) -> int:
        """Queue a receipt; receipts of one room are committed, and confirmed, in this order.

        Gives the number of its first log entry; the others follow it.
        """
        first = self._number + 1
        entries = tuple(self.entry(room.name, update, author) for update, author in receipt.updates)
        if receipt.adopts:
            entries = tuple(
                LogEntry(room.name, foreign.message.update, foreign.node + ADOPTED, foreign.message.first)
                for foreign in receipt.adopts
            )
            self._counters.adopted += len(entries)
        item = _Item(room, receipt, entries)
        self._queue.append(item)
        self._counters.unsaved_bytes += item.size
        self._idle.clear()
        self._wake.set()
        if self.failing:
            self._tell_delayed((item,))
        return first

    async def flush(self) -> None:
        """Return when everything recorded so far is committed."""
        await self._idle.wait()

    async def close(self) -> None:
        """Stop writing. What is not committed by now is lost to the log: `flush` first."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        next_commit = 0.0
        while True:
            if not self._queue:
                self._idle.set()
                self._wake.clear()
                await self._wake.wait()
            pause = next_commit - loop.time()
            if pause > 0:
                await asyncio.sleep(pause)
            next_commit = loop.time() + COMMIT_EVERY
            await self._commit(self._take())

    def _take(self) -> list[_Item]:
        items: list[_Item] = []
        updates = size = 0
        while self._queue and updates < MAX_TRANSACTION_UPDATES and size < MAX_TRANSACTION_BYTES:
            item = self._queue.popleft()
            items.append(item)
            updates += len(item.entries)
            size += item.size
        return items

    async def _commit(self, items: list[_Item]) -> None:
        entries = [entry for item in items for entry in item.entries]
        appended = await self._append(entries, items) if entries else Appended({})
        next_seq = {} if appended.repeated else _first_seqs(items, appended)
        for item in items:
            self._counters.unsaved_bytes -= item.size
            if item.room.name in appended.deleted:
                item.room.deleted()
                continue
            first_seq = next_seq.get(item.room.name)
            if first_seq is not None:
                next_seq[item.room.name] = first_seq + len(item.entries)
            try:
                item.room.committed(item.receipt, first_seq)
            except Exception:  # one room's fault must not stop the node's only writer
                log.exception("room_failed_on_commit", document=item.room.name)
            self._compactor.note(item.room.name, len(item.entries), item.size)

    async def _append(self, entries: list[LogEntry], items: list[_Item]) -> Appended:
        attempt = 0
        while True:
            try:
                appended = await self._append_watched(entries, items)
            except Exception as error:  # whatever it is, nothing is saved and the writer must go on trying
                self._counters.store_failures += 1
                if not self.failing:
                    log.error(
                        "commit_failed",
                        updates=len(entries),
                        error=str(error),
                        exc_info=not isinstance(error, StoreUnavailable),
                    )
                self.failing = True
                self._tell_delayed(self._queue)
                await asyncio.sleep(RETRY_AFTER[min(attempt, len(RETRY_AFTER) - 1)])
                attempt += 1
                continue
            if self.failing:
                log.info("commit_recovered", updates=len(entries), attempts=attempt + 1)
            self.failing = False
            self._counters.transactions += 1
            self._counters.rows += len(entries)
            return appended

    async def _append_watched(self, entries: list[LogEntry], items: list[_Item]) -> Appended:
        loop = asyncio.get_running_loop()
        timer = loop.call_later(PATIENCE, self._tell_delayed, items)
        try:
            return await self._log.append(entries)
        except CollabError:
            self._tell_delayed(items)
            raise
        finally:
            timer.cancel()

    def _tell_delayed(self, items: list[_Item] | deque[_Item] | tuple[_Item, ...]) -> None:
        for item in items:
            if not item.told_delayed:
                item.told_delayed = True
                item.room.delayed(item.receipt)


def _first_seqs(items: list[_Item], appended: Appended) -> dict[str, int]:
    """Document -> sequence number of the first of its rows in this commit."""
    counts: dict[str, int] = {}
    for item in items:
        counts[item.room.name] = counts.get(item.room.name, 0) + len(item.entries)
    return {name: appended.last_seq[name] - count + 1 for name, count in counts.items() if name in appended.last_seq}
