"""What a room has recorded and is not committed yet, and the tasks that wait for something to be saved."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from collab.errors import CollabError
    from collab.room import Receipt, Session


class Unsaved:
    """Receipts on their way to the log."""

    def __init__(self, reserve: Callable[[int], int]) -> None:
        """``reserve`` gives the number of the first of so many log entries."""
        self._reserve = reserve
        self.bytes = 0
        """Of their updates."""
        self._numbers: dict[Receipt, int] = {}
        self._reserved: dict[Receipt, int] = {}
        """Of receipts that will be recorded when the engine has what people are shown already."""

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._numbers)

    def add(self, receipt: Receipt, number: int) -> None:
        """A receipt was recorded; ``number`` names its first log entry."""
        self._reserved.pop(receipt, None)
        self._numbers[receipt] = number
        self.bytes += _size(receipt)

    def withdraw(self, receipt: Receipt) -> int | None:
        """It will not be recorded; gives the number that was reserved."""
        return self._reserved.pop(receipt, None)

    def number(self, receipt: Receipt) -> int:
        """Number of its first log entry; reserved when it has none yet, as if it were to be recorded."""
        number = self._numbers.get(receipt) or self._reserved.get(receipt)
        if number is None:
            number = self._reserved[receipt] = self._reserve(len(receipt.updates))
        return number

    def committed(self, receipt: Receipt) -> int | None:
        """It is in the log; gives its number, or None when it was given up before."""
        number = self._numbers.pop(receipt, None)
        if number is not None:
            self.bytes -= _size(receipt)
        return number

    def updates(self) -> list[bytes]:
        """All of them, in order."""
        return [update for receipt in self._numbers for update, _ in receipt.updates]

    def give_up(self) -> None:
        """The document is deleted: nothing of it will ever be in the log."""
        self._numbers.clear()
        self._reserved.clear()
        self.bytes = 0


def _size(receipt: Receipt) -> int:
    updates = receipt.updates
    return len(updates[0][0]) if len(updates) == 1 else sum(len(update) for update, _ in updates)


class Waiters:
    """Tasks that wait for a receipt, or for what they wrote in the name of a session, to be saved."""

    def __init__(self) -> None:
        self._futures: dict[Receipt | Session, asyncio.Future[None]] = {}

    async def wait(self, key: Receipt | Session) -> None:
        """Return when it is saved; raises what `refuse` or `refuse_all` was given. Nothing may await before this."""
        future = self._futures[key] = asyncio.get_running_loop().create_future()
        try:
            await future
        finally:
            del self._futures[key]

    def saved(self, receipt: Receipt) -> None:
        """A receipt is saved, and with it what it settles."""
        if self._futures:
            keys: list[Receipt | Session] = [receipt, *(session for session, _ in receipt.writes)]
            for key in keys:
                future = self._futures.get(key)
                if future is not None and not future.done():
                    future.set_result(None)

    def refuse(self, key: Session, error: CollabError) -> bool:
        """It will never be; False when nobody waits."""
        future = self._futures.get(key)
        if future is not None and not future.done():
            future.set_exception(error)
        return future is not None

    def refuse_all(self, error: CollabError) -> None:
        """The room ends."""
        for future in self._futures.values():
            if not future.done():
                future.set_exception(error)
