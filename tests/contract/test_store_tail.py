"""Following the log, on every adapter: where documents stand, and the rows after a number, with their names."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from collab.errors import StoreUnavailable
from collab.store import rules
from collab.store.port import NamedUpdate, Tail
from collab.store.rules import TAIL_ROW_BYTES, TAIL_ROWS
from tests.support.stores import Bench, Entries, bench, folded

__all__ = ["bench"]


@pytest.fixture
def entry() -> Entries:
    return Entries()


async def log_of(bench: Bench, entry: Entries, document: str, *updates: bytes) -> None:
    await bench.log.append([entry(document, update) for update in updates])


async def followed(
    bench: Bench, after: Mapping[str, int], limit_bytes: int
) -> tuple[dict[str, list[NamedUpdate]], int]:
    """All rows after ``after``, asked for until there are none, and how often rows came."""
    reached = dict(after)
    rows: dict[str, list[NamedUpdate]] = {}
    asked = 0
    while tails := await bench.log.tail(reached, limit_bytes=limit_bytes):
        asked += 1
        for document, tail in tails.items():
            assert tail.complete
            assert tail.through > reached[document], "every answer is progress"
            assert all(reached[document] < row.seq <= tail.through for row in tail.rows)
            reached[document] = tail.through
            rows.setdefault(document, []).extend(tail.rows)
    return rows, asked


def updates_of(tail: Tail) -> list[tuple[int, bytes]]:
    return [(row.seq, row.update) for row in tail.rows]


async def test_last_seqs_tell_where_each_document_stands(bench: Bench, entry: Entries) -> None:
    await log_of(bench, entry, "a", b"1", b"2")
    await log_of(bench, entry, "b", b"3")
    await log_of(bench, entry, "gone", b"4")
    await bench.documents.create("new")
    await bench.documents.delete("gone")
    assert await bench.log.last_seqs(["b", "a", "gone", "nowhere", "new"]) == {"a": 2, "b": 1, "gone": None, "new": 0}
    assert await bench.log.last_seqs({"a"}) == {"a": 2}
    assert await bench.log.last_seqs([]) == {}


async def test_last_seqs_take_any_number_of_names(bench: Bench, entry: Entries) -> None:
    names = [f"d{number}" for number in range(3_000)]
    await bench.log.append([entry(name, b"u") for name in names])
    asked = [*names, *(f"nowhere{number}" for number in range(40_000))]
    assert await bench.log.last_seqs(asked) == dict.fromkeys(names, 1)


async def test_a_tail_is_every_row_after_a_number_with_its_name(bench: Bench) -> None:
    mine, other = Entries("node-a"), Entries("node-b")
    await bench.log.append([mine("x", b"elsewhere"), mine("a", b"1")])
    await bench.log.append([other("a", b"2"), other("a", b"3")])
    await bench.log.append([mine("a", b"\x00\xff")])
    assert await bench.log.tail({"a": 1}) == {
        "a": Tail(
            (
                NamedUpdate(2, b"2", "node-b", 1),
                NamedUpdate(3, b"3", "node-b", 2),
                NamedUpdate(4, b"\x00\xff", "node-a", 3),
            ),
            through=4,
        )
    }


async def test_documents_without_a_tail_are_left_out(bench: Bench, entry: Entries) -> None:
    await log_of(bench, entry, "a", b"1", b"2")
    await log_of(bench, entry, "gone", b"3")
    await bench.documents.create("empty")
    await bench.documents.delete("gone")
    asked = {"a": 2, "nowhere": 0, "gone": 0, "empty": 0}
    assert await bench.log.tail(asked) == {}
    assert await bench.log.tail({**asked, "a": 7}) == {}, "nor is one asked about that is behind the question"
    assert await bench.log.tail({}) == {}


async def test_one_question_is_about_many_documents(bench: Bench, entry: Entries) -> None:
    await bench.log.append([entry(f"d{number % 700}", b"%d" % number) for number in range(2_100)])
    tails = await bench.log.tail({f"d{number}": number % 3 for number in range(700)})
    assert len(tails) == 700
    for number in range(700):
        expected = [(turn + 1, b"%d" % (number + 700 * turn)) for turn in range(number % 3, 3)]
        assert updates_of(tails[f"d{number}"]) == expected


async def test_a_limit_cuts_the_tail_and_asking_again_goes_on(bench: Bench, entry: Entries) -> None:
    sizes = [1, 5_000, 0, 300, 20_000, 7, 7, 9_000]
    await bench.log.append([entry(name, b"x" * size) for name in ("a", "b", "c") for size in sizes])
    for limit_bytes in (0, 1, 150, 6_000, 30_000, 10_000_000):
        rows, asked = await followed(bench, {"a": 0, "b": 2, "c": 0, "d": 0}, limit_bytes)
        assert [len(row.update) for row in rows["a"]] == sizes
        assert [len(row.update) for row in rows["b"]] == sizes[2:]
        assert [len(row.update) for row in rows["c"]] == sizes
        assert asked == {0: 22, 1: 22, 10_000_000: 1}.get(limit_bytes, asked)
    first = (await bench.log.tail({"a": 0}, limit_bytes=5_001 + TAIL_ROW_BYTES))["a"]
    assert (first.through, first.complete) == (2, True), "stops with the row that reaches the limit"


async def test_a_long_tail_comes_in_parts(bench: Bench, entry: Entries) -> None:
    await log_of(bench, entry, "a", *[b"%d" % number for number in range(TAIL_ROWS + 5)])
    first = (await bench.log.tail({"a": 2}))["a"]
    assert (len(first.rows), first.through, first.complete) == (TAIL_ROWS, TAIL_ROWS + 2, True)
    rest = (await bench.log.tail({"a": first.through}))["a"]
    assert updates_of(rest) == [(seq, b"%d" % (seq - 1)) for seq in range(TAIL_ROWS + 3, TAIL_ROWS + 6)]


async def test_rows_that_were_folded_once_are_still_there(bench: Bench, entry: Entries) -> None:
    await log_of(bench, entry, "a", b"1", b"2")
    await bench.log.compact("a", folded(await bench.log.load("a"), b"12"))
    await log_of(bench, entry, "a", b"3")
    assert updates_of((await bench.log.tail({"a": 0}))["a"]) == [(1, b"1"), (2, b"2"), (3, b"3")]


async def test_a_tail_whose_rows_are_gone_says_so(bench: Bench, entry: Entries) -> None:
    await log_of(bench, entry, "a", b"1", b"2")
    await log_of(bench, entry, "b", b"other")
    await bench.log.compact("a", folded(await bench.log.load("a"), b"12"))
    await log_of(bench, entry, "a", b"3")
    await bench.log.compact("a", folded(await bench.log.load("a"), b"123"))
    for after in (0, 1):
        tails = await bench.log.tail({"a": after, "b": 0})
        assert tails["a"] == Tail((), after, complete=False)
        assert updates_of(tails["b"]) == [(1, b"other")]
    assert updates_of((await bench.log.tail({"a": 2}))["a"]) == [(3, b"3")]


async def test_a_tail_of_which_every_row_is_gone_says_so(bench: Bench, entry: Entries) -> None:
    await log_of(bench, entry, "a", b"1", b"2")
    for update in (b"12", b"12 again"):
        await bench.log.compact("a", folded(await bench.log.load("a"), update, 1, 2))
    assert await bench.rows("a") == []
    assert await bench.log.tail({"a": 1}) == {"a": Tail((), 1, complete=False)}
    assert await bench.log.tail({"a": 2}) == {}


@pytest.mark.parametrize("waiting", [1, 2, 4])
async def test_rows_that_wait_do_not_hide_that_others_are_gone(bench: Bench, entry: Entries, waiting: int) -> None:
    """A row that waited is kept for ever beside rows that are gone: before, between and after them."""
    await log_of(bench, entry, "a", b"1", b"2", b"3", b"4")
    covered = {1, 2, 3, 4} - {waiting}
    for update in (b"folded", b"folded again"):
        await bench.log.compact("a", folded(await bench.log.load("a"), update, *covered))
    assert await bench.rows("a") == [waiting]
    assert await bench.log.tail({"a": 0}) == {"a": Tail((), 0, complete=False)}
    assert (await bench.log.tail({"a": 3})).get("a") == (
        Tail((NamedUpdate(4, b"4", "node-a", 4),), 4) if waiting == 4 else Tail((), 3, complete=False)
    )


async def test_a_gap_beyond_the_limit_is_told_when_it_is_reached(bench: Bench, entry: Entries) -> None:
    await log_of(bench, entry, "a", b"waits", b"2", b"3")
    for update in (b"23", b"23 again"):
        await bench.log.compact("a", folded(await bench.log.load("a"), update, 2, 3))
    first = (await bench.log.tail({"a": 0}, limit_bytes=1))["a"]
    assert (updates_of(first), first.through, first.complete) == ([(1, b"waits")], 1, True)
    assert await bench.log.tail({"a": 1}, limit_bytes=1) == {"a": Tail((), 1, complete=False)}
    await log_of(bench, entry, "a", b"4", b"5")
    within = len(b"waits4") + 2 * TAIL_ROW_BYTES
    assert await bench.log.tail({"a": 0}, limit_bytes=within) == {"a": Tail((), 0, complete=False)}, "rows 1 and 4"


async def test_l7_a_damaged_row_is_left_out_of_its_tail(bench: Bench, entry: Entries) -> None:
    await log_of(bench, entry, "a", b"1", b"2", b"3", b"4")
    await bench.damage_update("a", 2)
    await bench.damage_update("a", 4)
    tail = (await bench.log.tail({"a": 0}))["a"]
    assert (updates_of(tail), tail.through, tail.complete) == ([(1, b"1"), (3, b"3")], 4, True)
    assert await bench.log.tail({"a": 3}) == {"a": Tail((), 4)}
    assert await bench.log.tail({"a": 4}) == {}


async def test_large_rows_are_checked_too(bench: Bench, entry: Entries) -> None:
    await log_of(bench, entry, "a", b"x" * 1_000_000, b"y" * 1_000_000)
    await bench.damage_update("a", 2)
    tail = (await bench.log.tail({"a": 0}))["a"]
    assert ([row.seq for row in tail.rows], tail.through) == ([1], 2)


async def test_l6_whoever_follows_concurrent_appends_sees_every_row_once_and_in_order(bench: Bench) -> None:
    names = ["x", "y", "z"]
    writers = [Entries(node=f"node-{number}") for number in range(4)]
    written = {name: set[tuple[str, int]]() for name in names}
    done = asyncio.Event()

    async def write(make: Entries) -> None:
        for turn in range(10):
            entries = [make(names[(turn + step) % 3], b"u%d" % turn) for step in range(2)]
            appended = await bench.log.append(entries)
            assert not appended.repeated
            for one in entries:
                written[one.document].add((one.node, one.number))

    async def follow() -> dict[str, list[NamedUpdate]]:
        reached = dict.fromkeys(names, 0)
        rows: dict[str, list[NamedUpdate]] = {name: [] for name in names}
        while True:
            over = done.is_set()
            tails = await bench.log.tail(reached, limit_bytes=300)
            for document, tail in tails.items():
                rows[document] += tail.rows
                reached[document] = tail.through
            if over and not tails:
                return rows
            await asyncio.sleep(0)

    following = asyncio.create_task(follow())
    await asyncio.gather(*map(write, writers))
    done.set()
    rows = await following
    for name in names:
        assert [row.seq for row in rows[name]] == list(range(1, len(rows[name]) + 1))
        assert [(row.node, row.number) for row in rows[name] if (row.node, row.number) not in written[name]] == []
        assert len(rows[name]) == len(written[name])
    assert await bench.log.last_seqs(names) == {name: len(rows[name]) for name in names}


async def test_an_append_without_doubt_numbers_its_entries_in_a_row(bench: Bench, entry: Entries) -> None:
    await log_of(bench, entry, "a", b"0")
    entries = [entry("a", b"1"), entry("b", b"2"), entry("a", b"3")]
    appended = await bench.log.append(entries)
    assert (appended.last_seq, appended.repeated) == ({"a": 3, "b": 1}, False)
    tails = await bench.log.tail({"a": 1, "b": 0})
    assert [(row.seq, row.number) for row in tails["a"].rows] == [(2, entries[0].number), (3, entries[2].number)]
    assert [(row.seq, row.number) for row in tails["b"].rows] == [(1, entries[1].number)]


async def test_an_append_that_finds_some_entry_stored_says_so(bench: Bench, entry: Entries) -> None:
    one, two = entry("a", b"1"), entry("a", b"2")
    assert not (await bench.log.append([one])).repeated
    assert (await bench.log.append([one, two])).repeated
    assert (await bench.log.append([one, two])).repeated
    three = entry("a", b"3")
    assert (await bench.log.append([three, three])).repeated
    assert not (await bench.log.append([entry("a", b"4")])).repeated


async def test_a_tail_after_each_deletion_of_a_document_is_nothing(bench: Bench, entry: Entries) -> None:
    await log_of(bench, entry, "a", b"1")
    assert "a" in await bench.log.tail({"a": 0})
    await bench.documents.delete("a")
    assert await bench.log.tail({"a": 0}) == {}
    assert await bench.log.last_seqs(["a"]) == {"a": None}


async def test_a_closed_store_has_no_tails(bench: Bench, entry: Entries) -> None:
    await log_of(bench, entry, "a", b"1")
    await bench.store.close()
    with pytest.raises(StoreUnavailable):
        await bench.log.tail({"a": 0})
    with pytest.raises(StoreUnavailable):
        await bench.log.last_seqs(["a"])


def test_what_a_row_counts_is_more_than_its_update() -> None:
    assert rules.TailRow(1, b"abc", b"", "n", 1).size == 3 + TAIL_ROW_BYTES
