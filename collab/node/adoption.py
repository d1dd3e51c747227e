"""When a room writes other nodes' updates to the log in their place: something waits for them, or they are old.

`Room` says which those are (SPEC K5); this asks it at the right moments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

    from collab.room import Effect, Room

OLD_AFTER = 15.0
"""Seconds after which another node's update is adopted although nobody waits for it; in an empty room after one."""


class Adoption:
    """One room's."""

    def __init__(
        self,
        room: Room,
        loop: asyncio.AbstractEventLoop,
        after: float,
        *,
        perform: Callable[[Iterable[Effect]], None],
    ) -> None:
        """``after`` is how long, in seconds, a confirmation waits for another node's commit."""
        self._room = room
        self._loop = loop
        self._after = after
        self._perform = perform
        self._timer: asyncio.TimerHandle | None = None

    def committed(self) -> None:
        """Something was committed; its confirmation may wait for another node. Hot path."""
        if self._room.waits_for_peers and self._timer is None:
            self._timer = self._loop.call_later(self._after, self._adopt_awaited)

    def adopt_old(self, *, occupied: bool) -> None:
        """Adopt what is still not known to be in the log; called about once a second."""
        if self._room.foreign:
            now = self._loop.time()
            self._perform(self._room.adopt_old(now - (OLD_AFTER if occupied else 1.0), now))

    def adopt_all(self) -> None:
        """The room is about to close: adopt whatever there is."""
        now = self._loop.time()
        self._perform(self._room.adopt_old(now, now))

    def stop(self) -> None:
        """The room has closed."""
        if self._timer is not None:
            self._timer.cancel()

    def _adopt_awaited(self) -> None:
        self._timer = None
        now = self._loop.time()
        self._perform(self._room.adopt_awaited(now - self._after, now))
        self.committed()
