"""One clock for everything on a node that can wait a moment and is cheaper done together."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

EVERY_S = 0.01
"""An acknowledgement waits half of this on average. Guessed: more often means more trips and more commits."""


class Beat:
    """Calls back, all together, whoever asked since the last time: at once after a pause, else ``every`` seconds.

    Two hundred rooms that each bring their engine an update then make one trip of it.
    """

    def __init__(self, every: float = EVERY_S) -> None:
        self._every = every
        self._loop: asyncio.AbstractEventLoop | None = None
        self._last = float("-inf")
        self._calls: list[Callable[[], None]] = []

    def soon(self, call: Callable[[], None]) -> None:
        """Call ``call`` once with the next beat. Ask once until then."""
        self._calls.append(call)
        if len(self._calls) == 1:
            loop = self._loop
            if loop is None:
                loop = self._loop = asyncio.get_running_loop()
            loop.call_later(max(0.0, self._last + self._every - loop.time()), self._strike, loop)

    def _strike(self, loop: asyncio.AbstractEventLoop) -> None:
        self._last = loop.time()
        calls, self._calls = self._calls, []
        for call in calls:
            call()
