"""Cutting an update at what is known: nothing lost, nothing doubled, and the ready part really is ready."""

from __future__ import annotations

from random import Random

import pytest
from pycrdt import Doc, Text, merge_updates

from collab.engine.clocks import first_blocker, merge_order
from collab.engine.split import split_update, without
from collab.protocol.yjs import join, read_state_vector, scan_update
from tests.unit.engine.histories import circle, deleted, history, inserted, shuffled, typed


def test_an_update_that_is_complete_is_all_ready() -> None:
    update = merge_updates(*history(1))
    split = split_update(update, scan_update(update), {})
    assert (split.ready, split.rest, split.blockers) == (update, None, ())


def test_what_follows_a_gap_is_the_rest() -> None:
    _, second, _, fourth = typed(4)
    update = merge_updates(second, fourth)
    split = split_update(update, scan_update(update), {1: 1})
    assert split.ready == second
    assert split.rest is not None
    assert scan_update(split.rest).ranges == {1: [(3, 4)]}
    assert split.blockers == ((1, 3),)


def test_deletions_are_cut_where_knowledge_ends() -> None:
    update = deleted(1, 2, 5)
    split = split_update(update, scan_update(update), {1: 4})
    assert split.ready == deleted(1, 2, 2)
    assert split.rest == deleted(1, 4, 3)
    assert split.blockers == ((1, 5),)


def test_a_struct_waits_for_another_clients_struct() -> None:
    update = b"\x01\x01\x02\x00\x84\x01\x03\x01x\x00"  # client 2, right of client 1's clock 3
    split = split_update(update, scan_update(update), {1: 3})
    assert (split.ready, split.rest, split.blockers) == (None, update, ((1, 4),))
    assert split_update(update, scan_update(update), {1: 4}).ready == update


def test_a_circle_is_never_ready() -> None:
    update = merge_updates(circle(), inserted("x", client=7))
    split = split_update(update, scan_update(update), {})
    assert split.ready is not None
    assert scan_update(split.ready).ranges == {7: [(0, 1)]}


@pytest.mark.parametrize("seed", range(40))
def test_the_ready_part_integrates_completely_and_with_the_rest_makes_the_whole(seed: int) -> None:
    log = history(seed, edits=60)
    rng = Random(seed)
    doc: Doc[Text] = Doc()
    doc.apply_update(merge_updates(*log[: rng.randint(0, len(log) - 1)]))
    known = read_state_vector(doc.get_state())
    update = merge_updates(*shuffled(log, seed)[: rng.randint(1, len(log))])
    scan = scan_update(update)
    split = split_update(update, scan, known)
    assert (split.rest is None) == (first_blocker(scan, known) is None)
    assert (split.rest is None) == (not split.blockers)
    parts = [part for part in (split.ready, split.rest) if part is not None]
    assert scan_update(merge_updates(*parts)) == scan_update(merge_updates(update))
    if split.ready is not None:
        doc.apply_update(split.ready)
        arrived = read_state_vector(doc.get_state())
        ready = scan_update(split.ready)
        assert all(ranges[-1][1] <= arrived[client] for client, ranges in ready.ranges.items())
        assert all(arrived.get(client, 0) < clock for client, clock in split.blockers)


@pytest.mark.parametrize("seed", range(20))
def test_an_order_is_found_for_everything_but_what_lacks_something(seed: int) -> None:
    log = shuffled(history(seed), seed)
    lost = Random(seed).randrange(len(log))
    scans = {index: scan_update(update) for index, update in enumerate(log) if index != lost}
    order, blocked = merge_order(scans)
    assert sorted([*order, *blocked]) == sorted(scans)
    doc: Doc[Text] = Doc()
    for index in order:
        doc.apply_update(log[index])
    known = read_state_vector(doc.get_state())
    assert all(first_blocker(scans[index], known) is None for index in order)
    assert all(first_blocker(scans[index], known) is not None for index in blocked)


@pytest.mark.parametrize("seed", range(40))
def test_with_what_is_held_what_is_without_it_makes_the_whole(seed: int) -> None:
    log = history(seed, edits=60)
    rng = Random(seed)
    held = rng.sample(log, 20)
    ranges: dict[int, list[tuple[int, int]]] = {}
    for update in held:
        for client, spans in scan_update(update).ranges.items():
            ranges.setdefault(client, []).extend(spans)
    whole = merge_updates(*log)
    pieces = without(whole, scan_update(whole), lambda client: join(ranges.get(client, ())))
    assert sum(map(len, pieces)) < len(whole)
    one: Doc[Text] = Doc()
    other: Doc[Text] = Doc()
    one.apply_update(whole)
    other.apply_update(merge_updates(*held, *pieces))
    assert one.get_update() == other.get_update()
    rest = without(merge_updates(*held), scan_update(merge_updates(*held)), lambda client: join(ranges.get(client, ())))
    assert not any(scan_update(piece).ranges for piece in rest)
