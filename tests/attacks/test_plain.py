"""A few thousand hostile plain updates to yrs and stock Yjs; the long version is `python -m tests.attacks.plain`."""

from __future__ import annotations

from random import Random

import pytest

from collab.protocol.varint import write_varuint
from tests.attacks.plain.campaign import Campaign, Case
from tests.attacks.plain.sides import Program, Sides
from tests.attacks.plain.writer import Gateway, Struct, Writer, reordered
from tests.unit.engine.histories import deleted, inserted

KNOWN_TO_CRASH = frozenset({"wide", "entries", "collected"})
"""What clocks cannot tell and yrs or Yjs does not survive; see DESIGN.md."""
SEQUENCE = [Struct(7, 0, 5, "string", 0, 0), Struct(200, 0, 1, "type", 0, 1)]


async def test_plain_updates_in_sequences_crash_neither_yrs_nor_yjs() -> None:
    cases: list[Case] = []
    async with Sides() as sides:
        summary = await Campaign(sides, 1, cases.append, without=KNOWN_TO_CRASH).run(5_000)
    assert summary.updates >= 5_000
    assert not cases, "\n".join(cases[0].lines())


async def test_stock_yjs_does_not_survive_a_string_in_a_map_entry_that_is_split_and_deleted() -> None:
    """Why clocks do not earn the fast lane. When this fails, Yjs has learned to: run the fuzz without exclusions."""
    entry = b"\x01\x02\x09\x00\x27\x01\x01m\x01x\x01\x28\x00\x09\x00\x01k\x01\x77\x01v\x00"
    into_entry = _typed(5, 0, b"abc", after=(9, 1))
    splitting = _typed(6, 0, b"z", after=(5, 0))
    gateway = Gateway({9: 2})
    updates = (into_entry, splitting, deleted(9, 0, 1))
    assert all(gateway.admits(update) for update in updates)
    async with Sides() as sides:
        findings = await sides.check(Program((entry,), (updates,), (0, 1, 2)))
    assert "yjs throws live: Unexpected case in Item.gc" in [finding.kind for finding in findings]


async def test_honest_typing_leaves_all_replicas_equal() -> None:
    batches = (
        (_typed(5, 0, b"x", after=(3, 4)), _typed(5, 1, b"y", after=(5, 0))),
        (deleted(5, 0, 1), deleted(3, 1, 2)),
    )
    async with Sides() as sides:
        assert not await sides.check(Program((inserted("hello", client=3),), batches, (0, 2, 1, 3)))


async def test_replicas_that_differ_are_told_from_equal_ones() -> None:
    """Both origins in the middle of one string: where that is depends on how a replica happens to have split it."""
    overlapping = b"\x01\x01\x05\x00\xc4\x03\x02\x03\x02\x01x\x00"
    async with Sides() as sides:
        findings = await sides.check(Program((inserted("hello", client=3),), ((overlapping,),), (0,)))
    assert [finding.kind for finding in findings if not finding.crash] == [finding.kind for finding in findings] != []


@pytest.mark.parametrize(
    "update",
    [
        b"\x01\x01\x07\x04\x84\xc8\x01\x00\x01x\x00",
        b"\x01\x01\x07\x06\x84\xc8\x01\x00\x01x\x00",
        b"\x01\x01\x07\x05\x84\xc8\x01\x01\x01x\x00",
        b"\x01\x01\x07\x05\x84\x09\x00\x01x\x00",
        b"\x00\x01\x07\x01\x04\x02",
        b"\x01\x01\x07\x05\x04\x01\x01t\x01x\x00",
    ],
    ids=["known clock", "clock ahead", "origin ahead", "origin of a stranger", "range ahead", "not plain"],
)
def test_admission_is_by_clocks(update: bytes) -> None:
    gateway = Gateway({7: 5, 200: 1})
    assert not gateway.admits(update)
    assert gateway.known == {7: 5, 200: 1}


def test_what_is_written_is_admitted_in_this_order_and_in_others() -> None:
    rng = Random(1)
    writer = Writer(rng, list(SEQUENCE))
    known = dict(writer.gateway.known)
    updates = [plain.update for plain in writer.batch(200)]
    order = reordered(updates, known, rng)
    assert sorted(order) == list(range(200)) != order
    for numbers in (list(range(200)), order):
        gateway = Gateway(dict(known))
        assert all(gateway.admits(updates[number]) for number in numbers)


def _typed(client: int, clock: int, text: bytes, *, after: tuple[int, int]) -> bytes:
    ids = b"".join(write_varuint(number) for number in (client, clock))
    left = b"".join(write_varuint(number) for number in after)
    return b"\x01\x01" + ids + b"\x84" + left + bytes((len(text),)) + text + b"\x00"
