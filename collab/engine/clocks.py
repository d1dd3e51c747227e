"""Arithmetic on clocks and ranges of clocks: what is known, what is covered, what can be integrated in which order."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter

from collab.protocol.yjs import Range, UpdateScan

_start = itemgetter(0)

Blocker = tuple[int, int]
"""``(client, clock)``: something waits until that client's clock is known that far (exclusive)."""


def is_known(scan: UpdateScan, known: Mapping[int, int]) -> bool:
    """Whether all structs are known, and all that is deleted is known (not: known to be deleted)."""
    return all(ranges[-1][1] <= known.get(client, 0) for client, ranges in scan.ranges.items()) and all(
        ranges[-1][1] <= known.get(client, 0) for client, ranges in scan.deletes.items()
    )


def first_blocker(scan: UpdateScan, known: Mapping[int, int]) -> Blocker | None:
    """Return something ``scan``'s update waits for, or None when all of it can be integrated over ``known``.

    Structs that wait for each other in a circle are not seen here: see `may_be_circular`.
    """
    reach: dict[int, int] = {}
    for client, ranges in scan.ranges.items():
        clock = known.get(client, 0)
        for start, end in ranges:
            if start > clock:
                return client, start
            clock = max(clock, end)
        reach[client] = clock
    for client, clock in scan.needs.items():
        if clock > known.get(client, 0) and clock > reach.get(client, 0):
            return client, clock
    for client, ranges in scan.deletes.items():
        clock = ranges[-1][1]
        if clock > known.get(client, 0) and clock > reach.get(client, 0):
            return client, clock
    return None


def may_be_circular(scan: UpdateScan, known: Mapping[int, int]) -> bool:
    """Whether structs of several clients in one update need each other, so that they might do so in a circle."""
    return any(clock > known.get(client, 0) for client, clock in scan.needs.items())


def merge_order(
    scans: Mapping[int, UpdateScan], refuses: Callable[[int, Mapping[int, int]], bool] | None = None
) -> tuple[list[int], list[int]]:
    """Sort updates, given by their scans, into those that make up a document and those that wait for something.

    The first list is in an order in which each could be integrated; it is found without touching a document.
    ``refuses`` is asked in that order, with the clocks known by then; what it refuses is in neither list.
    """
    known: dict[int, int] = {}
    order: list[int] = []
    stuck: dict[int, list[tuple[int, int]]] = {}
    todo = deque(scans)
    while todo:
        index = todo.popleft()
        scan = scans[index]
        blocker = first_blocker(scan, known)
        if blocker is not None:
            stuck.setdefault(blocker[0], []).append((blocker[1], index))
            continue
        if refuses is not None and refuses(index, known):
            continue
        order.append(index)
        for client, ranges in scan.ranges.items():
            clock = known[client] = max(known.get(client, 0), ranges[-1][1])
            if client in stuck:
                todo.extendleft(other for needed, other in stuck[client] if needed <= clock)
                stuck[client] = [pair for pair in stuck[client] if pair[0] > clock]
    return order, sorted(index for pairs in stuck.values() for _, index in pairs)


def covered(start: int, end: int, joined: Sequence[Range]) -> bool:
    """Whether one of ``joined`` (see `collab.protocol.yjs.join`) holds every clock from ``start`` up to ``end``."""
    after = bisect_right(joined, start, key=_start)
    return start >= end or (after > 0 and joined[after - 1][1] >= end)
