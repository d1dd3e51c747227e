"""The engine's way behind what was shown ahead of it: one call at a time, past the pump's task.

Two hundred rooms make one trip of it (`beat`), and no task wakes up for the answer.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from collab.errors import CollabError, EngineDied

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from collab.engine.port import Outcome
    from collab.node.ahead import Shown
    from collab.node.loaded_document import LoadedDocument

    Notes = list[Callable[[], None]]


class Following:
    """What of one room is with the engine that way."""

    def __init__(
        self,
        document: LoadedDocument,
        *,
        settle: Callable[[Sequence[Shown], Sequence[Outcome]], None],
        lost: Callable[[list[Shown], Notes], None],
        failed: Callable[[Exception], None],
        rest: Callable[[], None],
    ) -> None:
        """``settle`` takes the outcomes; ``lost`` takes everything back when the engine died of it; ``failed`` is told
        of an error that ends the room, ``rest`` that nobody waits for what has come back."""
        self._document = document
        self._settle = settle
        self._lost = lost
        self._failed = failed
        self._rest = rest
        self._shown: list[Shown] = []
        self._notes: Notes = []
        self._waiter: asyncio.Future[None] | None = None

    def __bool__(self) -> bool:
        """Whether something is under way."""
        return bool(self._shown)

    def send(self, shown: list[Shown], notes: Notes) -> None:
        """Bring ``shown`` to the engine, while nothing is under way; ``notes`` are called when it has taken it."""
        self._shown, self._notes = shown, notes
        self._document.follow([item.update for item in shown], self._back)

    async def over(self) -> None:
        """Return when nothing is under way. One may wait."""
        if self._shown:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
            self._waiter = None

    def _back(self, outcomes: Sequence[Outcome] | CollabError) -> None:
        shown, self._shown = self._shown, []
        notes, self._notes = self._notes, []
        try:
            if isinstance(outcomes, EngineDied):
                self._lost(shown, notes)
            elif isinstance(outcomes, CollabError):
                raise outcomes
            else:
                self._settle(shown, outcomes)
                for note in notes:
                    note()
        except Exception as error:
            self._failed(error)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        else:
            self._rest()
