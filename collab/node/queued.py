"""What waits to be committed: one item per receipt, in order, taken in batches that fit one transaction.

The recorder's queue and the documents it has set aside hold the same items; both use this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Collection, Iterable

    from collab.room import Receipt
    from collab.store.port import Appended, LogEntry

MAX_TRANSACTION_UPDATES = 5_000
MAX_TRANSACTION_BYTES = 16 * 1024 * 1024
"""Guessed: a commit of this size takes tens of milliseconds, so that an acknowledgement never waits long behind one."""

RETRY_AFTER = (0.1, 0.25, 0.5, 1.0, 2.0)
"""Seconds between attempts while the database does not answer; the last one repeats."""


class Author(Protocol):
    """A live room, as far as its recorder knows it."""

    @property
    def name(self) -> str:
        """The document."""
        ...

    def committed(self, receipt: Receipt, first_seq: int | None) -> None:
        """The receipt is in the log, its rows numbered from ``first_seq``; None when nobody knows from where."""
        ...

    def delayed(self, receipt: Receipt) -> None:
        """The commit is taking long."""
        ...

    def deleted(self) -> None:
        """The document was deleted; nothing of it was stored or ever will be."""
        ...


class Item:
    """A room's receipt and the log entries that make it saved; a receipt may have none and only mark its place."""

    __slots__ = ("entries", "receipt", "room", "size", "told_delayed")

    def __init__(self, room: Author, receipt: Receipt, entries: tuple[LogEntry, ...]) -> None:
        self.room = room
        self.receipt = receipt
        self.entries = entries
        self.size = sum(len(entry.update) for entry in entries)
        self.told_delayed = False


def retry_after(failures: int) -> float:
    """Seconds to wait after so many failed attempts in a row, at least one."""
    return RETRY_AFTER[min(failures, len(RETRY_AFTER)) - 1]


def take(queue: deque[Item]) -> list[Item]:
    """Remove from ``queue`` what the next transaction holds."""
    items: list[Item] = []
    updates = size = 0
    while queue and updates < MAX_TRANSACTION_UPDATES and size < MAX_TRANSACTION_BYTES:
        item = queue.popleft()
        items.append(item)
        updates += len(item.entries)
        size += item.size
    return items


def split(items: Iterable[Item], documents: Collection[str]) -> tuple[list[Item], list[Item]]:
    """Those of ``documents``, and the others; each in order."""
    theirs: list[Item] = []
    others: list[Item] = []
    for item in items:
        (theirs if item.room.name in documents else others).append(item)
    return theirs, others


def tell_delayed(items: Iterable[Item]) -> None:
    """Tell rooms, once per item and in order, that the commit is taking long."""
    for item in tuple(items):  # whoever is told may record something
        if not item.told_delayed:
            item.told_delayed = True
            item.room.delayed(item.receipt)


def first_seqs(items: Iterable[Item], appended: Appended) -> dict[str, int]:
    """Document -> sequence number of the first of its rows in this commit."""
    counts: dict[str, int] = {}
    for item in items:
        counts[item.room.name] = counts.get(item.room.name, 0) + len(item.entries)
    return {name: appended.last_seq[name] - count + 1 for name, count in counts.items() if name in appended.last_seq}
