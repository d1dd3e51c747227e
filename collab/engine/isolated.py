"""The engine in processes of its own, so that native code may die without taking a socket with it.

Three lanes, each a process: ``live`` holds the replicas, ``heavy`` does jobs at lower priority, ``suspect`` (started
on demand) holds documents that were blamed for a death, so that a repeat offender harms only its like. A warm spare
stands by. `collab serve` uses it; `inline` gives the same answers without processes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from collab.engine.lane import Call, Lane, LaneDied
from collab.engine.port import Compose, Diff, Digest, Fold, Folded, Integration, Job, Loaded, Render, Revert, Verdict
from collab.engine.process import Counters, Nursery, ProcessOptions
from collab.engine.wire import Op, job_fields
from collab.errors import EngineDied, Misuse

LIVE_DEADLINE_S = 2.0
HEAVY_DEADLINE_S = 30.0
SUSPECT_FOR_S = 600.0
"""How long a document that was blamed for a death is kept apart from the others."""

JOB_ATTEMPTS = 3
"""A job lost because its neighbour killed the process is repeated; one that is blamed itself is not."""

T = TypeVar("T")


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
        self._suspect = self._lane("suspect", live_deadline_s)
        self._suspect_for_s = suspect_for_s
        self._suspects: dict[str, float] = {}
        self._homes: dict[str, Lane] = {}
        self._lost: set[str] = set()
        self._asked: dict[str, dict[tuple[object, ...], asyncio.Future[Any]]] = {}

    def _lane(self, name: str, deadline_s: float, *, nice: bool = False) -> Lane:
        return Lane(name, self._nursery, self.counters, deadline_s=deadline_s, nice=nice, on_death=self._mourn)

    @property
    def pids(self) -> dict[str, int]:
        """Lane -> process id, of the lanes that have a process now."""
        lanes = (self._live, self._heavy, self._suspect)
        return {lane.name: lane.pid for lane in lanes if lane.pid is not None}

    async def spare_pid(self) -> int:
        """Process id of the warm spare, once it is ready."""
        return await self._nursery.warm_pid()

    async def start(self) -> None:
        """Have the live lane ready. Raises `EngineDied` with what went wrong."""
        await self._live.start()

    async def load(self, document: str, updates: Sequence[bytes]) -> Loaded:
        """See `Engine.load`. A document that was blamed for a death goes to the suspect lane."""
        suspect = self._is_suspect(document)
        lane = self._suspect if suspect else self._live
        if self._homes.get(document) is not lane:
            self._leave(document)
        self._asked.pop(document, None)
        answer = lane.submit(Op.LOAD, document, updates, document, tuple(updates), suspect)
        self._homes[document] = lane
        self._lost.discard(document)
        loaded: Loaded = await answer
        return loaded

    async def integrate(self, document: str, updates: Sequence[bytes], *, probe: bool = False) -> Integration:
        """See `Engine.integrate`."""
        lane = self._home(document)
        if not probe:
            self._asked.pop(document, None)
        integration: Integration = await lane.submit(Op.INTEGRATE, document, updates, document, tuple(updates), probe)
        self.counters.refused += sum(outcome.verdict is Verdict.REFUSED for outcome in integration.outcomes)
        return integration

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

    async def run(self, job: Job) -> Folded | bytes:
        """See `Engine.run`."""
        for attempt in range(1, JOB_ATTEMPTS + 1):
            try:
                answer: Folded | bytes = await self._heavy.submit(Op.RUN, "", _bytes_of(job), job_fields(job))
            except LaneDied as error:
                if error.blamed or attempt == JOB_ATTEMPTS:
                    raise
            else:
                return answer
        raise AssertionError("unreachable")

    async def close(self) -> None:
        """See `Engine.close`."""
        for lane in (self._live, self._heavy, self._suspect):
            await lane.close()
        await self._nursery.close()
        self._homes.clear()

    async def _ask(self, op: Op, document: str, *question: bytes) -> Any:
        """Ask about a replica. Equal questions share one answer until something is integrated in between."""
        lane = self._home(document)
        asked = self._asked.setdefault(document, {})
        key = (op, *question)
        answer = asked.get(key)
        if answer is None or answer.done():
            answer = asked[key] = lane.submit(op, document, question, document, *question)
            answer.add_done_callback(lambda _: asked.pop(key, None))
        return await asyncio.shield(answer)

    def _leave(self, document: str) -> None:
        lane = self._homes.pop(document, None)
        if lane is None:
            return
        if lane is self._suspect and lane.idle and lane not in self._homes.values():
            lane.retire()
        else:
            lane.submit(Op.FORGET, document, None, document)

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


def _bytes_of(job: Job) -> Iterable[bytes]:
    match job:
        case Fold() | Render():
            return job.updates
        case Compose():
            return (job.content,)
        case Revert():
            return (*job.current, *job.target)
