"""Which structs are known to be map entries, held against a replica that integrates them; and the rule about them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from pycrdt import merge_updates

from collab.engine.content.replica import Replica as PlainReplica
from collab.engine.entries import Entries
from collab.engine.port import Verdict
from collab.engine.replica import Replica
from collab.engine.replicas import ignore_progress
from collab.errors import MalformedMessage
from collab.protocol.yjs import scan_update
from collab.protocol.yjs_content import ANY, STRING
from tests.unit.engine.histories import circle, deleted, history, inserted, shuffled
from tests.unit.protocol.spelled import after, ident, of, section, text, update
from tests.unit.protocol.spelled import deleted as deletions
from tests.unit.protocol.test_yjs_any_bytes import steps

VALUE = b"\x01\x7e"
NAMED = bytes((0x28,)) + b"\x01\x01m" + text(b"k") + VALUE
"""A value of the key "k" in the map "m", the first."""


def follows(client: int, clock: int) -> bytes:
    """One value, after what has that id."""
    return after(client, clock, VALUE, kind=ANY)


def beside(left: tuple[int, int], right: tuple[int, int], kind: int = STRING, content: bytes = b"\x01x") -> bytes:
    return bytes((0xC0 | kind,)) + ident(*left) + ident(*right) + content


def before(client: int, clock: int, content: bytes = b"\x01x", kind: int = STRING) -> bytes:
    return bytes((0x40 | kind,)) + ident(client, clock) + content


@pytest.fixture
def replica() -> Iterator[Replica]:
    replica = Replica()
    yield replica
    replica.close()


def integrate(replica: Replica, *updates: bytes) -> list[Verdict]:
    return [outcome.verdict for outcome in replica.integrate(updates, ignore_progress).outcomes]


def held(replica: Replica) -> dict[int, list[int]]:
    return replica._integrator.entries.edges


def expand(edges: dict[int, list[int]]) -> set[tuple[int, int]]:
    """The single ids."""
    for found in edges.values():
        assert found
        assert len(found) % 2 == 0
        assert all(one < other for one, other in pairwise(found)), "begins and ends alternate and do not touch"
    return {
        (client, clock)
        for client, found in edges.items()
        for start, end in zip(found[::2], found[1::2], strict=True)
        for clock in range(start, end)
    }


def placed(replica: Replica) -> tuple[set[tuple[int, int]], set[tuple[int, int]]]:
    """Ids in map entries and ids in sequences, found by integrating; what is collected is in neither."""
    inside, outside = set(), set()
    for items in PlainReplica(replica.full_update())._items.values():
        for item in items:
            if item.parent is not None:
                ids = {(item.client, clock) for clock in range(item.clock, item.clock + item.length)}
                (outside if item.sub is None else inside).update(ids)
    return inside, outside


def agrees(replica: Replica) -> None:
    inside, outside = placed(replica)
    known = expand(held(replica))
    assert inside <= known
    assert not outside & known


@pytest.mark.parametrize("seed", range(30))
def test_e22_entries_of_honest_documents_are_known_in_any_order_live_and_loaded(seed: int, replica: Replica) -> None:
    log = history(seed, edits=60)
    any_order = shuffled(log, seed, merge_some=seed % 2 == 0)
    assert Verdict.REFUSED not in integrate(replica, *any_order)
    agrees(replica)
    assert expand(held(replica)), "there are maps in it"
    for rows in (any_order, [replica.full_update()], [merge_updates(*log)], [*log[:20], replica.full_update(), *log]):
        loaded = Replica()
        assert not loaded.load(rows, ignore_progress).refused
        agrees(loaded)
        loaded.close()


def test_a_document_without_maps_has_no_entries(replica: Replica) -> None:
    replica.load([inserted("abc")], ignore_progress)
    integrate(replica, inserted("d", clock=3), of(before(1, 0)))
    assert held(replica) == {}


def test_e22_a_row_of_values_by_two_clients_is_followed_through_both_sections(replica: Replica) -> None:
    values = 200
    nine = section(9, 0, NAMED, *(follows(8, clock) for clock in range(values)))
    eight = section(8, 0, *(follows(9, clock) for clock in range(values)))
    assert integrate(replica, update(nine, eight)) == [Verdict.INTEGRATED]
    assert held(replica) == {9: [0, values + 1], 8: [0, values]}
    assert integrate(replica, update(section(7, 0, after(8, values - 1)))) == [Verdict.REFUSED]


def test_e22_a_string_is_refused_when_the_entry_comes_later_in_the_same_update(replica: Replica) -> None:
    sections = section(9, 0, NAMED), section(8, 0, follows(9, 0)), section(7, 0, after(8, 0))
    assert integrate(replica, update(*reversed(sections))) == [Verdict.REFUSED]
    assert integrate(replica, update(*sections)) == [Verdict.REFUSED]
    assert held(replica) == {}
    assert integrate(replica, update(*sections[:2])) == [Verdict.INTEGRATED]


IN_A_MAP = {
    "text after a value": after(9, 1),
    "text beyond ASCII after a value": after(9, 1, text("ü".encode())),
    "long text after a value": after(9, 1, text(b"x" * 300)),
    "text before a value": before(9, 0),
    "text between two values": beside((9, 0), (9, 1)),
    "text after a value and before text": beside((9, 1), (1, 0)),
    "text after text and before a value": beside((1, 0), (9, 1)),
    "several values after one": after(9, 1, b"\x02\x7e\x7e", kind=ANY),
    "a value before one": before(9, 0, VALUE, kind=ANY),
    "a value between two": beside((9, 0), (9, 1), ANY, VALUE),
    "a value after one and before text": beside((9, 1), (1, 0), ANY, VALUE),
    "a value after text and before one": beside((1, 0), (9, 1), ANY, VALUE),
}


@pytest.mark.parametrize("name", IN_A_MAP)
def test_e22_what_nobody_puts_into_a_map_is_refused(name: str, replica: Replica) -> None:
    replica.load([inserted("ab"), update(section(9, 0, NAMED, follows(9, 0)))], ignore_progress)
    whole = replica.full_update()
    bad = update(section(7, 0, IN_A_MAP[name]))
    (outcome,) = replica.integrate([bad], ignore_progress).outcomes
    assert (outcome.verdict, outcome.detail) == (Verdict.REFUSED, "text in a map entry")
    assert replica.probe([bad], ignore_progress).outcomes[0] == outcome
    assert replica.full_update() == whole
    assert held(replica) == {9: [0, 2]}


@pytest.mark.parametrize(
    "struct",
    [
        follows(9, 1),
        after(9, 1, b"\x02", kind=7),
        after(9, 1, b"\x05", kind=1),
        after(1, 1),
        before(1, 0),
        beside((1, 0), (1, 1)),
        after(1, 1, b"\x02\x7e\x7e", kind=ANY),
    ],
    ids=["a value", "a type", "deleted values", "text", "text first", "text between", "values in a sequence"],
)
def test_e22_what_belongs_where_it_stands_is_integrated(struct: bytes, replica: Replica) -> None:
    replica.load([inserted("ab"), update(section(9, 0, NAMED, follows(9, 0)))], ignore_progress)
    assert integrate(replica, update(section(7, 0, struct))) == [Verdict.INTEGRATED]
    agrees(replica)


SEVERAL = {
    "named": bytes((0x28,)) + b"\x01\x01m" + text(b"k") + b"\x03\x7e\x7e\x7e",
    "following": after(9, 0, b"\x03\x7e\x7e\x7e", kind=ANY),
}


@pytest.mark.parametrize("name", SEVERAL)
@pytest.mark.parametrize(
    ("ranges", "verdict"),
    [
        ([], Verdict.REFUSED),
        ([(0, 2)], Verdict.REFUSED),
        ([(1, 2)], Verdict.REFUSED),
        ([(0, 1), (2, 1)], Verdict.REFUSED),
        ([(0, 3)], Verdict.INTEGRATED),
        ([(2, 9), (0, 1), (1, 1)], Verdict.PENDING),
    ],
)
def test_e22_several_values_are_one_entry_only_when_deleted_with_it(
    name: str, ranges: list[tuple[int, int]], verdict: Verdict, replica: Replica
) -> None:
    """So Yjs writes them when it collects nothing; deleted later is too late."""
    replica.load([update(section(9, 0, NAMED))], ignore_progress)
    data = update(section(7, 0, SEVERAL[name]), deletes=deletions((7, ranges)) if ranges else b"\x00")
    assert integrate(replica, data) == [verdict]
    assert held(replica) == {9: [0, 1]} | ({} if verdict is Verdict.REFUSED else {7: [0, 3]})
    agrees(replica)


def test_e22_known_structs_that_claim_to_be_entries_make_none(replica: Replica) -> None:
    """Or whoever sends them could keep everybody from typing there."""
    replica.load([inserted("ab"), update(section(9, 0, NAMED))], ignore_progress)
    claims = update(section(1, 0, NAMED, follows(1, 0)))
    assert integrate(replica, claims, merge_updates(claims, update(section(8, 0, follows(9, 0))))) == [
        Verdict.REDUNDANT,
        Verdict.INTEGRATED,
    ]
    assert held(replica) == {9: [0, 1], 8: [0, 1]}
    assert integrate(replica, inserted("c", clock=2)) == [Verdict.INTEGRATED]


@pytest.mark.parametrize(
    ("struct", "verdict"),
    [
        (bytes((4,)) + b"\x01\x01t" + b"\x04wxyz", Verdict.REFUSED),
        (after(1, 1, b"\x04wxyz"), Verdict.REFUSED),
        (bytes((1,)) + b"\x01\x01t" + b"\x04", Verdict.REFUSED),
        (after(1, 1, b"\x04", kind=1), Verdict.REFUSED),
        (after(9, 0, b"\x04", kind=1), Verdict.INTEGRATED),
    ],
    ids=["placed text", "text", "placed deletion", "deletion after text", "deletion after a value"],
)
def test_e22_what_overlaps_with_an_entry_stands_after_it_whatever_it_says(
    struct: bytes, verdict: Verdict, replica: Replica
) -> None:
    replica.load([inserted("ab"), update(section(9, 0, NAMED, follows(9, 0)))], ignore_progress)
    assert integrate(replica, update(section(9, 1, struct))) == [verdict]


def test_e22_an_entry_that_overlaps_with_text_is_refused(replica: Replica) -> None:
    replica.load([inserted("ab"), update(section(9, 0, NAMED))], ignore_progress)
    deletion = bytes((0x21,)) + b"\x01\x01m" + text(b"k") + b"\x04"
    assert integrate(replica, update(section(1, 0, deletion))) == [Verdict.REFUSED]
    assert integrate(replica, update(section(1, 1, after(9, 0, b"\x04", kind=1)))) == [Verdict.REFUSED]
    assert integrate(replica, inserted("c", clock=2)) == [Verdict.INTEGRATED]


def test_e22_what_waited_is_dropped_when_it_turns_out_to_be_text_in_a_map(replica: Replica) -> None:
    replica.load([], ignore_progress)
    waits = update(section(7, 0, after(9, 1)))
    assert integrate(replica, waits, update(section(7, 1, after(7, 0)))) == [Verdict.PENDING, Verdict.PENDING]
    assert integrate(replica, update(section(9, 0, NAMED, follows(9, 0)))) == [Verdict.INTEGRATED]
    assert scan_update(replica.diff(b"\x00").update).ranges == {9: [(0, 2)], 7: [(1, 2)]}, "nobody is sent it"
    assert integrate(replica, waits) == [Verdict.REFUSED]


def test_e22_of_an_update_that_is_cut_the_sound_part_stays(replica: Replica) -> None:
    replica.load([update(section(9, 0, NAMED))], ignore_progress)
    cut = update(section(7, 0, follows(9, 0), after(9, 1)))
    assert integrate(replica, cut) == [Verdict.PENDING]
    assert integrate(replica, update(section(9, 1, follows(9, 0)))) == [Verdict.INTEGRATED]
    assert held(replica) == {9: [0, 2], 7: [0, 1]}
    assert scan_update(replica.diff(b"\x00").update).ranges == {9: [(0, 2)], 7: [(0, 1)]}


def test_e22_a_cut_update_whose_complete_part_is_at_fault_is_refused_whole(replica: Replica) -> None:
    replica.load([update(section(9, 0, NAMED))], ignore_progress)
    cut = update(section(7, 0, after(9, 0)), section(6, 0, after(5, 0)))
    assert [outcome.verdict for outcome in replica.probe([cut], ignore_progress).outcomes] == [Verdict.REFUSED]
    assert integrate(replica, cut) == [Verdict.REFUSED]
    assert scan_update(replica.diff(b"\x00").update).ranges == {9: [(0, 1)]}


def test_e22_entries_that_wait_for_each_other_are_none(replica: Replica) -> None:
    replica.load([update(section(9, 0, NAMED))], ignore_progress)
    ring = update(section(8, 0, follows(7, 0), NAMED), section(7, 0, follows(8, 0)))
    assert integrate(replica, ring) == [Verdict.REFUSED]
    assert held(replica) == {9: [0, 1]}
    assert integrate(replica, inserted("ab", client=8), inserted("c", client=8, clock=2)) == [Verdict.INTEGRATED] * 2
    loaded = Replica()
    loaded.load([update(section(9, 0, NAMED)), ring], ignore_progress)
    assert held(loaded) == {9: [0, 1]}
    loaded.close()
    assert integrate(replica, merge_updates(circle(), update(section(6, 0, follows(9, 0), NAMED)))) == [Verdict.PENDING]
    assert held(replica) == {9: [0, 1], 6: [0, 2]}


def test_e22_after_a_panic_no_entry_is_left_of_what_is_not_in_the_document(replica: Replica) -> None:
    child_of_a_value = bytes((0x28,)) + b"\x00" + ident(9, 0) + text(b"k") + VALUE
    rows = [inserted("ab"), update(section(9, 0, NAMED)), update(section(8, 0, child_of_a_value))]
    assert replica.load(rows, ignore_progress).refused == (2,)
    assert held(replica) == {9: [0, 1]}


def test_cutting_forgets_what_lies_beyond() -> None:
    entries = Entries()
    entries.add({7: [0, 4, 6, 9], 8: [3, 5], 9: [1, 2]})
    entries.add({7: [9, 10, 12, 13]})
    assert entries.edges[7] == [0, 4, 6, 10, 12, 13]
    entries.cut({7: 8, 8: 3, 9: 2})
    assert entries.edges == {7: [0, 4, 6, 8], 9: [1, 2]}
    entries.cut({7: 5})
    assert entries.edges == {7: [0, 4]}
    entries.cut({})
    assert entries.edges == {}


GROWING: dict[str, Any] = {
    "two clients in turn": lambda n: update(
        section(9, 0, NAMED, *(follows(8, clock) for clock in range(n))),
        section(8, 0, *(follows(9, clock) for clock in range(n))),
    ),
    "values backwards": lambda n: update(
        *(section(client, 0, follows(client - 1, 0)) for client in range(n + 1, 1, -1)), section(1, 0, NAMED)
    ),
    "named and not named in turn": lambda n: update(section(1, 0, *[NAMED, b"\x08\x01\x01a" + VALUE] * n)),
    "text ahead": lambda n: update(
        section(9, 0, *(after(8, clock) for clock in range(n))),
        section(8, 0, *[b"\x07\x01\x01x\x01"] * n),
        section(7, 0, NAMED),
    ),
}


@pytest.mark.parametrize("shape", GROWING)
def test_eight_times_the_structs_cost_at_most_ten_times_the_work(shape: str) -> None:
    def work(data: bytes) -> int:
        scan = scan_update(data)
        return steps(lambda: Entries().brought_by(data, scan, {}))

    assert work(GROWING[shape](1_600)) <= 10 * work(GROWING[shape](200)) + 500


def test_text_ahead_of_the_entry_it_is_in_is_found_however_far() -> None:
    ahead = update(section(9, 0, after(8, 0)), *(section(c, 0, follows(c - 1, 0)) for c in range(8, 1, -1)))
    entries = Entries()
    entries.add({1: [0, 1]})
    with pytest.raises(MalformedMessage, match="text in a map entry"):
        entries.brought_by(ahead, scan_update(ahead), {1: 1})
    assert entries.brought_by(ahead, scan_update(ahead), {1: 1, 9: 1}).keys() == set(range(2, 9))


@pytest.mark.parametrize("seed", range(60))
def test_e22_hostile_structs_leave_only_single_values_in_maps(seed: int) -> None:
    """Whatever is taken, live and loaded, native code holds nothing in a map that can be cut."""
    rng = Random(seed)
    replica = Replica()
    replica.load([update(section(9, 0, NAMED, follows(9, 0))), *history(seed, edits=15)], ignore_progress)
    taken = [replica.full_update()]
    refused = 0
    for _ in range(60):
        proposed = hostile(rng, replica._integrator.known)
        (verdict,) = integrate(replica, proposed)
        refused += verdict is Verdict.REFUSED
        if verdict is Verdict.INTEGRATED:
            taken.append(proposed)
    assert refused
    agrees(replica)
    cold = Replica()
    assert cold.load(taken, ignore_progress).refused == ()
    assert held(cold) == held(replica)
    for items in PlainReplica(replica.full_update())._items.values():
        assert not any(item.sub is not None and not item.deleted and item.length > 1 for item in items)
    cold.close()
    replica.close()


def hostile(rng: Random, known: dict[int, int]) -> bytes:
    """One to three structs beside anything, or a deletion of anything."""
    ids = [(client, clock) for client, end in known.items() for clock in range(max(0, end - 30), end)]
    if rng.random() < 0.2:
        client, clock = rng.choice(ids)
        return deleted(client, clock, min(rng.randint(1, 3), known[client] - clock))
    client = rng.choice([1, 9, 20, 21])
    first = clock = known.get(client, 0)
    structs: list[bytes] = []
    for _ in range(rng.randint(1, 3)):
        length = rng.choice([1, 1, 2, 3])
        kind, content = rng.choice([(STRING, text(b"abc"[:length])), (ANY, bytes((length,)) + b"\x7e" * length)])
        structs.append(
            rng.choice(
                [
                    after(*rng.choice(ids), content, kind=kind),
                    after(*rng.choice(ids), content, kind=kind),
                    before(*rng.choice(ids), content, kind=kind),
                    beside(rng.choice(ids), rng.choice(ids), kind, content),
                    bytes((kind,)) + b"\x01\x01t" + content,
                    NAMED,
                ]
            )
        )
        clock += 1 if structs[-1] == NAMED else length
        ids.append((client, clock - 1))
    gone = deletions((client, [(first, rng.randint(1, clock - first))])) if rng.random() < 0.2 else b"\x00"
    return update(section(client, first, *structs), deletes=gone)
