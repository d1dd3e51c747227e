"""A crowd of idle clients that come back with y-websocket's delays, all at once: cheap enough for a thousand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.faults.typist import FIRST_RETRY_S, LAST_RETRY_S
from tests.support import wire
from tests.support.cluster import until


class Storm:
    """Clients of one document; each tries ``urls`` in turn, beginning with the first. An async context manager."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls = urls
        self._tasks: list[asyncio.Task[None]] = []
        self._in_since: dict[int, float] = {}
        """When each client that is in was let in."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def enter(self, count: int) -> None:
        """Let ``count`` clients in; returns when all are synced."""
        self._tasks += [asyncio.create_task(self._live(number), name=f"idle {number}") for number in range(count)]
        await until(lambda: len(self._in_since) == count, "the crowd does not get in", seconds=120.0)

    async def all_back(self, since: float) -> float:
        """Wait until every client has been let in after ``since``; how long after it that was."""
        await until(
            lambda: len(self._in_since) == len(self._tasks) and min(self._in_since.values()) > since,
            "the crowd does not come back",
            seconds=120.0,
            explain=lambda: f"{sum(when > since for when in self._in_since.values())} of {len(self._tasks)} are back",
        )
        return max(self._in_since.values()) - since

    async def _live(self, number: int) -> None:
        failures = turn = 0
        while True:
            try:
                url = self._urls[turn % len(self._urls)]
                async with connect(url, compression=None, ping_interval=None, proxy=None) as socket:
                    await socket.send(wire.step1())
                    await self._idle(number, socket)
            except (ConnectionClosed, OSError, InvalidHandshake, EOFError, TimeoutError):
                failures = 0 if number in self._in_since else failures + 1
                self._in_since.pop(number, None)
            turn += 1
            await asyncio.sleep(min(FIRST_RETRY_S * 2**failures, LAST_RETRY_S))

    async def _idle(self, number: int, socket: ClientConnection) -> None:
        while True:
            for kind, sub, _ in wire.messages(await socket.recv(decode=False)):
                if (kind, sub) == (wire.SYNC, wire.STEP2):
                    self._in_since.setdefault(number, time.monotonic())
