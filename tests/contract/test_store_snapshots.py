"""The contract of labelled versions, on every adapter."""

from __future__ import annotations

import pytest

from collab.errors import DocumentDeleted, DocumentMissing, SnapshotMissing
from collab.store.port import Snapshot
from tests.support.stores import Bench, Entries, bench, folded

__all__ = ["bench"]


async def keep(bench: Bench, document: str, update: bytes, label: str | None = None) -> Snapshot:
    return await bench.snapshots.create(
        document, update=update, state_vector=b"\x00", seq=1, label=label, author="somebody"
    )


async def test_a_version_comes_back_with_its_bytes(bench: Bench) -> None:
    await bench.documents.create("a")
    made = await keep(bench, "a", b"content", "draft\x00 1")
    assert (made.document, made.label, made.author, made.bytes, made.seq) == ("a", "draft� 1", "somebody", 7, 1)
    assert made.created_at.tzinfo is not None
    assert await bench.snapshots.get("a", made.id) == (made, b"content")


async def test_versions_are_listed_newest_first_in_pages(bench: Bench) -> None:
    await bench.documents.create("a")
    made = [await keep(bench, "a", b"%d" % number) for number in range(5)]
    first = await bench.snapshots.list("a", limit=2)
    rest = await bench.snapshots.list("a", before=first[-1].id)
    assert [*first, *rest] == made[::-1]


async def test_a_version_belongs_to_one_document(bench: Bench) -> None:
    await bench.documents.create("a")
    await bench.documents.create("b")
    made = await keep(bench, "a", b"secret")
    with pytest.raises(SnapshotMissing):
        await bench.snapshots.get("b", made.id)
    with pytest.raises(SnapshotMissing):
        await bench.snapshots.delete("b", made.id)
    assert await bench.snapshots.list("b") == ()
    assert (await bench.snapshots.get("a", made.id))[1] == b"secret"


async def test_a_deleted_version_is_gone_and_its_id_is_not_used_again(bench: Bench) -> None:
    await bench.documents.create("a")
    made = await keep(bench, "a", b"1")
    await bench.snapshots.delete("a", made.id)
    with pytest.raises(SnapshotMissing):
        await bench.snapshots.get("a", made.id)
    with pytest.raises(SnapshotMissing):
        await bench.snapshots.delete("a", made.id)
    assert (await keep(bench, "a", b"2")).id > made.id


@pytest.mark.parametrize("number", [0, -1, 1 << 63, 1 << 80])
async def test_a_number_that_is_no_id_is_missing(bench: Bench, number: int) -> None:
    await bench.documents.create("a")
    with pytest.raises(SnapshotMissing):
        await bench.snapshots.get("a", number)


async def test_a_damaged_version_is_missing_and_the_cause_says_why(bench: Bench) -> None:
    await bench.documents.create("a")
    made = await keep(bench, "a", b"1")
    await bench.damage_snapshot("a", made.id)
    with pytest.raises(SnapshotMissing) as caught:
        await bench.snapshots.get("a", made.id)
    assert "checksum" in str(caught.value.__cause__)


async def test_versions_need_a_document_that_is_there(bench: Bench) -> None:
    with pytest.raises(DocumentMissing):
        await keep(bench, "a", b"1")
    with pytest.raises(DocumentMissing):
        await bench.snapshots.list("a")
    await bench.documents.create("a")
    made = await keep(bench, "a", b"1")
    await bench.documents.delete("a")
    for call in (keep(bench, "a", b"2"), bench.snapshots.list("a"), bench.snapshots.get("a", made.id)):
        with pytest.raises(DocumentDeleted):
            await call


async def test_loading_uses_no_version_and_compaction_touches_none(bench: Bench) -> None:
    entry = Entries()
    await bench.log.append([entry("a", b"1")])
    made = await keep(bench, "a", b"version")
    assert (await bench.log.load("a")).all_updates == (b"1",)
    for number in range(3):
        read = await bench.log.load("a")
        await bench.log.compact("a", folded(read, b"fold %d" % number))
        await bench.log.append([entry("a", b"u")])
    assert (await bench.snapshots.get("a", made.id))[1] == b"version"
    assert await bench.snapshots.list("a") == (made,)
    assert (await bench.documents.get("a")).bytes == len(b"fold 2") + 1
