"""An ear on a bus that remembers what it heard, so that tests can wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from collab.bus import Bus, Envelope

PATIENCE_S = 60.0


class Hearer:
    """Everything heard of one document, and how often something may have been missed."""

    subscription: Any

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []
        self.losses = 0
        self._taken = 0
        self._changed = asyncio.Event()

    @classmethod
    async def on(cls, bus: Bus, document: str = "d") -> Hearer:
        """Subscribe."""
        hearer = cls()
        hearer.subscription = await bus.subscribe(document, hearer.receive, hearer.lost)
        return hearer

    def receive(self, envelope: Envelope) -> None:
        """Remember."""
        self.envelopes.append(envelope)
        self._changed.set()

    def lost(self) -> None:
        """Count."""
        self.losses += 1
        self._changed.set()

    async def next(self) -> Envelope:
        """The next envelope not asked for yet."""
        await self.until(lambda hearer: len(hearer.envelopes) > self._taken)
        self._taken += 1
        return self.envelopes[self._taken - 1]

    async def until(self, true: Callable[[Hearer], bool]) -> None:
        """Wait until ``true``, looked at whenever something was heard or lost. Raises `TimeoutError`."""
        async with asyncio.timeout(PATIENCE_S):
            while not true(self):
                self._changed.clear()
                await self._changed.wait()


async def until(true: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
    """Poll until ``true``. Raises `TimeoutError`."""
    async with asyncio.timeout(patience_s):
        while not true():
            await asyncio.sleep(0.01)
