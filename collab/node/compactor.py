"""Folds update logs into snapshots, one document at a time, out of the way of everything that is being typed.

It counts what is committed per document and starts when the log outweighs the snapshot. It reads the store, folds in
the engine and hands the result back; a fold that came too late (another node was first) is dropped by the store.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from collab.engine.port import Fold, Folded
from collab.errors import CollabError, DocumentDeleted, Misuse
from collab.store.port import Compaction

if TYPE_CHECKING:
    from collections.abc import Callable

    from collab.engine.port import Engine
    from collab.node.counters import Counters
    from collab.store.port import Stored, UpdateLog

RETRY_AFTER = 30.0
"""Seconds before a document whose compaction failed is tried again; guessed."""

COMPACT_EVERY = 60.0
"""Seconds between two compactions of a document, unless its log has grown by `TOO_LONG` times the threshold: a room of
fifty who type would otherwise be folded every second, for nothing but a slightly faster cold open."""

TOO_LONG = 20

TOO_LARGE = 16 * 1024 * 1024
"""Bytes of log, if more than its snapshot, that are folded at once, however few the rows: a fold reads them all."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Weight:
    updates: int = 0
    bytes: int = 0
    snapshot_bytes: int = 0
    not_before: float = 0.0
    failed: bool = False
    """Whether the last attempt failed."""

    @property
    def is_large(self) -> bool:
        return self.bytes >= max(TOO_LARGE, self.snapshot_bytes)


class Compactor:
    """Watches how the logs grow. ``start`` it once, ``close`` it once."""

    def __init__(
        self,
        update_log: UpdateLog,
        engine: Engine,
        counters: Counters,
        *,
        after_updates: int = 500,
        pause: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """``pause`` gives the seconds to wait before a document that is due is folded: nodes that share it would all
        fold it at once, and all but one for nothing."""
        self._pause = pause
        self._log = update_log
        self._engine = engine
        self._counters = counters
        self._after_updates = after_updates
        self._weights: dict[str, _Weight] = {}
        self._due: dict[str, None] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to work."""
        self._task = asyncio.create_task(self._run(), name="compactor")

    async def close(self) -> None:
        """Stop; a compaction under way is dropped, which costs nothing but its work."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def loaded(self, document: str, stored: Stored) -> None:
        """A document was opened: note how heavy its log is already."""
        weight = self._weights.setdefault(document, _Weight())
        weight.updates = len(stored.updates)
        weight.bytes = sum(len(row.update) for row in stored.updates)
        weight.snapshot_bytes = len(stored.snapshot or b"")
        self._consider(document, weight)

    def note(self, document: str, updates: int, size: int) -> None:
        """Updates were committed."""
        weight = self._weights.setdefault(document, _Weight())
        weight.updates += updates
        weight.bytes += size
        self._consider(document, weight)

    def forget(self, document: str) -> None:
        """The document was closed here; one that is due is still compacted."""
        if document not in self._due:
            self._weights.pop(document, None)

    def _consider(self, document: str, weight: _Weight) -> None:
        # Every logged row costs the reader about 100 bytes of work beside its own, and folding costs the snapshot.
        heavy = weight.updates * 100 + weight.bytes
        if (weight.updates >= self._after_updates and heavy >= weight.snapshot_bytes) or weight.is_large:
            now = asyncio.get_running_loop().time()
            if document not in self._due:
                pause = self._pause()
                if pause:
                    weight.not_before = max(weight.not_before, now + pause)
                self._due[document] = None
                self._wake.set()
            elif self._is_ready(weight, now):
                self._wake.set()

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            now = asyncio.get_running_loop().time()
            ready = next((name for name in self._due if self._is_ready(self._weights[name], now)), None)
            if ready is not None:
                await self._compact(ready)
                continue
            try:
                async with asyncio.timeout(RETRY_AFTER if self._due else None):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _is_ready(self, weight: _Weight, now: float) -> bool:
        too_long = weight.updates >= TOO_LONG * self._after_updates or weight.is_large
        return weight.not_before <= now or (too_long and not weight.failed)

    async def _compact(self, document: str) -> None:
        weight = self._weights[document]
        try:
            await self.compact(document, at_least=1 if weight.is_large else self._after_updates // 2)
        except DocumentDeleted:
            self._due.pop(document, None)
            self._weights.pop(document, None)
        except CollabError as error:
            log.warning("compaction_failed", document=document, error=str(error))
            weight.not_before = asyncio.get_running_loop().time() + RETRY_AFTER
            weight.failed = True
        else:
            weight.not_before = asyncio.get_running_loop().time() + COMPACT_EVERY
            weight.failed = False
            self._due.pop(document, None)

    async def compact(self, document: str, *, at_least: int = 1) -> bool:
        """Fold now; False when there are fewer updates to fold, so that another node must have been first."""
        stored = await self._log.load(document)
        if len(stored.updates) < at_least:
            self._weights.setdefault(document, _Weight()).updates = len(stored.updates)
            return False
        folded = await self._engine.run(Fold(stored.all_updates))
        if not isinstance(folded, Folded):
            raise Misuse("a fold was answered with something else")
        offset = 0 if stored.snapshot is None else 1
        covered = frozenset(stored.updates[index - offset].seq for index in folded.covered if index >= offset)
        done = await self._log.compact(
            document, Compaction(stored.snapshot_id, folded.update, folded.state_vector, covered)
        )
        weight = self._weights.setdefault(document, _Weight())
        weight.updates = max(0, weight.updates - len(stored.updates))
        weight.bytes = max(0, weight.bytes - sum(len(row.update) for row in stored.updates))
        weight.snapshot_bytes = len(folded.update)
        if done:
            self._counters.compactions += 1
            log.debug("compacted", document=document, updates=len(covered), bytes=len(folded.update))
        return done
