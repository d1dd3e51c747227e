"""Lets a storm in a few at a time, so that whoever is inside, and a REST request, is still served meanwhile.

A thousand people whose node died come back within the same tenth of a second. The kernel queues their connections and
the event loop takes one per turn, so a liveness probe that comes last waits until all before it are taken: half a
second, when each is let in on the way. So the queue is emptied first, which is cheap, and those from it wait here.
"""

from __future__ import annotations

import asyncio
from collections import deque

PER_TURN = 8
"""So many go on in one turn of the event loop: some milliseconds. Guessed."""

CLOSED_FOR = 0.05
"""Seconds for which a stream of newcomers may keep everybody waiting; then `PER_TURN` go on, whoever comes. Guessed."""


class Door:
    """First come, first served. Everybody passes it at the upgrade, and again after waiting for a document to open."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._somebody_came = False
        self._opened_at = 0.0
        self._attended = False
        """Whether `_open` is about to be called."""

    def somebody_came(self) -> None:
        """A connection was accepted in this turn: there may be more in the kernel's queue."""
        self._somebody_came = True

    async def turn(self) -> None:
        """Return when it is the caller's turn; the event loop has turned at least once by then."""
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        self._waiting.append(turn)
        if not self._attended:
            self._attended = True
            loop.call_soon(self._open, loop)
        await turn

    def _open(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        if not self._somebody_came or now - self._opened_at >= CLOSED_FOR:
            self._opened_at = now
            self._let_some_in()
        self._somebody_came = False
        self._attended = bool(self._waiting)
        if self._attended:
            loop.call_soon(self._open, loop)

    def _let_some_in(self) -> None:
        let_in = 0
        while self._waiting and let_in < PER_TURN:
            turn = self._waiting.popleft()
            if not turn.done():  # else whoever waited has gone
                turn.set_result(None)
                let_in += 1
