"""When a room's presence is shown: at the end of the turn in which it changed, or later in a large room (SPEC A5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collab.node.presence_budget import PresenceBudget
from collab.room import Broadcast

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

    from collab.node.audience import Audience
    from collab.node.presence_budget import PresenceRate
    from collab.room import Effect, Room


class PresenceTurn:
    """Shows what changed, once for everything that changed until then."""

    def __init__(
        self,
        room: Room,
        audience: Audience,
        rate: PresenceRate,
        loop: asyncio.AbstractEventLoop,
        *,
        perform: Callable[[Iterable[Effect]], None],
    ) -> None:
        self._room = room
        self._audience = audience
        self._budget = PresenceBudget(rate)
        self._loop = loop
        self._perform = perform
        self._due = False

    def changed(self) -> None:
        """Something may have changed. Hot path."""
        if self._due:
            return
        self._due = True
        pause = self._budget.pause(self._loop.time())
        if pause:
            self._loop.call_later(pause, self._show)
        else:
            self._loop.call_soon(self._show)

    def _show(self) -> None:
        self._due = False
        now = self._loop.time()
        effects = self._room.flush_awareness(now)
        for effect in effects:
            if isinstance(effect, Broadcast):
                self._budget.spend(len(self._room.sessions), self._audience.frame(effect.message).size, now)
        self._perform(effects)
