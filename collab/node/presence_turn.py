"""When a room's presence is shown: in the turn it changed, with an update of that turn if there is one, or later in a
large room (SPEC A5).
"""

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
        self._timer: asyncio.Handle | None = None

    @property
    def due(self) -> bool:
        """Whether something has changed that nobody was shown."""
        return self._timer is not None

    def changed(self) -> None:
        """Something may have changed. Hot path."""
        if self._timer is None and self._room.awareness.changed:
            pause = self._budget.pause(self._loop.time())
            self._timer = self._loop.call_later(pause, self._show) if pause else self._loop.call_soon(self._show)

    def take(self) -> list[Effect]:
        """What shows it with something that is written to everybody anyway, if the room's budget allows."""
        if self._timer is None or self._budget.pause(self._loop.time()):
            return []
        self._timer.cancel()
        return self._changes()

    def _show(self) -> None:
        self._perform(self._changes())

    def _changes(self) -> list[Effect]:
        self._timer = None
        now = self._loop.time()
        effects = self._room.flush_awareness(now)
        for effect in effects:
            if isinstance(effect, Broadcast):
                self._budget.spend(len(self._room.sessions), self._audience.frame(effect.message).size, now)
        return effects
