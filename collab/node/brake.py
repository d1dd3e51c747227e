"""Reads a room's writers more slowly while too much is unsaved: nothing is dropped, nobody is sent away (SPEC N6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from collab.node.outbox import Outbox


class Brake:
    """The writers of one room that are not read from for now."""

    def __init__(self, over_bound: Callable[[], bool]) -> None:
        """``over_bound`` says whether too much is unsaved."""
        self._over_bound = over_bound
        self._paused: dict[Outbox, None] = {}

    def apply(self, outbox: Outbox | None) -> None:
        """Take nothing more from this writer for now."""
        if outbox is not None and not outbox.paused:
            outbox.paused = True
            outbox.connection.pause_reading()
            self._paused[outbox] = None

    def forget(self, outbox: Outbox | None) -> None:
        """A writer has left."""
        if outbox is not None:
            self._paused.pop(outbox, None)

    def release(self) -> None:
        """Read on, when little enough is unsaved."""
        if self._paused and not self._over_bound():
            for outbox in self._paused:
                outbox.paused = False
                outbox.connection.resume_reading()
            self._paused.clear()
