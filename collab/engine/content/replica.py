"""A read-only replica in plain Python: the structs of one update, integrated, in document order with their ids.

Rendering needs the order, and a forward change (`revert.py`) needs the ids that pycrdt does not show. The integration
is YATA as Yjs 13 does it (Nicolaescu et al., "Near Real-Time Peer-to-Peer Shared Editing on Extensible Data Types").
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Any, cast

from collab.engine.content.wire import (
    ANY,
    DELETED,
    GC,
    JSON,
    SKIP,
    STRING,
    TYPE,
    Id,
    Struct,
    decode,
)
from collab.errors import InvalidContent


class Shared:
    """A shared type: a root (``kind`` is None, the wire does not say) or the content of an item."""

    __slots__ = ("entries", "kind", "name", "place", "start")

    def __init__(self, place: str | Id, kind: int | None, name: str = "") -> None:
        self.place = place
        self.kind = kind
        self.name = name
        self.start: Struct | None = None
        self.entries: dict[str, Struct] = {}


class Replica:
    """The roots of one update and everything under them; nothing of it changes after construction.

    ``update`` must be self-contained (a folded document). Raises `InvalidContent` when it is not.
    """

    def __init__(self, update: bytes) -> None:
        structs, deletes = decode(update)
        self.roots: dict[str, Shared] = {}
        self.clients: frozenset[int] = frozenset(entry.client for entry in structs) | frozenset(deletes)
        self._items: dict[int, list[Struct]] = {}
        self._clocks: dict[int, list[int]] = {}
        self._integrate_all(structs)
        for client, ranges in deletes.items():
            for clock, length in ranges:
                self._delete(client, clock, clock + length)

    def state(self) -> list[Id]:
        """The state vector: every client with the clock it reached, in order."""
        return sorted((client, self._state(client)) for client in self._items)

    def _integrate_all(self, structs: list[Struct]) -> None:
        queues: dict[int, list[Struct]] = {}
        for entry in structs:
            if entry.ref != SKIP:
                queues.setdefault(entry.client, []).append(entry)
        taken = dict.fromkeys(queues, 0)
        for first in queues:
            # Who waits for whom: (client, clock it must reach). Each goes only as far as is needed, because what comes
            # later may wait for those below it.
            stack: list[Id] = [(first, self._end(queues[first]))]
            while stack:
                client, until = stack[-1]
                if self._state(client) >= until:
                    stack.pop()
                    continue
                entry = queues[client][taken[client]]
                missing = self._missing(entry)
                if missing is None:
                    self._integrate(entry)
                    taken[client] += 1
                elif any(missing[0] == waiting for waiting, _ in stack) or missing[1] >= self._end(
                    queues.get(missing[0], [])
                ):
                    raise InvalidContent("the document refers to content it does not hold")
                else:
                    stack.append((missing[0], missing[1] + 1))

    @staticmethod
    def _end(queue: list[Struct]) -> int:
        return queue[-1].clock + queue[-1].length if queue else 0

    def _missing(self, entry: Struct) -> Id | None:
        """A unit of another client this struct still waits for, or None."""
        for needed in (entry.origin, entry.right_origin, entry.place):
            if isinstance(needed, tuple) and needed[0] != entry.client and needed[1] >= self._state(needed[0]):
                return needed
        return None

    def _state(self, client: int) -> int:
        items = self._items.get(client)
        return items[-1].clock + items[-1].length if items else 0

    def _find(self, identifier: Id) -> Struct:
        client, clock = identifier
        items = self._items.get(client)
        index = bisect_right(self._clocks[client], clock) - 1 if items else -1
        if not items or index < 0 or clock >= items[index].clock + items[index].length:
            raise InvalidContent("the document refers to content it does not hold")
        return items[index]

    def _ending_at(self, identifier: Id) -> Struct:
        item = self._find(identifier)
        if identifier[1] != item.clock + item.length - 1:
            self._split(item, identifier[1] + 1 - item.clock)
        return item

    def _starting_at(self, identifier: Id) -> Struct:
        item = self._find(identifier)
        return item if identifier[1] == item.clock else self._split(item, identifier[1] - item.clock)

    def _split(self, item: Struct, offset: int) -> Struct:
        """Cut ``item`` after ``offset`` units; returns the right part."""
        left, right = _cut(item, offset)
        start = item.clock + offset
        rest = Struct(item.client, start, item.ref, (item.client, start - 1), item.right_origin)
        rest.length, rest.sub, rest.content = item.length - offset, item.sub, right
        rest.deleted, rest.parent = item.deleted, item.parent
        rest.left, rest.right = item, item.right
        if rest.right is not None:
            rest.right.left = rest
        elif rest.sub is not None and rest.parent is not None:
            rest.parent.entries[rest.sub] = rest
        item.right, item.length, item.content = rest, offset, left
        index = bisect_right(self._clocks[item.client], item.clock)
        self._items[item.client].insert(index, rest)
        self._clocks[item.client].insert(index, rest.clock)
        return rest

    def _register(self, item: Struct) -> None:
        if item.clock != self._state(item.client):
            raise InvalidContent("the document has a gap in its history")
        self._items.setdefault(item.client, []).append(item)
        self._clocks.setdefault(item.client, []).append(item.clock)

    def _integrate(self, item: Struct) -> None:
        left = self._ending_at(item.origin) if item.origin else None
        right = self._starting_at(item.right_origin) if item.right_origin else None
        self._register(item)
        parent = self._parent(item, left, right)
        if parent is None:  # a collected parent, or a collected struct: nothing of it can be seen
            item.deleted = True
            return
        item.parent = parent
        if item.ref == TYPE:
            item.content = Shared((item.client, item.clock), *item.content)
        left = self._leftmost(item, left, right, parent)
        item.left = left
        if left is not None:
            item.right, left.right = left.right, item
        elif item.sub is not None:
            item.right = _first(parent.entries.get(item.sub))
        else:
            item.right, parent.start = parent.start, item
        if item.right is not None:
            item.right.left = item
        if item.sub is not None:
            if item.right is None:
                parent.entries[item.sub] = item
                if left is not None:
                    left.deleted = True
            else:
                item.deleted = True

    def _parent(self, item: Struct, left: Struct | None, right: Struct | None) -> Shared | None:
        if item.ref == GC:
            return None
        near = left or right
        if near is not None:
            item.sub = near.sub
            # Beside a collected struct there is nothing to stand in, whatever the other side says.
            return None if right is not None and right.parent is None else cast("Shared | None", near.parent)
        place = item.place
        if isinstance(place, str):
            return self.roots.setdefault(place, Shared(place, None))
        if place is None:
            raise InvalidContent("the document holds content without a place")
        holder = self._find(place)
        return holder.content if isinstance(holder.content, Shared) else None

    def _leftmost(self, item: Struct, left: Struct | None, right: Struct | None, parent: Shared) -> Struct | None:
        """The item that ``item`` stands right of, after YATA decided among concurrent insertions."""
        if left is None:
            if right is not None and right.left is None:
                return None
            other = _first(parent.entries.get(item.sub)) if item.sub is not None else parent.start
        elif left.right is right:
            return left
        else:
            other = left.right
        conflicting: set[Struct] = set()
        before: set[Struct] = set()
        while other is not None and other is not right:
            before.add(other)
            conflicting.add(other)
            if item.origin == other.origin:
                if other.client < item.client:
                    left = other
                    conflicting.clear()
                elif item.right_origin == other.right_origin:
                    break
            elif other.origin is not None and (source := self._find(other.origin)) in before:
                if source not in conflicting:
                    left = other
                    conflicting.clear()
            else:
                break
            other = other.right
        return left

    def _delete(self, client: int, start: int, end: int) -> None:
        end = min(end, self._state(client))
        while start < end:
            item = self._find((client, start))
            if not item.deleted:
                item = self._starting_at((client, start))
                if item.clock + item.length > end:
                    self._split(item, end - item.clock)
                item.deleted = True
            start = item.clock + item.length


def _first(item: Struct | None) -> Struct | None:
    while item is not None and item.left is not None:
        item = item.left
    return item


def _cut(item: Struct, offset: int) -> tuple[Any, Any]:
    if item.ref in (ANY, JSON):
        return item.content[:offset], item.content[offset:]
    if item.ref == STRING:
        data = item.content.encode("utf-16-le")
        # A pair cut in two leaves U+FFFD on both sides, as in Yjs.
        return data[: offset * 2].decode("utf-16-le", "replace"), data[offset * 2 :].decode("utf-16-le", "replace")
    if item.ref in (DELETED, GC):
        return None, None
    raise InvalidContent("the document refers to the inside of one unit")
