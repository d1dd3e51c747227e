"""The catalogue's contract, on every adapter."""

from __future__ import annotations

from datetime import UTC

import pytest

from collab.errors import DocumentDeleted, DocumentExists, DocumentMissing, Misuse
from collab.store.port import Change
from tests.support.stores import Bench, Entries, bench, folded

__all__ = ["bench"]


@pytest.fixture
def entry() -> Entries:
    return Entries()


async def names_of(bench: Bench, **query: object) -> list[str]:
    return [document.name for document in (await bench.documents.list(**query)).documents]  # type: ignore[arg-type]


async def test_create_returns_what_get_returns(bench: Bench) -> None:
    meta = {"tags": ["x", "ü"], "deep": {"n": 1.5, "none": None}, "nul": "\x00", "half": "\ud800"}
    created = await bench.documents.create("acme:specs:42", title="Specs ✓", meta=meta)
    assert created == await bench.documents.get("acme:specs:42")
    assert (created.title, created.meta, created.seq, created.bytes) == ("Specs ✓", meta, 0, 0)
    assert created.created_at == created.updated_at
    assert created.created_at.utcoffset() == UTC.utcoffset(None)


async def test_create_with_a_first_update_is_one_step(bench: Bench, entry: Entries) -> None:
    created = await bench.documents.create("a", entry=entry("a", b"123", "author"))
    assert (created.seq, created.bytes) == (1, 3)
    assert (await bench.log.load("a")).all_updates == (b"123",)


async def test_a_taken_name_is_refused_and_nothing_is_written(bench: Bench, entry: Entries) -> None:
    await bench.documents.create("a", title="first")
    with pytest.raises(DocumentExists):
        await bench.documents.create("a", title="second", entry=entry("a", b"1"))
    assert ((await bench.documents.get("a")).title, await bench.log.last_seq("a")) == ("first", 0)
    await bench.documents.delete("a")
    with pytest.raises(DocumentExists):
        await bench.documents.create("a")


async def test_create_repeated_after_a_lost_reply_finds_its_own_document(bench: Bench, entry: Entries) -> None:
    first = entry("a", b"1")
    created = await bench.documents.create("a", title="t", entry=first)
    assert await bench.documents.create("a", title="t", entry=first) == created


@pytest.mark.parametrize("meta", [{"x": float("nan")}, {"x": object()}, {"x": b"bytes"}])
async def test_meta_that_is_not_json_is_refused(bench: Bench, meta: dict[str, object]) -> None:
    with pytest.raises(Misuse):
        await bench.documents.create("a", meta=meta)
    with pytest.raises(DocumentMissing):
        await bench.documents.get("a")


async def test_a_first_update_of_another_document_is_refused(bench: Bench, entry: Entries) -> None:
    with pytest.raises(Misuse):
        await bench.documents.create("a", entry=entry("b", b"1"))


async def test_what_is_not_there_is_missing(bench: Bench) -> None:
    for call in (bench.documents.get("a"), bench.documents.change("a", Change("t")), bench.documents.delete("a")):
        with pytest.raises(DocumentMissing):
            await call


async def test_deletion_is_soft_stamped_and_may_be_repeated(bench: Bench, entry: Entries) -> None:
    await bench.documents.create("a", entry=entry("a", b"1"))
    await bench.documents.delete("a")
    await bench.documents.delete("a")
    for call in (bench.documents.get("a"), bench.documents.change("a", Change("t"))):
        with pytest.raises(DocumentDeleted):
            await call
    assert await names_of(bench) == []
    assert await bench.rows("a") == [1]


async def test_change_replaces_what_is_given_and_stamps(bench: Bench) -> None:
    created = await bench.documents.create("a", title="old", meta={"a": 1})
    titled = await bench.documents.change("a", Change(title="new\x00"))
    assert (titled.title, titled.meta) == ("new�", {"a": 1})
    replaced = await bench.documents.change("a", Change(meta={"b": 2}))
    assert (replaced.title, replaced.meta) == ("new�", {"b": 2})
    assert created.created_at == replaced.created_at
    assert created.updated_at < titled.updated_at < replaced.updated_at
    assert (await bench.documents.change("a", Change(title="", meta={}))).title == ""


async def test_appends_stamp_the_document(bench: Bench, entry: Entries) -> None:
    created = await bench.documents.create("a")
    await bench.log.append([entry("a", b"1")])
    assert (await bench.documents.get("a")).updated_at > created.updated_at


async def test_listing_is_in_code_point_order(bench: Bench) -> None:
    for name in ("b", "a", "B", "a-b", "a.b", "a_b", "aZ", "~", "0", "a:b"):
        await bench.documents.create(name)
    assert await names_of(bench) == sorted(("b", "a", "B", "a-b", "a.b", "a_b", "aZ", "~", "0", "a:b"))


async def test_a_prefix_is_taken_literally(bench: Bench) -> None:
    for name in ("a_b", "axb", "a_c", "A_b", "a", "a%b", "ab"):
        await bench.documents.create(name)
    assert await names_of(bench, prefix="a_") == ["a_b", "a_c"]
    assert await names_of(bench, prefix="a%") == ["a%b"]
    assert await names_of(bench, prefix="a") == ["a", "a%b", "a_b", "a_c", "ab", "axb"]
    assert await names_of(bench, prefix="zz") == []
    assert await names_of(bench, prefix="\x00") == []


async def test_pages_follow_each_other_without_gap_or_repeat(bench: Bench) -> None:
    wanted = [f"p:{number:02}" for number in range(7)]
    for name in [*wanted, "other", "q"]:
        await bench.documents.create(name)
    await bench.documents.delete("p:03")
    wanted.remove("p:03")
    seen: list[str] = []
    after = None
    for _ in range(3):
        page = await bench.documents.list(prefix="p:", after=after, limit=2)
        seen += [document.name for document in page.documents]
        after = page.next
    assert (seen, after) == (wanted, None)
    assert len(await names_of(bench, limit=0)) == 1


async def test_sizes_are_snapshot_plus_the_log_after_it(bench: Bench, entry: Entries) -> None:
    await bench.log.append([entry("a", b"x" * 10), entry("a", b"waits"), entry("a", b"y" * 10), entry("b", b"123")])
    await bench.documents.create("empty")
    assert (await bench.documents.get("a")).bytes == 25
    await bench.log.compact("a", folded(await bench.log.load("a"), b"z" * 7, 1, 3))
    await bench.log.append([entry("a", b"w")])
    listed = await bench.documents.list()
    assert {document.name: (document.bytes, document.seq) for document in listed.documents} == {
        "a": (7 + len(b"waits") + 1, 4),
        "b": (3, 1),
        "empty": (0, 0),
    }
    await bench.log.compact("a", folded(await bench.log.load("a"), b"all"))
    assert (await bench.documents.get("a")).bytes == 3
