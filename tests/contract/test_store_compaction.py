"""Compaction and damage, on every adapter: nothing is lost, whatever single snapshot turns out rotten."""

from __future__ import annotations

import asyncio

import pytest

from collab.errors import DocumentDeleted, Misuse
from collab.store.port import Compaction
from tests.support.stores import Bench, Entries, bench, folded

__all__ = ["bench"]


async def log_of(bench: Bench, entry: Entries, *updates: bytes) -> None:
    await bench.log.append([entry("a", update) for update in updates])


@pytest.fixture
def entry() -> Entries:
    return Entries()


async def test_l2_a_snapshot_stands_for_the_rows_it_covers(bench: Bench, entry: Entries) -> None:
    await log_of(bench, entry, b"1", b"2")
    assert await bench.log.compact("a", folded(await bench.log.load("a"), b"12"))
    await log_of(bench, entry, b"3")
    stored = await bench.log.load("a")
    assert (stored.all_updates, stored.last_seq, stored.damage) == ((b"12", b"3"), 3, ())


async def test_l2_rows_that_wait_stay_through_every_compaction(bench: Bench, entry: Entries) -> None:
    await log_of(bench, entry, b"1", b"waits", b"3")
    assert await bench.log.compact("a", folded(await bench.log.load("a"), b"13", 1, 3))
    await log_of(bench, entry, b"4", b"waits too", b"6")
    stored = await bench.log.load("a")
    assert [row.seq for row in stored.updates] == [2, 4, 5, 6]
    assert await bench.log.compact("a", folded(stored, b"1346", 4, 6))
    stored = await bench.log.load("a")
    assert stored.all_updates == (b"1346", b"waits", b"waits too")
    assert await bench.log.compact("a", folded(stored, b"everything"))
    assert (await bench.log.load("a")).all_updates == (b"everything",)


async def test_l2_however_many_rows_wait_none_is_lost(bench: Bench, entry: Entries) -> None:
    total = 34_000  # more than either database takes as parameters of one statement
    await log_of(bench, entry, *[b"%d" % number for number in range(1, total + 1)])
    assert await bench.log.compact("a", folded(await bench.log.load("a"), b"[1]", 1, total))
    assert (await bench.documents.get("a")).bytes == 3 + sum(len(str(number)) for number in range(2, total))
    stored = await bench.log.load("a")
    assert [row.seq for row in stored.updates] == list(range(2, total))
    assert await bench.log.compact("a", folded(stored, b"[1-3]", 2, 3))
    assert await bench.rows("a") == list(range(2, total))
    assert [row.seq for row in (await bench.log.load("a")).updates] == list(range(4, total))


async def test_l2_a_row_appended_while_folding_is_not_covered(bench: Bench, entry: Entries) -> None:
    await log_of(bench, entry, b"1")
    read = await bench.log.load("a")
    await log_of(bench, entry, b"2")
    assert await bench.log.compact("a", folded(read, b"[1]"))
    assert (await bench.log.load("a")).all_updates == (b"[1]", b"2")


async def test_l2_only_what_the_snapshot_before_covers_is_deleted(bench: Bench, entry: Entries) -> None:
    await log_of(bench, entry, b"1", b"waits", b"3")
    await bench.log.compact("a", folded(await bench.log.load("a"), b"13", 1, 3))
    assert await bench.rows("a") == [1, 2, 3]
    await log_of(bench, entry, b"4")
    await bench.log.compact("a", folded(await bench.log.load("a"), b"134", 4))
    assert await bench.rows("a") == [2, 4]
    await log_of(bench, entry, b"5")
    await bench.log.compact("a", folded(await bench.log.load("a"), b"12345"))
    assert await bench.rows("a") == [2, 5]
    assert len(await bench.folds("a")) == 2


async def test_l2_a_fold_of_a_stale_snapshot_is_refused(bench: Bench, entry: Entries) -> None:
    await log_of(bench, entry, b"1")
    stale = await bench.log.load("a")
    assert await bench.log.compact("a", folded(stale, b"[1]"))
    assert not await bench.log.compact("a", folded(stale, b"other"))
    await log_of(bench, entry, b"2")
    fresh = await bench.log.load("a")
    assert not await bench.log.compact("a", Compaction(999_999, b"other", b"\x00", frozenset({2})))
    assert await bench.log.compact("a", folded(fresh, b"[12]"))
    assert (await bench.log.load("a")).all_updates == (b"[12]",)


async def test_l2_of_compactions_at_the_same_time_one_wins(bench: Bench, entry: Entries) -> None:
    await log_of(bench, entry, b"1", b"2")
    read = await bench.log.load("a")
    won = await asyncio.gather(*(bench.log.compact("a", folded(read, b"[%d]" % n)) for n in range(5)))
    assert won.count(True) == 1
    assert (await bench.log.load("a")).all_updates == (b"[%d]" % won.index(True),)


async def test_l2_appends_and_compactions_side_by_side_lose_nothing(bench: Bench) -> None:
    writers = [Entries(node=f"node-{number}") for number in range(3)]
    written: set[bytes] = set()

    async def write(make: Entries) -> None:
        for _ in range(15):
            logged = make("a", b"")
            named = f"{logged.node}/{logged.number};".encode()
            await bench.log.append([make("a", named)])
            written.add(named)

    async def compact_always() -> None:
        while len(written) < 45:
            read = await bench.log.load("a")
            await bench.log.compact("a", folded(read, b"".join(read.all_updates)))
            await asyncio.sleep(0)

    await asyncio.gather(compact_always(), *map(write, writers))
    content = b"".join((await bench.log.load("a")).all_updates)
    assert sorted(content.split(b";")[:-1]) == sorted(name[:-1] for name in written)


async def test_compaction_of_nothing_does_nothing(bench: Bench, entry: Entries) -> None:
    assert not await bench.log.compact("nowhere", Compaction(None, b"x", b"\x00", frozenset()))
    await log_of(bench, entry, b"1")
    await bench.documents.delete("a")
    with pytest.raises(DocumentDeleted):
        await bench.log.compact("a", Compaction(None, b"x", b"\x00", frozenset({1})))


@pytest.mark.parametrize("covered", [{0}, {1, 3}, {-1}])
async def test_covering_rows_that_never_were_is_refused(bench: Bench, entry: Entries, covered: set[int]) -> None:
    await log_of(bench, entry, b"1", b"2")
    with pytest.raises(Misuse):
        await bench.log.compact("a", Compaction(None, b"x", b"\x00", frozenset(covered)))
    assert (await bench.log.load("a")).all_updates == (b"1", b"2")


async def test_l4_a_damaged_first_snapshot_falls_back_to_the_log(bench: Bench, entry: Entries) -> None:
    await log_of(bench, entry, b"1", b"2")
    await bench.log.compact("a", folded(await bench.log.load("a"), b"12"))
    [snapshot] = await bench.folds("a")
    await bench.damage_snapshot("a", snapshot)
    stored = await bench.log.load("a")
    assert (stored.all_updates, stored.snapshot_id) == ((b"1", b"2"), None)
    assert stored.damage == (f"snapshot {snapshot} fails its checksum and was passed over",)


async def test_l4_a_damaged_snapshot_falls_back_to_the_one_before(bench: Bench, entry: Entries) -> None:
    await log_of(bench, entry, b"1", b"waits")
    await bench.log.compact("a", folded(await bench.log.load("a"), b"[1]", 1))
    await log_of(bench, entry, b"3", b"4")
    await bench.log.compact("a", folded(await bench.log.load("a"), b"[134]", 3, 4))
    older, newest = await bench.folds("a")
    await bench.damage_snapshot("a", newest)
    stored = await bench.log.load("a")
    assert (stored.all_updates, stored.snapshot_id) == ((b"[1]", b"waits", b"3", b"4"), older)
    assert str(newest) in stored.damage[0]


async def test_l4_compaction_goes_on_after_damage_and_keeps_a_way_back(bench: Bench, entry: Entries) -> None:
    for number in range(3):
        await log_of(bench, entry, b"%d" % number)
        read = await bench.log.load("a")
        await bench.log.compact("a", folded(read, b"".join(read.all_updates)))
    older, newest = await bench.folds("a")
    await bench.damage_snapshot("a", newest)
    read = await bench.log.load("a")
    assert read.snapshot_id == older
    assert await bench.log.compact("a", folded(read, b"repaired"))
    assert ((await bench.log.load("a")).all_updates, (await bench.log.load("a")).damage) == ((b"repaired",), ())
    await bench.damage_snapshot("a", max(await bench.folds("a")))
    assert (await bench.log.load("a")).all_updates == (b"01", b"2")


async def test_l4_a_document_whose_snapshots_are_all_damaged_is_left_alone(bench: Bench, entry: Entries) -> None:
    for number in range(2):
        await log_of(bench, entry, b"%d" % number)
        await bench.log.compact("a", folded(await bench.log.load("a"), b"fold %d" % number))
    for snapshot in await bench.folds("a"):
        await bench.damage_snapshot("a", snapshot)
    await log_of(bench, entry, b"2")
    stored = await bench.log.load("a")
    assert (stored.all_updates, len(stored.damage)) == ((b"1", b"2"), 2)
    assert not await bench.log.compact("a", folded(stored, b"what is left"))
    assert len(await bench.folds("a")) == 2


async def test_l4_a_damaged_row_is_left_out_named_and_never_deleted(bench: Bench, entry: Entries) -> None:
    await log_of(bench, entry, b"1", b"2", b"3")
    await bench.damage_update("a", 2)
    stored = await bench.log.load("a")
    assert (stored.all_updates, stored.damage) == ((b"1", b"3"), ("update 2 fails its checksum and was left out",))
    for update in (b"[13]", b"[13].", b"[13].."):
        await bench.log.compact("a", folded(await bench.log.load("a"), update, 3))
    assert 2 in await bench.rows("a")
    assert (await bench.log.load("a")).damage == stored.damage
