"""Which structs of a document are entries of maps (attributes are, too), and what must not be put into one (SPEC E22).

All values a key ever had stand in one row, of which the last counts and the others are deleted. A struct that names
its key is in that row, and so is whatever names no place and stands after one that is. Whoever writes maps writes one
value at a time, so what counts cannot be cut. A string, or several values, can, and then a piece stays behind that
nobody deletes: stock Yjs throws when the map goes, yrs panics or never returns (measured: 13.6.33, 0.28). Values that
are deleted together may be together: Yjs writes them so when it collects nothing.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

from collab.errors import MalformedMessage
from collab.protocol.yjs_content import ANY, MAX_CLOCK, STRING
from collab.protocol.yjs_origins import HAS_KEY, KIND, Id, read_origins

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from collab.protocol.yjs import UpdateScan

TEXT_IN_ENTRY = "text in a map entry"
"""What the sender is told, also when it was several values: nobody honest will ever read it."""

Edges = dict[int, list[int]]
"""Client -> clocks at which entries begin and end, in turn."""


class Entries:
    """Of one document."""

    def __init__(self) -> None:
        self.edges: Edges = {}
        """Empty for most documents that are plain text: they pay one look."""

    def holds(self, ids: Iterable[Id]) -> bool:
        """Whether one of ``ids`` is in a map entry."""
        for client, clock in ids:
            found = self.edges.get(client)
            if found is not None and bisect_right(found, clock) % 2:
                return True
        return False

    def brought_by(self, update: bytes, scan: UpdateScan, known: Mapping[int, int]) -> Edges | None:
        """Return the entries that ``update`` adds to the document, which knows ``known`` and all that it needs.

        Raises `MalformedMessage` when it puts into a map entry what has no place there. Structs that are known are not
        looked at: nothing becomes of them.
        """
        if not (self.edges or scan.entries) or not scan.ranges:
            return None
        if scan.beside is None:
            return _Reading(self.edges, scan, known).read(update)
        for client, spans in scan.ranges.items():
            clock, end = spans[0]
            reach = known.get(client, 0)
            if end > reach and (self.holds(scan.beside) or (clock < reach and self.holds([(client, reach - 1)]))):
                raise MalformedMessage(TEXT_IN_ENTRY)
        return None

    def add(self, brought: Edges | None) -> None:
        """Take in what `brought_by` returned, now that the update is in the document."""
        for client, edges in brought.items() if brought else ():
            held = self.edges.get(client)
            if held is None:
                self.edges[client] = edges
            else:
                if held[-1] == edges[0]:
                    held.pop()
                    del edges[0]
                held += edges

    def cut(self, known: Mapping[int, int]) -> None:
        """Forget what is not in the document any more, which knows ``known``."""
        for client, edges in list(self.edges.items()):
            clock = known.get(client, 0)
            if edges[-1] > clock:
                place = bisect_left(edges, clock)
                edges[place:] = [clock] if place % 2 else []
                if not edges:
                    del self.edges[client]


class _Reading:
    """One update. Most of its structs follow one that was read before; some, one that comes in a later section."""

    def __init__(self, held: Edges, scan: UpdateScan, known: Mapping[int, int]) -> None:
        self._held = held
        self._scan = scan
        self._known = known
        self._brought: Edges = {}
        self._read: set[int] = set()
        """Clients whose sections have been begun."""
        self._followers: dict[int, tuple[list[int], list[_Follower]]] = {}
        """Client -> structs that are in an entry if what they follow is, by where they begin."""
        self._outside: list[Id] = []
        """What must not be in an entry, where that was not known yet."""
        self._resumed: list[Id] = []
        """From where on a struct is new of which the document knows the beginning. Whatever the struct says, this will
        stand after what is known."""

    def read(self, update: bytes) -> Edges:
        """Return the new entries. Raises `MalformedMessage`."""
        known = self._known
        text_client = text_start = text_end = 0  # what was read last, if it can be in no entry
        for client, clock, end, info, left, right in read_origins(update):
            self._read.add(client)
            start = known.get(client, 0)
            if end <= start:
                continue
            if clock < start:
                self._resumed.append((client, start))
            else:
                start = clock
            kind = info & KIND
            fits = kind != STRING and (kind != ANY or end - clock == 1 or self._is_deleted(client, start, end))
            if left:
                if left[0] != text_client or not text_start <= left[1] < text_end:
                    if fits and not right:
                        self._follow(client, start, end, left)
                    else:
                        self._keep_out(left)
            elif not right and info & HAS_KEY:
                if not fits:
                    raise MalformedMessage("several values in a map entry")
                self._bring(client, start, end)
            if right:
                self._keep_out(right)
            if not fits:
                text_client, text_start, text_end = client, start, end
        if self._outside or self._resumed:
            self._settle()
        if self._followers:
            self._bring_followers()
        return self._brought

    def _is_deleted(self, client: int, start: int, end: int) -> bool:
        ranges = self._scan.deletes.get(client, [])
        place = bisect_right(ranges, (start, MAX_CLOCK)) - 1
        return place >= 0 and ranges[place][1] >= end

    def _bring(self, client: int, start: int, end: int) -> None:
        edges = self._brought.get(client)
        if edges is None:
            self._brought[client] = [start, end]
        elif edges[-1] == start:
            edges[-1] = end
        else:
            edges += (start, end)

    def _follow(self, client: int, start: int, end: int, left: Id) -> None:
        entry = self._decided(left)
        if entry is None:
            starts, followers = self._followers.setdefault(client, ([], []))
            starts.append(start)
            followers.append(_Follower(start, end, left))
        elif entry:
            self._bring(client, start, end)

    def _keep_out(self, beside: Id) -> None:
        entry = self._decided(beside)
        if entry is None:
            self._outside.append(beside)
        elif entry:
            raise MalformedMessage(TEXT_IN_ENTRY)

    def _decided(self, one: Id) -> bool | None:
        """Whether ``one`` is in an entry, if what was read so far tells."""
        client, clock = one
        if clock < self._known.get(client, 0):
            return _within(self._held, client, clock)
        if _within(self._brought, client, clock):
            return True
        if client in self._read and client not in self._followers:
            return False
        return None

    def _settle(self) -> None:
        if any(map(self._is_entry, self._outside)):
            raise MalformedMessage(TEXT_IN_ENTRY)
        for client, clock in self._resumed:
            if self._is_entry((client, clock - 1)) != self._is_entry((client, clock)):
                raise MalformedMessage(TEXT_IN_ENTRY)

    def _is_entry(self, one: Id) -> bool:
        """Whether ``one`` is in an entry, now that everything was read."""
        found = self._look_up(one)
        if isinstance(found, bool):
            return found
        path: list[_Follower] = []
        while not isinstance(found, bool):
            found.entry = False  # until it is known: those that follow each other in a circle are nowhere
            path.append(found)
            found = self._look_up(found.left)
        for follower in path:
            follower.entry = found
        return found

    def _look_up(self, one: Id) -> bool | _Follower:
        """Whether ``one`` is in an entry, or the struct to ask next."""
        client, clock = one
        if clock < self._known.get(client, 0):
            return _within(self._held, client, clock)
        if _within(self._brought, client, clock):
            return True
        starts, followers = self._followers.get(client, ((), ()))
        place = bisect_right(starts, clock) - 1
        if place < 0 or clock >= followers[place].end:
            return False
        follower = followers[place]
        return follower if follower.entry is None else follower.entry

    def _bring_followers(self) -> None:
        for client, (_, followers) in self._followers.items():
            spans = [(one.start, one.end) for one in followers if self._is_entry((client, one.start))]
            edges = self._brought.pop(client, [])
            spans += zip(edges[::2], edges[1::2], strict=True)
            for start, end in sorted(spans):
                self._bring(client, start, end)


class _Follower:
    __slots__ = ("end", "entry", "left", "start")

    def __init__(self, start: int, end: int, left: Id) -> None:
        self.start = start
        self.end = end
        self.left = left
        self.entry: bool | None = None


def _within(edges: Edges, client: int, clock: int) -> bool:
    found = edges.get(client)
    return found is not None and bisect_right(found, clock) % 2 == 1
