"""The update log's contract, on every adapter: append, load, and what may never happen."""

from __future__ import annotations

import asyncio

import pytest

from collab.errors import DocumentDeleted, DocumentMissing, Misuse, StoreUnavailable
from collab.store.port import LogEntry, Stored
from tests.support.stores import Bench, Entries, bench

__all__ = ["bench"]


@pytest.fixture
def entry() -> Entries:
    return Entries()


async def test_l1_load_after_append_returns_the_updates_in_order(bench: Bench, entry: Entries) -> None:
    first = await bench.log.append([entry("a", b"1"), entry("a", b"2")])
    second = await bench.log.append([entry("a", b"3")])
    stored = await bench.log.load("a")
    assert (first.last_seq, second.last_seq) == ({"a": 2}, {"a": 3})
    assert [(row.seq, row.update) for row in stored.updates] == [(1, b"1"), (2, b"2"), (3, b"3")]
    assert (stored.snapshot, stored.snapshot_id, stored.last_seq, stored.damage) == (None, None, 3, ())


async def test_l1_bytes_come_back_as_they_were(bench: Bench, entry: Entries) -> None:
    awkward = [b"", bytes(range(256)), b"\x00" * 10, b"x" * 3_000_000]
    await bench.log.append([entry("a", update) for update in awkward])
    assert list((await bench.log.load("a")).all_updates) == awkward


async def test_an_unknown_document_is_empty(bench: Bench) -> None:
    assert await bench.log.load("nowhere") == Stored(None, ())
    assert await bench.log.last_seq("nowhere") == 0


async def test_one_append_writes_many_documents(bench: Bench, entry: Entries) -> None:
    await bench.log.append([entry("b", b"0")])
    appended = await bench.log.append([entry("c", b"1"), entry("b", b"2"), entry("a", b"3"), entry("b", b"4")])
    assert (appended.last_seq, appended.deleted) == ({"a": 1, "b": 3, "c": 1}, frozenset())
    assert (await bench.log.load("b")).all_updates == (b"0", b"2", b"4")
    assert await bench.log.last_seq("b") == 3


async def test_appending_nothing_is_no_mistake(bench: Bench) -> None:
    assert (await bench.log.append([])).last_seq == {}


async def test_a_large_batch_keeps_its_order(bench: Bench, entry: Entries) -> None:
    batch = [entry(f"d{number % 7}", b"%d" % number) for number in range(2100)]
    appended = await bench.log.append(batch)
    assert set(appended.last_seq.values()) == {300}
    for document in appended.last_seq:
        expected = tuple(logged.update for logged in batch if logged.document == document)
        assert (await bench.log.load(document)).all_updates == expected


async def test_l3_a_repeated_append_stores_once(bench: Bench, entry: Entries) -> None:
    batch = [entry("a", b"1"), entry("b", b"2"), entry("a", b"3")]
    first = await bench.log.append(batch)
    again = await bench.log.append(batch)
    assert (again.last_seq, again.deleted) == (first.last_seq, first.deleted)
    assert (first.repeated, again.repeated) == (False, True)
    assert (await bench.log.load("a")).all_updates == (b"1", b"3")
    assert await bench.log.last_seq("a") == 2


async def test_l3_new_and_stored_entries_may_be_mixed(bench: Bench, entry: Entries) -> None:
    one, two, three = entry("a", b"1"), entry("a", b"2"), entry("a", b"3")
    other = entry("b", b"4")
    await bench.log.append([two])
    appended = await bench.log.append([one, two, three, other, one])
    assert appended.last_seq == {"a": 3, "b": 1}
    assert [(row.seq, row.update) for row in (await bench.log.load("a")).updates] == [(1, b"2"), (2, b"1"), (3, b"3")]


async def test_l3_repeats_at_the_same_time_store_once(bench: Bench, entry: Entries) -> None:
    batch = [entry(f"d{number % 3}", b"%d" % number) for number in range(30)]
    await asyncio.gather(*(bench.log.append(batch[start:] + batch[:start]) for start in range(0, 30, 5)))
    for number in range(3):
        updates = (await bench.log.load(f"d{number}")).updates
        assert [row.seq for row in updates] == list(range(1, 11))
        assert {row.update for row in updates} == {b"%d" % n for n in range(30) if n % 3 == number}


@pytest.mark.parametrize("when", ["at once", "later"])
async def test_one_name_for_two_updates_is_refused_whole(bench: Bench, when: str) -> None:
    first, second = LogEntry("a", b"1", "n", 7), LogEntry("a", b"2", "n", 7)
    bystander = LogEntry("b", b"3", "n", 8)
    if when == "later":
        await bench.log.append([first])
    with pytest.raises(Misuse, match="two different updates"):
        await bench.log.append([bystander, second] if when == "later" else [bystander, first, second])
    assert await bench.log.last_seq("b") == 0
    assert (await bench.log.load("a")).all_updates == ((b"1",) if when == "later" else ())


async def test_sequences_have_no_gaps_and_appear_in_order(bench: Bench) -> None:
    names = ["x", "y", "z"]
    writers = [Entries(node=f"node-{number}") for number in range(6)]
    done = asyncio.Event()

    async def write(make: Entries) -> None:
        for turn in range(8):
            await bench.log.append([make(names[(turn + step) % 3], b"u") for step in range(2)])

    async def watch() -> int:
        looks = 0
        while not done.is_set():
            for name in names:
                stored = await bench.log.load(name)
                assert [row.seq for row in stored.updates] == list(range(1, stored.last_seq + 1))
            looks += 1
            await asyncio.sleep(0)
        return looks

    watching = asyncio.create_task(watch())
    await asyncio.gather(*map(write, writers))
    done.set()
    await watching
    assert sum([await bench.log.last_seq(name) for name in names]) == 6 * 8 * 2


async def test_l5_a_deleted_document_takes_nothing_more(bench: Bench, entry: Entries) -> None:
    kept = entry("gone", b"1")
    await bench.log.append([kept])
    await bench.documents.delete("gone")
    appended = await bench.log.append([entry("gone", b"2"), entry("here", b"3")])
    assert (appended.last_seq, appended.deleted) == ({"here": 1}, {"gone"})
    repeated = await bench.log.append([kept])
    assert (repeated.last_seq, repeated.deleted) == ({}, {"gone"})
    with pytest.raises(DocumentDeleted):
        await bench.log.load("gone")
    with pytest.raises(DocumentDeleted):
        await bench.log.last_seq("gone")
    assert await bench.rows("gone") == [1]


async def test_l5_deletion_racing_with_appends_leaves_no_half_written_document(bench: Bench, entry: Entries) -> None:
    await bench.log.append([entry("a", b"0")])
    batches = [[entry("a", b"u"), entry("b", b"u")] for _ in range(12)]
    answers = await asyncio.gather(
        *(bench.log.append(batch) for batch in batches[:6]),
        bench.documents.delete("a"),
        *(bench.log.append(batch) for batch in batches[6:]),
    )
    stored = [answer.last_seq["a"] for answer in answers if answer is not None and "a" not in answer.deleted]
    assert sorted(await bench.rows("a")) == list(range(1, len(stored) + 2))
    assert await bench.log.last_seq("b") == 12


AUTHORS = {"nul": "a\x00b", "surrogate": "a\ud800b", "other scripts": "\u202eüñï\U0001f600", "long": "x" * 5000}


@pytest.mark.parametrize("author", AUTHORS.values(), ids=AUTHORS)
async def test_p5_an_author_of_any_text_fails_nobody(bench: Bench, entry: Entries, author: str) -> None:
    appended = await bench.log.append([entry("a", b"1", author), entry("b", b"2", "somebody")])
    assert appended.last_seq == {"a": 1, "b": 1}


async def test_what_was_appended_makes_a_document(bench: Bench, entry: Entries) -> None:
    with pytest.raises(DocumentMissing):
        await bench.documents.get("a")
    await bench.log.append([entry("a", b"12"), entry("a", b"345")])
    document = await bench.documents.get("a")
    assert (document.name, document.title, document.meta, document.seq, document.bytes) == ("a", None, {}, 2, 5)


async def test_a_cancelled_append_is_whole_or_nothing_and_harms_nobody(bench: Bench, entry: Entries) -> None:
    batch = [entry("a", b"1"), entry("b", b"2")]
    for turns in range(6):
        task = asyncio.create_task(bench.log.append(batch))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    assert (await bench.log.append(batch)).last_seq == {"a": 1, "b": 1}
    assert (await bench.log.load("a")).all_updates == (b"1",)


async def test_a_closed_store_is_unavailable(bench: Bench, entry: Entries) -> None:
    await bench.store.close()
    assert not (await bench.store.check()).ok
    with pytest.raises(StoreUnavailable):
        await bench.log.append([entry("a", b"1")])
    with pytest.raises(StoreUnavailable):
        await bench.log.load("a")
    with pytest.raises(StoreUnavailable):
        await bench.documents.list()


async def test_check_says_ok_in_a_sentence(bench: Bench) -> None:
    status = await bench.store.check()
    assert status.ok
    assert status.detail
    assert status.schema == status.expected
