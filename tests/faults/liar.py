"""Somebody on the bus who repeats what others said: late, twice, cut short, with a bit turned."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any, Self

from redis.asyncio import Redis

SHARE = 0.1
"""Of what is said, this much is repeated truly, and as much falsely."""
LATE_S = 2.0


class Liar:
    """Hears every channel of one Redis and publishes beside what is true. Use as an async context manager."""

    def __init__(self, url: str, rng: Random) -> None:
        self.repeated = 0
        """Envelopes said again as they were, up to `LATE_S` later, so after what followed them."""
        self.damaged = 0
        """Envelopes said again with something missing or wrong."""
        self._rng = rng
        self._redis: Any = Redis.from_url(url)
        self._own: set[bytes] = set()
        self._late: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._lie(), name="liar")
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [*self._late, *([self._task] if self._task else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._redis.aclose()

    async def _lie(self) -> None:
        async with self._redis.pubsub() as ear:
            await ear.psubscribe("*")
            async for said in ear.listen():
                if said["type"] == "pmessage":
                    self._consider(said["channel"], said["data"])

    def _consider(self, channel: bytes, data: bytes) -> None:
        if data in self._own:
            self._own.discard(data)
            return
        chance = self._rng.random()
        if chance < SHARE:
            self._say_later(channel, data)
            self.repeated += 1
        elif chance < 2 * SHARE:
            self._say_later(channel, self._damage(data))
            self.damaged += 1

    def _say_later(self, channel: bytes, data: bytes) -> None:
        self._own.add(data)
        task = asyncio.create_task(self._say(channel, data, self._rng.uniform(0.0, LATE_S)), name="lie")
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    async def _say(self, channel: bytes, data: bytes, after_s: float) -> None:
        await asyncio.sleep(after_s)
        await self._redis.publish(channel, data)

    def _damage(self, data: bytes) -> bytes:
        at = self._rng.randrange(len(data))
        if self._rng.random() < 0.5:
            return data[:at]
        return data[:at] + bytes([data[at] ^ 1 << self._rng.randrange(8)]) + data[at + 1 :]
