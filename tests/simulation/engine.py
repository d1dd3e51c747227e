"""The engine of one node's life: the inline one, which takes its time and now and then dies with all it holds."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from collab.engine.inline import InlineEngine
from collab.engine.port import Diff, Digest, Followed, Integration, Job, JobAnswer, Loaded
from collab.errors import EngineDied

if TYPE_CHECKING:
    import asyncio

    from tests.simulation.world import World


class MortalEngine:
    """`collab.engine.port.Engine`. Calls take their turn, in the order made (SPEC E13)."""

    def __init__(self, world: World, name: str, *, delay: tuple[float, float] | None) -> None:
        """``delay`` seconds pass before each call is executed; None: it is executed at once."""
        self.inner = InlineEngine()
        self.held: dict[str, None] = {}
        """Documents loaded."""
        self._world = world
        self._name = name
        self._delay = delay
        self._lost: dict[str, None] = {}
        self._turns: deque[asyncio.Future[None]] = deque()

    async def load(self, document: str, updates: Sequence[bytes]) -> Loaded:
        await self._turn()
        loaded = await self.inner.load(document, updates)
        self._lost.pop(document, None)
        self.held[document] = None
        return loaded

    async def integrate(self, document: str, updates: Sequence[bytes], *, probe: bool = False) -> Integration:
        await self._turn(document)
        return await self.inner.integrate(document, updates, probe=probe)

    def follow(self, document: str, updates: Sequence[bytes], done: Followed) -> None:
        async def integrate() -> None:
            try:
                await self._turn(document)
            except EngineDied as died:
                done(died)
            else:
                self.inner.follow(document, updates, done)

        self._world.loop.create_task(integrate())

    async def diff(self, document: str, state_vector: bytes) -> Diff:
        await self._turn(document)
        return await self.inner.diff(document, state_vector)

    async def digest(self, document: str) -> Digest:
        await self._turn(document)
        digest: Digest = await self.inner.digest(document)
        return digest

    async def forget(self, document: str) -> None:
        await self._turn()
        self._lost.pop(document, None)
        self.held.pop(document, None)
        await self.inner.forget(document)

    async def run(self, job: Job) -> JobAnswer:
        await self._turn()
        return await self.inner.run(job)

    async def close(self) -> None:
        await self.inner.close()

    def die(self) -> None:
        """Lose everything; another process takes over at once, empty."""
        self._world.note(self._name, "engine died")
        self._world.checker.carried = True
        self._lost.update(self.held)
        self.held.clear()
        self.inner = InlineEngine()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def _turn(self, document: str | None = None) -> None:
        if self._delay is not None:
            turn: asyncio.Future[None] = self._world.loop.create_future()
            self._turns.append(turn)
            self._world.loop.call_later(self._world.delay(*self._delay), self._next)
            await turn
        if self._world.chance(self._world.weather.engine_dies):
            self.die()
            raise EngineDied("killed by the simulation")
        if document in self._lost:
            raise EngineDied("document was lost with its engine; load it again")

    def _next(self) -> None:
        turn = self._turns.popleft()
        if not turn.done():
            turn.set_result(None)
