"""Loads that come together: the same as one after the other, on every adapter (SPEC L1, L7)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from collab.errors import DocumentDeleted
from collab.store.port import Stored
from collab.store.queries import PAGE_ROWS
from collab.store.sql_loads import SHORT_TAIL, SMALL_BYTES, TOGETHER
from tests.support.stores import Bench, Entries, bench, folded

__all__ = ["bench"]


async def append(bench: Bench, document: str, *updates: bytes) -> None:
    entry = Entries(node=f"node of {document}")
    await bench.log.append([entry(document, update) for update in updates])


async def fold(bench: Bench, document: str, update: bytes, *covered: int) -> None:
    assert await bench.log.compact(document, folded(await bench.log.load(document), update, *covered))


async def together(bench: Bench, names: Sequence[str]) -> list[Stored | BaseException]:
    return await asyncio.gather(*map(bench.log.load, names), return_exceptions=True)


async def one_by_one(bench: Bench, names: Sequence[str]) -> list[Stored | BaseException]:
    return [(await together(bench, [name]))[0] for name in names]


def told(loads: Sequence[Stored | BaseException]) -> list[object]:
    return [repr(load) if isinstance(load, BaseException) else load for load in loads]


async def filled(bench: Bench) -> list[str]:
    """Documents of every kind; their names, and one nobody made."""
    kinds = {
        "tail": [b"a", b"b", b"c"],
        "folded": [b"d", b"e"],
        "folded and tail": [b"f", b"g", b"h"],
        "waiting": [b"i", b"j", b"k"],
        "large": [b"l"],
        "long": [bytes((number % 256,)) for number in range(SHORT_TAIL + 1)],
        "heavy tail": [bytes(SMALL_BYTES), b"n"],
        "deleted": [b"m"],
    }
    names = [name.replace(" ", "-") for name in kinds]
    for name, updates in zip(names, kinds.values(), strict=True):
        await append(bench, name, *updates)
    await fold(bench, "folded", b"DE", 1, 2)
    await fold(bench, "folded-and-tail", b"FG", 1, 2)
    await fold(bench, "waiting", b"IK", 1, 3)
    await fold(bench, "large", bytes(SMALL_BYTES + 1), 1)
    await bench.documents.delete("deleted")
    return [*names, "unknown"]


async def test_l1_loads_that_come_together_give_what_each_gives_alone(bench: Bench) -> None:
    names = await filled(bench)
    alone = await one_by_one(bench, names)
    assert told(await together(bench, names)) == told(alone)
    assert isinstance(alone[names.index("deleted")], DocumentDeleted)
    assert alone[names.index("unknown")] == Stored(None, ())


@pytest.mark.parametrize("rows", [PAGE_ROWS - 1, PAGE_ROWS, PAGE_ROWS + 1, 2 * PAGE_ROWS])
async def test_l1_a_log_read_in_several_pages_is_whole_and_in_order(bench: Bench, rows: int) -> None:
    written = [str(number).encode() for number in range(rows)]
    await append(bench, "long", *written)
    assert (await bench.log.load("long")).all_updates == tuple(written)
    waiting = range(3, rows, 2)
    await fold(bench, "long", b"folded", *(seq for seq in range(1, rows + 1) if seq not in waiting))
    stored = await bench.log.load("long")
    assert [row.seq for row in stored.updates] == list(waiting)
    assert stored.all_updates == (b"folded", *(written[seq - 1] for seq in waiting))


async def test_l1_more_than_are_read_at_once_and_one_of_them_twice(bench: Bench) -> None:
    names = [f"d{number}" for number in range(TOGETHER + 3)]
    for name in names:
        await append(bench, name, name.encode())
    loads = await together(bench, [*names, names[0]])
    assert [load.all_updates for load in loads if isinstance(load, Stored)] == [
        (name.encode(),) for name in [*names, names[0]]
    ]


async def test_l7_damage_is_found_and_passed_over_as_alone(bench: Bench) -> None:
    names = ["snapshot", "row", "sound"]
    for name in names:
        await append(bench, name, b"a", b"b", b"c")
        await fold(bench, name, b"AB", 1, 2)
    await bench.damage_snapshot("snapshot", (await bench.folds("snapshot"))[0])
    await bench.damage_update("row", 3)
    alone = await one_by_one(bench, names)
    assert told(await together(bench, names)) == told(alone)
    assert [bool(load.damage) for load in alone if isinstance(load, Stored)] == [True, True, False]


async def test_l1_who_reads_for_all_gives_up_and_the_others_read_alone(bench: Bench) -> None:
    names = ["a", "b", "c"]
    for name in names:
        await append(bench, name, name.encode())
    loads = [asyncio.create_task(bench.log.load(name)) for name in names]
    await asyncio.sleep(0)
    loads[0].cancel()
    told = await asyncio.gather(*loads, return_exceptions=True)
    assert isinstance(told[0], asyncio.CancelledError | Stored)
    assert [load.all_updates for load in told[1:] if isinstance(load, Stored)] == [(b"b",), (b"c",)]


@pytest.mark.parametrize("count", [2, TOGETHER])
async def test_l1_new_documents_are_empty(bench: Bench, count: int) -> None:
    assert await together(bench, [f"new{number}" for number in range(count)]) == [Stored(None, ())] * count
