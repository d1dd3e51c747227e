"""The engine in processes of its own, so that native code may die without taking a socket with it.

Four lanes, each a process: ``live`` holds the replicas; ``heavy`` does jobs at lower priority; ``bulk`` (on demand, at
lower priority too) holds documents that are large or were sent something large, so that nobody else's typing waits for
them; ``suspect`` (on demand) holds documents that were blamed for a death, so that a repeat offender harms only its
like. A warm spare stands by. `collab serve` uses it; `inline` gives the same answers without processes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from collab.engine.lane import Call, Lane, LaneDied
from collab.engine.port import (
    Compose,
    Diff,
    Digest,
    Draft,
    Fold,
    Followed,
    Integration,
    Job,
    JobAnswer,
    Loaded,
    Render,
    Revert,
)
from collab.engine.process import Counters, Nursery, ProcessOptions
from collab.engine.wire import Op, job_fields
from collab.errors import CollabError, EngineDied, Misuse
from collab.protocol.yjs import EMPTY_STATE_VECTOR

LIVE_DEADLINE_S = 2.0
HEAVY_DEADLINE_S = 30.0
SUSPECT_FOR_S = 600.0
"""How long a document that was blamed for a death is kept apart from the others."""

BULK_UPDATE_BYTES = 128 * 1024
"""A batch from this on moves its document to the bulk lane first. Measured: 1 MiB of structs takes 10 to 45 ms."""
BULK_DOCUMENT_BYTES = 2 * 1024 * 1024
"""A document of this many bytes of updates is loaded there at once."""

JOB_ATTEMPTS = 3
"""A job lost because its neighbour killed the process is repeated; one that is blamed itself is not."""


@dataclass(slots=True)
class _Move:
    """A document on its way to another lane."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0
    """Calls that wait for its end."""


class IsolatedEngine:
    """`collab.engine.port.Engine` in child processes. Call `start` first and `close` last, in one event loop."""

    def __init__(
        self,
        *,
        options: ProcessOptions | None = None,
        live_deadline_s: float = LIVE_DEADLINE_S,
        heavy_deadline_s: float = HEAVY_DEADLINE_S,
        suspect_for_s: float = SUSPECT_FOR_S,
        keep_warm: bool = True,
    ) -> None:
        self.counters = Counters()
        self._nursery = Nursery(options or ProcessOptions(), self.counters, keep_warm=keep_warm)
        self._live = self._lane("live", live_deadline_s)
        self._heavy = self._lane("heavy", heavy_deadline_s, nice=True)
        self._bulk = self._lane("bulk", live_deadline_s, nice=True)
        self._suspect = self._lane("suspect", live_deadline_s)
        self._suspect_for_s = suspect_for_s
        self._suspects: dict[str, float] = {}
        self._homes: dict[str, Lane] = {}
        self._lost: set[str] = set()
        self._asked: dict[str, dict[tuple[object, ...], asyncio.Future[Any]]] = {}
        self._following: set[asyncio.Task[None]] = set()
        self._moving: dict[str, _Move] = {}
        """Documents on their way to the bulk lane; other calls about them wait, in order (SPEC E13)."""

    def _lane(self, name: str, deadline_s: float, *, nice: bool = False) -> Lane:
        return Lane(name, self._nursery, self.counters, deadline_s=deadline_s, nice=nice, on_death=self._mourn)

    @property
    def pids(self) -> dict[str, int]:
        """Lane -> process id, of the lanes that have a process now."""
        lanes = (self._live, self._heavy, self._bulk, self._suspect)
        return {lane.name: lane.pid for lane in lanes if lane.pid is not None}

    async def spare_pid(self) -> int:
        """Process id of the warm spare, once it is ready."""
        return await self._nursery.warm_pid()

    async def start(self) -> None:
        """Have the live lane ready. Raises `EngineDied` with what went wrong."""
        await self._live.start()

    async def load(self, document: str, updates: Sequence[bytes]) -> Loaded:
        """See `Engine.load`. A document that was blamed for a death goes to the suspect lane, a large one to bulk."""
        suspect = self._is_suspect(document)
        updates = tuple(updates)
        bulk = sum(map(len, updates)) >= BULK_DOCUMENT_BYTES
        lane = self._suspect if suspect else self._bulk if bulk else self._live
        if self._homes.get(document) is not lane:
            self._leave(document)
        self._asked.pop(document, None)
        answer = lane.submit(Op.LOAD, document, updates, document, updates, suspect)
        self._homes[document] = lane
        self._lost.discard(document)
        loaded: Loaded = await answer
        return loaded

    async def integrate(self, document: str, updates: Sequence[bytes], *, probe: bool = False) -> Integration:
        """See `Engine.integrate`."""
        updates = tuple(updates)
        lane = await self._home_for(document, updates)
        if not probe:
            self._asked.pop(document, None)
        integration: Integration = await lane.submit(Op.INTEGRATE, document, updates, document, updates, probe)
        return integration

    async def _home_for(self, document: str, updates: Sequence[bytes]) -> Lane:
        """The lane of a document that is about to be sent ``updates``: large ones move it."""
        if document in self._moving:
            await self._moved(document)
        lane = self._home(document)
        if lane is self._live and sum(map(len, updates)) >= BULK_UPDATE_BYTES:
            await self._move(document)
            lane = self._home(document)
        return lane

    def follow(self, document: str, updates: Sequence[bytes], done: Followed) -> None:
        """See `Engine.follow`."""
        size = sum(map(len, updates))
        lane = self._homes.get(document)
        if lane is None or document in self._moving or size >= BULK_UPDATE_BYTES:
            self._follow_slowly(document, updates, done)
            return
        self._asked.pop(document, None)
        lane.submit_for(done, Call(Op.FOLLOW, document, updates, size, [Op.FOLLOW, document, updates]))

    def _follow_slowly(self, document: str, updates: Sequence[bytes], done: Followed) -> None:
        async def integrate() -> None:
            try:
                answer = await self.integrate(document, updates)
            except CollabError as error:
                done(error)
            else:
                done(answer)

        task = asyncio.create_task(integrate(), name=f"follow {document}")
        self._following.add(task)
        task.add_done_callback(self._following.discard)

    async def diff(self, document: str, state_vector: bytes) -> Diff:
        """See `Engine.diff`."""
        diff: Diff = await self._ask(Op.DIFF, document, state_vector)
        return diff

    async def digest(self, document: str) -> Digest:
        """See `Engine.digest`."""
        digest: Digest = await self._ask(Op.DIGEST, document)
        return digest

    async def forget(self, document: str) -> None:
        """See `Engine.forget`."""
        self._lost.discard(document)
        self._asked.pop(document, None)
        self._leave(document)

    async def run(self, job: Job) -> JobAnswer:
        """See `Engine.run`."""
        for attempt in range(1, JOB_ATTEMPTS + 1):
            try:
                answer: JobAnswer = await self._heavy.submit(Op.RUN, "", _bytes_of(job), job_fields(job))
            except LaneDied as error:
                if error.blamed or attempt == JOB_ATTEMPTS:
                    raise
            else:
                return answer
        raise AssertionError("unreachable")

    async def close(self) -> None:
        """See `Engine.close`."""
        for lane in (self._live, self._heavy, self._bulk, self._suspect):
            await lane.close()
        if self._following:
            await asyncio.wait(self._following)
        await self._nursery.close()
        self._homes.clear()

    async def _ask(self, op: Op, document: str, *question: bytes) -> Any:
        """Ask about a replica. Equal questions share one answer until something is integrated in between."""
        if document in self._moving:
            await self._moved(document)
        lane = self._home(document)
        asked = self._asked.setdefault(document, {})
        key = (op, *question)
        answer = asked.get(key)
        if answer is None or answer.done():
            answer = asked[key] = lane.submit(op, document, question, document, *question)
            answer.add_done_callback(lambda _: asked.pop(key, None))
        return await asyncio.shield(answer)

    async def _move(self, document: str) -> None:
        """Take a document from the live lane to the bulk lane. Raises `EngineDied`; no update is to blame then."""
        move = self._moving[document] = _Move()
        try:
            async with move.lock:
                whole: Diff = await self._live.submit(Op.DIFF, document, (), document, EMPTY_STATE_VECTOR)
                self._leave(document)
                updates = (whole.update,)
                loaded = self._bulk.submit(Op.LOAD, document, updates, document, updates, False)
                self._homes[document] = self._bulk
                await loaded
        except EngineDied as error:
            raise EngineDied("engine process died while a document moved") from error
        finally:
            self._forget_move(document, move)

    async def _moved(self, document: str) -> None:
        """Return when the document has moved, or could not, and those who asked before have gone on."""
        move = self._moving[document]
        move.waiting += 1
        try:
            async with move.lock:
                pass
        finally:
            move.waiting -= 1
            self._forget_move(document, move)

    def _forget_move(self, document: str, move: _Move) -> None:
        if not move.waiting and not move.lock.locked() and self._moving.get(document) is move:
            del self._moving[document]

    def _leave(self, document: str) -> None:
        lane = self._homes.pop(document, None)
        if lane is None:
            return
        if lane in (self._bulk, self._suspect) and lane.idle and lane not in self._homes.values():
            lane.retire()
        else:
            lane.submit(Op.FORGET, document, (), document)

    def _home(self, document: str) -> Lane:
        lane = self._homes.get(document)
        if lane is not None:
            return lane
        if document in self._lost:
            raise EngineDied("document was lost with its engine; load it again")
        raise Misuse(f"document was never loaded: {document}")

    def _is_suspect(self, document: str) -> bool:
        until = self._suspects.get(document)
        if until is None:
            return False
        if until < asyncio.get_running_loop().time():
            del self._suspects[document]
            return False
        return True

    def _mourn(self, lane: Lane, blamed: Call | None) -> None:
        """A process died: its documents are lost, and the one it was working on is under suspicion."""
        gone = [document for document, home in self._homes.items() if home is lane]
        for document in gone:
            del self._homes[document]
            self._asked.pop(document, None)
        self._lost.update(gone)
        if blamed is not None and blamed.document:
            now = asyncio.get_running_loop().time()
            self._suspects = {name: until for name, until in self._suspects.items() if until >= now}
            self._suspects[blamed.document] = now + self._suspect_for_s


def _bytes_of(job: Job) -> Sequence[bytes]:
    match job:
        case Fold() | Render():
            return job.updates
        case Compose():
            return (job.content,)
        case Draft():
            return (job.body,)
        case Revert():
            return (*job.current, *job.target)
