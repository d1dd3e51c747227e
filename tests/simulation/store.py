"""The shared database of a history: the memory store, behind a network and a server that fail.

What is committed is decided in one place and one instant (`MemoryStore` works without awaiting), so a row is in the log
or not, whatever its writer was told and whether it still lives. Sequence numbers become visible in order (SPEC L6).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from collab.errors import StoreUnavailable
from collab.store import MemoryStore
from collab.store.port import ROW_WAIT_S, Appended, Compaction, LogEntry, Stored, StoreStatus, Tail
from tests.simulation.loop import at_once

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from tests.simulation.node import Life
    from tests.simulation.world import World

T = TypeVar("T")

AfterCommit = Callable[["Life", Sequence[LogEntry]], None]


class Database:
    """What all nodes share."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.memory = MemoryStore(clock=world.wall_clock)
        self.down = False
        self.after_commit: list[AfterCommit] = []
        """Failpoints: called when rows were committed, before the writer hears of it."""
        self._seen = dict.fromkeys(world.plan.documents, 0)
        """Document -> the last row the checker was told of."""
        self._held: dict[Life, list[Callable[[], None]]] = {}

    def end(self, life: Life) -> StoreEnd:
        """The database as one life of a node sees it."""
        return StoreEnd(self, life)

    def hold(self, life: Life) -> None:
        """Keep the transactions of ``life`` from being committed, until `release`; or for ever, should it die."""
        self._held.setdefault(life, [])

    def release(self, life: Life) -> None:
        """Let them through, in order."""
        for act in self._held.pop(life, []):
            act()

    def when_free(self, life: Life, act: Callable[[], None]) -> None:
        """Run ``act``, unless the transactions of ``life`` are held: then when they are let through."""
        if life in self._held:
            self._held[life].append(act)
        else:
            act()

    def release_all(self) -> None:
        """Let everything through whose writer lives."""
        for life in tuple(self._held):
            if life.dead:
                del self._held[life]
            else:
                self.release(life)

    def stored(self, document: str) -> Stored:
        """What a cold load would read right now."""
        return at_once(self.memory.log.load(document))

    def append(self, life: Life, entries: Sequence[LogEntry]) -> Appended:
        """One transaction."""
        appended = at_once(self.memory.log.append(entries))
        self.world.note("store", f"committed {len(entries)} of {life.name}")
        for document, tail in at_once(self.memory.log.tail(self._seen)).items():
            self._seen[document] = tail.through
            self.world.checker.committed(document, [row.update for row in tail.rows])
        for failpoint in tuple(self.after_commit):
            failpoint(life, entries)
        return appended

    def compact(self, life: Life, document: str, compaction: Compaction) -> bool:
        """One transaction."""
        done = at_once(self.memory.log.compact(document, compaction))
        self.world.note("store", f"compaction of {document} by {life.name}: {done}")
        self.world.checker.compacted(document)
        return done


class StoreEnd:
    """`collab.store.port.Store` for one life of a node."""

    def __init__(self, database: Database, life: Life) -> None:
        self.log = Log(database, life)
        memory = database.memory
        self.documents = memory.documents
        self.snapshots = memory.snapshots
        self.grants, self.links, self.tickets = memory.grants, memory.links, memory.tickets
        self.revocations, self.access_changes, self.audit = memory.revocations, memory.access_changes, memory.audit

    async def open(self) -> None:
        """Nothing to connect to."""

    async def check(self) -> StoreStatus:
        return StoreStatus(ok=True, detail="simulated")

    async def close(self) -> None:
        """Nothing to give back."""


class Log:
    """`collab.store.port.UpdateLog`, unreliable as the weather."""

    def __init__(self, database: Database, life: Life) -> None:
        self._database = database
        self._life = life
        self._world = database.world

    async def append(self, entries: Sequence[LogEntry], *, row_wait_s: float = ROW_WAIT_S) -> Appended:
        return await self._call(partial(self._database.append, self._life, tuple(entries)), writes=True)

    async def compact(self, document: str, compaction: Compaction) -> bool:
        return await self._call(partial(self._database.compact, self._life, document, compaction), writes=True)

    async def load(self, document: str) -> Stored:
        slow = self._world.chance(self._world.weather.slow_loads)
        return await self._ask(self._log.load, document, extra=self._world.delay(0.1, 1.0) if slow else 0.0)

    async def last_seq(self, document: str) -> int:
        return await self._ask(self._log.last_seq, document)

    async def last_seqs(self, documents: Collection[str]) -> Mapping[str, int | None]:
        return await self._ask(self._log.last_seqs, documents)

    async def tail(self, after: Mapping[str, int], *, limit_bytes: int = 4 * 1024 * 1024) -> Mapping[str, Tail]:
        return await self._ask(partial(self._log.tail, limit_bytes=limit_bytes), dict(after))

    @property
    def _reachable(self) -> bool:
        return self._life.reaches_store and not self._database.down

    @property
    def _log(self) -> Any:
        return self._database.memory.log

    async def _ask(self, method: Callable[..., Coroutine[Any, Any, T]], *args: Any, extra: float = 0.0) -> T:
        return await self._call(lambda: at_once(method(*args)), extra=extra)

    async def _call(self, act: Callable[[], T], *, writes: bool = False, extra: float = 0.0) -> T:
        """Travel there, act as one transaction, travel back; each of which may go wrong."""
        world, weather, database = self._world, self._world.weather, self._database
        reply: asyncio.Future[T] = world.loop.create_future()
        before = world.delay(*weather.store_delay) + extra
        if world.chance(weather.store_slow):
            before += world.delay(0.1, 2.0)
        if not self._reachable or world.chance(weather.store_refuses):
            world.later(before, self._fail, reply, "does not answer")
        elif writes and world.chance(weather.store_commits_late):
            world.later(before, self._fail, reply, "timed out")
            world.later(before + world.delay(0.05, 1.5), self._act_late, act)
        else:
            lose = writes and world.chance(weather.store_loses_reply)
            go = partial(self._act, act, reply, lose)
            world.later(before, partial(database.when_free, self._life, go) if writes else go)
        return await reply

    def _act(self, act: Callable[[], T], reply: asyncio.Future[T], lose: bool) -> None:
        if not self._reachable:
            self._fail(reply, "went away")
            return
        back = self._world.delay(*self._world.weather.store_delay)
        try:
            answer = act()
        except Exception as error:
            self._world.later(back, _settle, reply, None, error)
            return
        if lose:
            self._world.later(back, self._fail, reply, "lost the reply")
        else:
            self._world.later(back, _settle, reply, answer, None)

    def _act_late(self, act: Callable[[], T]) -> None:
        if not self._database.down:
            with suppress(Exception):
                act()

    def _fail(self, reply: asyncio.Future[Any], why: str) -> None:
        _settle(reply, None, StoreUnavailable(f"the database {why}"))


def _settle(reply: asyncio.Future[Any], answer: Any, error: Exception | None) -> None:
    if reply.done():
        return
    if error is None:
        reply.set_result(answer)
    else:
        reply.set_exception(error)
