"""Updates that wait for others: kept outside the document, bounded, found again by what they wait for.

A parked update inside a yrs document slows down every later one and is invisible from outside (measured: 600 KB of
deletions for unknown clients make a keystroke cost 7.3 ms instead of 2 us), so a replica keeps them here.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter

from collab.engine.clocks import Blocker, covered
from collab.protocol.yjs import Range, UpdateScan, join

MAX_WAITING_BYTES = 256 * 1024
"""Per document. An honest client leaves kilobytes at most, for the moment a resync takes."""

MAX_WAITING_UPDATES = 1_000
"""Per document."""

_start = itemgetter(0)


@dataclass(eq=False, slots=True)
class Parked:
    """One update, or the part of it that is not integrated yet."""

    update: bytes
    scan: UpdateScan
    blockers: tuple[Blocker, ...]
    """Empty when it will never integrate: its structs wait for each other."""


@dataclass(slots=True)
class Waiting:
    """All parked updates of one document."""

    parked: dict[Parked, None] = field(default_factory=dict)
    bytes: int = 0
    _waiting_for: dict[int, dict[Parked, None]] = field(default_factory=dict)
    """Client -> those that wait for something of it."""
    _holding: dict[int, dict[Parked, None]] = field(default_factory=dict)
    """Client -> those that hold structs of it: asked for every keystroke while anything is parked."""
    _structs: dict[int, list[Range]] = field(default_factory=dict)
    """Client -> what `ranges` gives, where it was asked for since it changed."""

    def __len__(self) -> int:
        """Count the parked updates."""
        return len(self.parked)

    def __iter__(self) -> Iterator[Parked]:
        """Oldest first."""
        return iter(self.parked)

    def has_room_for(self, size: int) -> bool:
        """Whether one more update of ``size`` bytes stays within the budget."""
        return self.bytes + size <= MAX_WAITING_BYTES and len(self.parked) < MAX_WAITING_UPDATES

    def add(self, entry: Parked) -> None:
        """Park ``entry``; the caller has asked `has_room_for`."""
        self.parked[entry] = None
        self.bytes += len(entry.update)
        for client, _ in entry.blockers:
            self._waiting_for.setdefault(client, {})[entry] = None
        for client in entry.scan.ranges:
            self._holding.setdefault(client, {})[entry] = None
            self._structs.pop(client, None)

    def take_ready(self, clients: Iterable[int], known: Mapping[int, int]) -> list[Parked]:
        """Remove and return those that make progress now that the clocks of ``clients`` have moved to ``known``."""
        ready: dict[Parked, None] = {}
        for client in clients:
            clock = known.get(client, 0)
            for entry in self._waiting_for.get(client, ()):
                if any(other == client and needed <= clock for other, needed in entry.blockers):
                    ready[entry] = None
        for entry in ready:
            self._remove(entry)
        return list(ready)

    def _remove(self, entry: Parked) -> None:
        del self.parked[entry]
        self.bytes -= len(entry.update)
        for client, _ in entry.blockers:
            _drop(self._waiting_for, client, entry)
        for client in entry.scan.ranges:
            _drop(self._holding, client, entry)
            self._structs.pop(client, None)

    def ranges(self, client: int) -> list[Range]:
        """The stretches of a client's structs that are parked, in order, none touching another."""
        joined = self._structs.get(client)
        if joined is None:
            holding = self._holding.get(client)
            if not holding:
                return []
            joined = join(span for entry in holding for span in entry.scan.ranges[client])
            self._structs[client] = joined
        return joined

    def holds_some(self, client: int, start: int, end: int) -> bool:
        """Whether a struct of that stretch is parked already."""
        ranges = self.ranges(client)
        after = bisect_left(ranges, end, key=_start)
        return after > 0 and ranges[after - 1][1] > start

    def holds(self, scan: UpdateScan, known: Mapping[int, int]) -> bool:
        """Whether every struct and deletion of ``scan`` is known or parked already."""
        if not self.holds_structs(scan, known):
            return False
        if not scan.deletes:
            return True
        deletes: dict[int, list[Range]] = {client: [] for client in scan.deletes}
        for entry in self.parked:
            for client in entry.scan.deletes.keys() & deletes.keys():
                deletes[client] += entry.scan.deletes[client]
        return all(_all_covered(ranges, join(deletes[client])) for client, ranges in scan.deletes.items())

    def holds_structs(self, scan: UpdateScan, known: Mapping[int, int]) -> bool:
        """Whether every struct of ``scan`` is known or parked already."""
        return all(
            _all_covered(ranges, join([(0, known.get(client, 0)), *self.ranges(client)]))
            for client, ranges in scan.ranges.items()
        )


def _all_covered(ranges: Iterable[Range], joined: Sequence[Range]) -> bool:
    return all(covered(start, end, joined) for start, end in ranges)


def _drop(index: dict[int, dict[Parked, None]], client: int, entry: Parked) -> None:
    entries = index.get(client)
    if entries is not None and entry in entries:
        del entries[entry]
        if not entries:
            del index[client]
