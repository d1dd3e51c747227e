"""The contract of grants, links, tickets, revocations and their epoch, on every adapter."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256
from typing import Any

import pytest

from collab.errors import DocumentDeleted, DocumentMissing, LinkMissing, Misuse
from collab.store import access_rules
from collab.store.access_port import AccessChange, AccessTail, Grant, Link
from tests.support.stores import START, Bench, bench

__all__ = ["bench"]

HOUR = timedelta(hours=1)


def hashed(secret: str) -> bytes:
    return sha256(secret.encode()).digest()


@pytest.fixture
async def store(bench: Bench) -> Any:
    for name in ("a", "b", "gone"):
        await bench.documents.create(name)
    await bench.documents.delete("gone")
    return bench.store


async def refused(call: Awaitable[object], kind: type[Exception]) -> None:
    with pytest.raises(kind):
        await call


# --- Grants ---------------------------------------------------------------------------------------------------------


async def test_a_grant_is_what_was_put_last(store: Any) -> None:
    assert await store.grants.role("a", "ann") is None
    first = await store.grants.put("a", "ann", "read", by="root")
    assert (first.document, first.subject, first.role, first.granted_by) == ("a", "ann", "read", "root")
    assert first.granted_at.utcoffset() == timedelta(0)
    second = await store.grants.put("a", "ann", "admin", by="boss")
    assert (second.role, second.granted_by) == ("admin", "boss")
    assert second.granted_at > first.granted_at
    assert await store.grants.role("a", "ann") == "admin"
    assert await store.grants.role("b", "ann") is await store.grants.role("a", "Ann") is None


async def test_the_same_grant_again_changes_nothing(store: Any) -> None:
    first = await store.grants.put("a", "ann", "write", by="root")
    assert await store.grants.put("a", "ann", "write", by="other") == first
    assert await store.access_changes.epoch() == 1


async def test_a_grant_is_shown_with_whoever_gave_it(store: Any) -> None:
    put = await store.grants.put("a", "ann", "write", by="root")
    assert await store.grants.get("a", "ann") == put
    assert await store.grants.get("a", "Ann") is await store.grants.get("b", "ann") is None
    assert await store.grants.get("a", "a\0") is None


async def test_a_grant_is_taken_back_once(store: Any) -> None:
    await store.grants.put("a", "ann", "write", by="root")
    await store.grants.put("a", "bob", "write", by="root")
    assert await store.grants.remove("a", "ann") is True
    assert await store.grants.remove("a", "ann") is False
    assert [await store.grants.role("a", who) for who in ("ann", "bob")] == [None, "write"]
    assert await store.access_changes.epoch() == 3


@pytest.mark.parametrize(("name", "error"), [("never", DocumentMissing), ("gone", DocumentDeleted)])
async def test_who_may_what_is_said_of_documents_that_are_there(store: Any, name: str, error: type[Exception]) -> None:
    await refused(store.grants.put(name, "ann", "read", by="root"), error)
    await refused(store.grants.remove(name, "ann"), error)
    await refused(store.grants.get(name, "ann"), error)
    await refused(store.grants.of_document(name), error)
    await refused(store.links.create(name, "read", hashed("s"), by="root"), error)
    await refused(store.links.of_document(name), error)
    await refused(store.links.revoke(name, 1), error)
    assert await store.grants.role(name, "ann") is None
    assert await store.access_changes.epoch() == 0


async def test_g2_grants_and_links_of_a_deleted_document_are_worth_nothing(store: Any) -> None:
    await store.grants.put("a", "ann", "admin", by="root")
    await store.links.create("a", "write", hashed("s"), by="root")
    await store.documents.delete("a")
    assert await store.grants.role("a", "ann") is None
    assert (await store.grants.documents_of("ann")).grants == ()
    assert await store.links.find(hashed("s")) is None


@pytest.mark.parametrize("role", ["", "owner", "READ", "read ", "write\x00"])
async def test_only_the_four_roles_are_kept(store: Any, role: str) -> None:
    await refused(store.grants.put("a", "ann", role, by="root"), Misuse)
    await refused(store.links.create("a", role, hashed("s"), by="root"), Misuse)
    assert await store.access_changes.epoch() == 0


@pytest.mark.parametrize("subject", ["", "ann\x00", "ann\ud800", "x" * 256])
async def test_g01_a_subject_that_could_become_another_has_no_grants(store: Any, subject: str) -> None:
    await store.grants.put("a", "ann\ufffd", "admin", by="root")
    await refused(store.grants.put("a", subject, "admin", by="root"), Misuse)
    await refused(store.revocations.revoke("subject", subject, not_before=START, expires_at=START, by="root"), Misuse)
    assert await store.grants.role("a", subject) is None
    assert await store.grants.remove("a", subject) is False
    assert (await store.grants.documents_of(subject)).grants == ()
    assert await store.grants.role("a", "ann\ufffd") == "admin"


@pytest.mark.parametrize("subject", ["'; DROP TABLE grants; --", "%", "_", "ü ✓ 𝄞", "a\nb", "x" * 255, "𝄞" * 255])
async def test_g01_any_other_subject_is_kept_as_it_is(store: Any, subject: str) -> None:
    put = await store.grants.put("a", subject, "comment", by=f"{subject}\x00\ud800")
    assert put.granted_by == f"{subject}\ufffd\ufffd"
    assert (await store.grants.of_document("a")).grants == (put,)
    assert (await store.grants.documents_of(subject)).grants == (put,)
    assert await store.grants.role("a", subject) == "comment"


async def pages(ask: Any, **query: Any) -> list[Grant]:
    found: list[Grant] = []
    after = None
    while True:
        page = await ask(after=after, limit=2, **query)
        assert len(page.grants) <= 2
        found += page.grants
        after = page.next
        if after is None:
            return found


async def test_the_grants_of_a_document_come_in_pages_in_code_point_order(store: Any) -> None:
    subjects = ["b", "a", "B", "a-b", "a_b", "ä", "\uffff", "𝄞"]
    for subject in subjects:
        await store.grants.put("a", subject, "read", by="root")
        await store.grants.put("b", f"{subject}!", "read", by="root")
    found = await pages(lambda **query: store.grants.of_document("a", **query))
    assert [grant.subject for grant in found] == sorted(subjects)
    assert (await store.grants.of_document("a", after="zzz\x00", limit=1)).grants[0].subject == "ä"


async def test_the_documents_of_a_subject_come_in_pages_by_name(store: Any) -> None:
    names = [f"p:{number}" for number in range(5)]
    for name in [*names, "q"]:
        await store.documents.create(name)
        await store.grants.put(name, "ann", "read", by="root")
        await store.grants.put(name, "bob", "write", by="root")
    await store.documents.delete("p:3")
    found = await pages(lambda **query: store.grants.documents_of("ann", **query), prefix="p:")
    assert [(grant.document, grant.role) for grant in found] == [(f"p:{n}", "read") for n in (0, 1, 2, 4)]
    assert [grant.document for grant in (await store.grants.documents_of("ann", prefix="p")).grants][-1] == "p:4"
    assert (await store.grants.documents_of("ann", prefix="\x00")).grants == ()


# --- Links ----------------------------------------------------------------------------------------------------------


async def test_g3_e10_a_link_is_found_by_its_hash_until_it_is_revoked(store: Any) -> None:
    made = await store.links.create("a", "write", hashed("s"), by="ann\x00")
    assert made == Link(made.id, "a", "write", "ann\ufffd", made.created_at, None)
    assert await store.links.find(hashed("s")) == made
    assert await store.links.find(hashed("t")) is None
    await store.links.revoke("a", made.id)
    await store.links.revoke("a", made.id)
    assert await store.links.find(hashed("s")) is None
    assert await store.links.of_document("a") == ()
    assert await store.access_changes.epoch() == 2
    await refused(store.links.create("a", "admin", hashed("s"), by="ann"), Misuse)


async def test_g3_e10_an_expired_link_lets_nobody_in_and_is_still_listed(store: Any) -> None:
    made = await store.links.create("a", "read", hashed("s"), by="ann", expires_at=datetime.now(UTC) - HOUR)
    over = await store.links.create("a", "read", hashed("t"), by="ann", expires_at=START)
    assert made.expires_at.utcoffset() == timedelta(0)
    assert await store.links.find(hashed("s")) == made  # the clock of these tests is in January 2026
    assert await store.links.find(hashed("t")) is None
    assert await store.links.of_document("a") == (over, made)


async def test_a_link_made_twice_is_one_and_its_hash_is_nobody_else_s(store: Any) -> None:
    ends = datetime(2030, 1, 1, tzinfo=timezone(timedelta(hours=5)))
    made = await store.links.create("a", "read", hashed("s"), by="ann", expires_at=ends)
    assert await store.links.create("a", "read", hashed("s"), by="ann", expires_at=ends) == made
    await refused(store.links.create("b", "read", hashed("s"), by="ann", expires_at=ends), Misuse)
    await refused(store.links.create("a", "write", hashed("s"), by="ann", expires_at=ends), Misuse)
    await refused(store.links.create("a", "read", hashed("s"), by="ann"), Misuse)
    assert (await store.links.of_document("a"), await store.access_changes.epoch()) == ((made,), 1)


@pytest.mark.parametrize("secret", [b"", b"a secret", bytes(33)])
async def test_g3_e10_what_is_no_hash_is_not_kept(store: Any, secret: bytes) -> None:
    await refused(store.links.create("a", "read", secret, by="ann"), Misuse)
    await refused(store.tickets.put(secret, {}, START + HOUR), Misuse)
    assert await store.links.find(secret) is await store.tickets.take(secret) is None


async def test_links_are_listed_newest_first_and_revoked_by_number(store: Any) -> None:
    made = [await store.links.create("a", "read", hashed(str(number)), by="ann") for number in range(4)]
    other = await store.links.create("b", "read", hashed("b"), by="ann")
    assert await store.links.of_document("a", limit=3) == (made[3], made[2], made[1])
    assert await store.links.of_document("a", before=made[1].id) == (made[0],)
    assert await store.links.of_document("a", before=1 << 80, limit=1) == (made[3],)
    for number in (0, -1, 1 << 80, made[3].id + 1000, other.id):
        await refused(store.links.revoke("a", number), LinkMissing)
    assert await store.links.find(hashed("b")) == other


# --- Tickets --------------------------------------------------------------------------------------------------------


async def test_g4_d14_a_ticket_is_taken_once(store: Any) -> None:
    payload = {"sub": "ann", "role": "write", "deep": [1, 2.5, None, "\x00", "\ud800"]}
    await store.tickets.put(hashed("s"), payload, START + HOUR)
    await store.tickets.put(hashed("s"), payload, START + HOUR)
    assert await store.tickets.take(hashed("t")) is None
    assert await store.tickets.take(hashed("s")) == payload
    assert await store.tickets.take(hashed("s")) is None


async def test_d14_a_ticket_expires(store: Any) -> None:
    await store.tickets.put(hashed("s"), {"sub": "ann"}, START)
    assert await store.tickets.take(hashed("s")) is None


async def test_a_ticket_s_hash_is_nobody_else_s(store: Any) -> None:
    await store.tickets.put(hashed("s"), {"sub": "ann"}, START + HOUR)
    await refused(store.tickets.put(hashed("s"), {"sub": "eve"}, START + HOUR), Misuse)
    await refused(store.tickets.put(hashed("t"), {"sub": float("nan")}, START + HOUR), Misuse)
    assert await store.tickets.take(hashed("s")) == {"sub": "ann"}


async def test_tickets_nobody_used_are_removed_in_time(
    bench: Bench, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_rules, "TICKETS_PER_PURGE", 3)
    for number in range(2):
        await store.tickets.put(hashed(f"old{number}"), {}, START)
    assert await bench.tickets() == 2
    await store.tickets.put(hashed("new"), {"sub": "ann"}, START + HOUR)
    assert await bench.tickets() == 1
    assert await store.tickets.take(hashed("new")) == {"sub": "ann"}


# --- Revocations ----------------------------------------------------------------------------------------------------


async def test_d12_revocations_are_listed_until_they_expire(store: Any) -> None:
    now = START + HOUR
    first = await store.revocations.revoke("token", "t1", not_before=now, expires_at=now + HOUR, by="root\x00")
    second = await store.revocations.revoke("subject", "ann", not_before=now, expires_at=now + HOUR, by="root")
    await store.revocations.revoke("subject", "old", not_before=START, expires_at=START, by="root")
    assert (first.kind, first.value, first.not_before, first.expires_at) == ("token", "t1", now, now + HOUR)
    assert first.revoked_by == "root\ufffd"
    assert await store.revocations.all_current() == (second, first)


async def test_d12_of_two_revocations_the_later_times_count(store: Any) -> None:
    async def revoke(not_before: timedelta, expires_at: timedelta, by: str) -> Any:
        made = await store.revocations.revoke(
            "subject", "ann", not_before=START + not_before, expires_at=START + expires_at, by=by
        )
        return made.not_before - START, made.expires_at - START, made.revoked_by

    assert await revoke(2 * HOUR, 5 * HOUR, "a") == (2 * HOUR, 5 * HOUR, "a")
    assert await revoke(2 * HOUR, 5 * HOUR, "b") == (2 * HOUR, 5 * HOUR, "a")
    assert await revoke(HOUR, 4 * HOUR, "c") == (2 * HOUR, 5 * HOUR, "a")
    assert await store.access_changes.epoch() == 1
    assert await revoke(3 * HOUR, 4 * HOUR, "d") == (3 * HOUR, 5 * HOUR, "d")
    assert await revoke(HOUR, 6 * HOUR, "e") == (3 * HOUR, 6 * HOUR, "e")
    assert await store.access_changes.epoch() == 3


async def test_g7_of_revocations_that_are_named_those_are_told_that_are_current(store: Any) -> None:
    now = START + HOUR
    for kind, value in (("subject", "ann"), ("token", "ann"), ("token", "t1"), ("subject", "bob")):
        await store.revocations.revoke(kind, value, not_before=now, expires_at=now + HOUR, by="root")
    await store.revocations.revoke("subject", "old", not_before=START, expires_at=START, by="root")

    async def told(*named: tuple[str, str]) -> set[tuple[str, str]]:
        found = await store.revocations.current(set(named))
        assert all(one.not_before == now for one in found)
        return {(one.kind, one.value) for one in found}

    assert await told() == set()
    assert await told(("subject", "ann")) == {("subject", "ann")}
    assert await told(("subject", "ann"), ("token", "t1"), ("token", "bob")) == {("subject", "ann"), ("token", "t1")}
    assert await told(("subject", "old"), ("subject", "never")) == set()
    assert len(await told(*[("token", f"n{number}") for number in range(1_000)], ("token", "ann"))) == 1


# --- The epoch ------------------------------------------------------------------------------------------------------


async def change_everything(store: Any) -> int:
    """One of each; the link's id."""
    await store.grants.put("a", "ann", "read", by="root")
    link = await store.links.create("b", "read", hashed("s"), by="root")
    await store.links.revoke("b", link.id)
    times = {"not_before": START, "expires_at": START + HOUR}
    await store.revocations.revoke("subject", "bob", **times, by="root")
    await store.revocations.revoke("token", "t1", **times, by="root")
    await store.grants.remove("a", "ann")
    number: int = link.id
    return number


async def test_g1_d12_every_change_raises_the_epoch_and_says_what_it_is_about(store: Any) -> None:
    assert await store.access_changes.after(0) == AccessTail((), 0)
    link = await change_everything(store)
    changes = (
        AccessChange(1, document="a", subject="ann"),
        AccessChange(2, document="b", link_id=link),
        AccessChange(3, document="b", link_id=link),
        AccessChange(4, subject="bob"),
        AccessChange(5, token="t1"),
        AccessChange(6, document="a", subject="ann"),
    )
    assert await store.access_changes.epoch() == 6
    assert await store.access_changes.after(0) == AccessTail(changes, 6)
    assert await store.access_changes.after(1, limit=2) == AccessTail(changes[1:3], 3)
    assert await store.access_changes.after(6) == AccessTail((), 6)


async def test_g1_d12_what_is_forgotten_is_said_to_be_incomplete(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    await change_everything(store)
    assert await store.access_changes.after(7) == AccessTail((), 6, complete=False)
    monkeypatch.setattr(access_rules, "KEPT_CHANGES", 2)
    await forget(store)
    for known in (0, 4):
        assert await store.access_changes.after(known, limit=1) == AccessTail((), 7, complete=False)
    assert [change.epoch for change in (await store.access_changes.after(5)).changes] == [6, 7]


async def forget(store: Any) -> None:
    """Make one more change, with which old ones are forgotten."""
    await store.grants.put("a", "zoe", "read", by="root")
