"""One client's copy of a document: edited here, and fed with updates in whatever order they come.

Like stock Yjs it integrates what it can and keeps the rest until its dependency comes. pycrdt alone does not (yrs goes
wrong on updates out of order), so what waits is kept aside, by the same cut that the engine uses.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pycrdt import Doc, Map, Text, TransactionEvent, merge_updates

from collab.engine.clocks import covered, first_blocker, is_known
from collab.engine.split import split_update
from collab.protocol.yjs import EMPTY_UPDATE, UpdateScan, scan_update

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXTS = ("body", "title")
MAP = "fields"


class Replica:
    """A document with two texts and a map."""

    def __init__(self, client_id: int = 1) -> None:
        self.client_id = client_id
        self._doc: Doc[Any] = Doc(client_id=client_id)
        self.texts = {name: self._doc.get(name, type=Text) for name in TEXTS}
        self.fields = self._doc.get(MAP, type=Map)
        self.known: dict[int, int] = {}
        """Client -> next expected clock."""
        self._waiting: list[bytes] = []
        self._deleted: dict[int, list[tuple[int, int]]] | None = None

    def waits(self, *, without: Collection[int] = ()) -> bool:
        """Whether updates wait for a dependency; those only the clients ``without`` made do not count."""
        return any(not scan_update(update).ranges.keys() <= set(without) for update in self._waiting)

    def edit(self, change: Callable[[], None]) -> bytes | None:
        """Run ``change`` in one transaction; the update it makes, or None when it changes nothing."""
        with self._watched() as written, self._doc.transaction():
            change()
        if not written or written[0] == EMPTY_UPDATE:
            return None
        self._learn(scan_update(written[0]))
        return written[0]

    @contextmanager
    def _watched(self) -> Iterator[list[bytes]]:
        written: list[bytes] = []

        def keep(event: TransactionEvent) -> None:
            written.append(event.update)

        subscription = self._doc.observe(keep)
        try:
            yield written
        finally:
            self._doc.unobserve(subscription)

    def take(self, update: bytes, scan: UpdateScan | None = None) -> None:
        """Integrate ``update`` as far as possible, and whatever waited for it."""
        todo = deque([(update, scan or scan_update(update))])
        while todo:
            update, scan = todo.popleft()
            if first_blocker(scan, self.known) is not None:
                split = split_update(update, scan, self.known)
                if split.rest is not None:
                    self._waiting.append(split.rest)
                if split.ready is None:
                    continue
                update, scan = split.ready, scan_update(split.ready)
            self._doc.apply_update(update)
            if self._learn(scan) and self._waiting:
                todo.extend((waiting, scan_update(waiting)) for waiting in self._waiting)
                self._waiting.clear()

    def _learn(self, scan: UpdateScan) -> bool:
        self._deleted = None
        moved = False
        for client, ranges in scan.ranges.items():
            if ranges[-1][1] > self.known.get(client, 0):
                self.known[client] = ranges[-1][1]
                moved = True
        return moved

    def state_vector(self) -> bytes:
        """What it has integrated, encoded."""
        return self._doc.get_state()

    def lacking(self, state_vector: bytes) -> bytes:
        """What a replica with ``state_vector`` lacks, what waits here included, as Yjs answers a SyncStep1."""
        update = self._doc.get_update(state_vector)
        return merge_updates(update, *self._waiting) if self._waiting else update

    def holds(self, scan: UpdateScan) -> bool:
        """Whether all structs of an update are integrated and all that it deletes is deleted."""
        if not is_known(scan, self.known):
            return False
        deleted = self.deleted() if scan.deletes else {}
        return all(
            covered(start, end, deleted.get(client, []))
            for client, ranges in scan.deletes.items()
            for start, end in ranges
        )

    def deleted(self) -> dict[int, list[tuple[int, int]]]:
        """Client -> ranges that are deleted."""
        if self._deleted is None:
            self._deleted = scan_update(self._doc.get_update(self._doc.get_state())).deletes
        return self._deleted

    def content(self) -> tuple[tuple[str, str], ...]:
        """Everything a reader sees."""
        read = [(name, str(text)) for name, text in self.texts.items()]
        read += sorted((f"{MAP}.{key}", str(self.fields[key])) for key in self.fields)
        return tuple(read)


def loaded(updates: list[bytes]) -> Replica:
    """A replica built cold: everything merged, then applied at once."""
    replica = Replica()
    if updates:
        replica.take(merge_updates(*updates) if len(updates) > 1 else updates[0])
    return replica


def contains(whole: UpdateScan, part: UpdateScan) -> bool:
    """Whether every struct and deletion of ``part`` is in ``whole``."""
    return all(
        covered(start, end, whole.ranges.get(client, []))
        for client, ranges in part.ranges.items()
        for start, end in ranges
    ) and all(
        covered(start, end, whole.deletes.get(client, []))
        for client, ranges in part.deletes.items()
        for start, end in ranges
    )
