"""What is parked, told quickly: against the slow way of telling it."""

from __future__ import annotations

from itertools import chain, pairwise

import hypothesis.strategies as st
from hypothesis import given

from collab.engine.clocks import covered
from collab.engine.waiting import Parked, Waiting
from collab.protocol.yjs import Range, join, scan_update
from tests.unit.engine.histories import deleted, inserted

CLIENTS, MOST = 2, 12
RANGES = st.lists(
    st.tuples(st.integers(0, CLIENTS - 1), st.integers(0, MOST), st.integers(1, 4), st.booleans()), max_size=8
)


def clocks(ranges: list[Range]) -> set[int]:
    return set(chain.from_iterable(range(*span) for span in ranges))


def parked(ranges: list[tuple[int, int, int, bool]]) -> Waiting:
    waiting = Waiting()
    for client, clock, length, erases in ranges:
        update = deleted(client, clock, length) if erases else inserted("x" * length, client=client, clock=clock)
        waiting.add(Parked(update, scan_update(update), ((client, clock),)))
    return waiting


@given(st.lists(st.tuples(st.integers(0, MOST), st.integers(0, MOST)).filter(lambda span: span[0] < span[1])))
def test_joined_spans_hold_the_same_clocks_and_do_not_touch(spans: list[Range]) -> None:
    joined = join(spans)
    assert clocks(joined) == clocks(spans)
    assert all(before[1] < after[0] for before, after in pairwise(joined))
    for start in range(MOST):
        for end in range(start, MOST):
            assert covered(start, end, joined) == (set(range(start, end)) <= clocks(spans))


@given(RANGES, RANGES, st.lists(st.integers(0, MOST), min_size=CLIENTS, max_size=CLIENTS))
def test_e7_what_waits_is_told_as_clock_by_clock(
    waits: list[tuple[int, int, int, bool]], asked: list[tuple[int, int, int, bool]], known: list[int]
) -> None:
    waiting, knows = parked(waits), dict(enumerate(known))
    structs = [
        clocks([(clock, clock + length) for client, clock, length, erases in waits if client == one and not erases])
        for one in range(CLIENTS)
    ]
    erased = [
        clocks([(clock, clock + length) for client, clock, length, erases in waits if client == one and erases])
        for one in range(CLIENTS)
    ]
    for client, clock, length, erases in asked:
        span = set(range(clock, clock + length))
        assert waiting.holds_some(client, clock, clock + length) == bool(span & structs[client])
        update = deleted(client, clock, length) if erases else inserted("x" * length, client=client, clock=clock)
        held = span <= erased[client] if erases else span <= structs[client] | set(range(known[client]))
        assert waiting.holds(scan_update(update), knows) == held


def test_e7_what_was_taken_is_not_held_any_more() -> None:
    waiting = parked([(0, 3, 2, False), (0, 5, 1, False)])
    assert waiting.ranges(0) == [(3, 6)]
    (ready,) = waiting.take_ready([0], {0: 3})
    assert ready.scan.ranges == {0: [(3, 5)]}
    assert waiting.ranges(0) == [(5, 6)]
    assert waiting.ranges(1) == []
