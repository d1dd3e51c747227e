"""What a database adds to the access contracts: several nodes on one of it, and what it refuses by itself."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Collection, Iterable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import asyncpg
import pytest
from sqlalchemy import Row, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from collab.errors import StoreUnavailable
from collab.store import SqlStore, Timeouts, access_rules, open_store
from collab.store.access_port import AuditEvent
from collab.store.port import LogEntry
from collab.store.sql_changes import raise_epoch
from tests.support.postgres import postgres_server, postgres_url
from tests.support.stores import database_url

__all__ = ["database_url", "postgres_server", "postgres_url"]

SOON = timedelta(minutes=5)


def hashed(secret: str) -> bytes:
    return sha256(secret.encode()).digest()


@pytest.fixture
async def two(database_url: str) -> AsyncIterator[tuple[SqlStore, SqlStore]]:
    """Two nodes on one database, which holds the document ``a``."""
    stores = await open_store(database_url), await open_store(database_url)
    await stores[0].documents.create("a")
    yield stores
    for store in stores:
        await store.close()


# --- Roles asked for at once ----------------------------------------------------------------------------------------


class Gate:
    """Stands before the query for roles: counts who comes, and keeps them while it is shut."""

    def __init__(self, store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = asyncio.Event()
        self.reached = asyncio.Event()
        self.passed: list[int] = []
        self.breaks = False
        self._roles = store._database.roles
        monkeypatch.setattr(store._database, "roles", self._pass)

    async def _pass(self, connection: AsyncConnection, asked: Collection[tuple[str, str]]) -> Iterable[Row[Any]]:
        self.passed.append(len(asked))
        self.reached.set()
        await self.open.wait()
        if self.breaks:
            raise OSError("cut")
        return await self._roles(connection, asked)


@pytest.fixture
def gate(two: tuple[SqlStore, SqlStore], monkeypatch: pytest.MonkeyPatch) -> Gate:
    return Gate(two[0], monkeypatch)


async def ask(store: SqlStore, *subjects: str) -> list[asyncio.Task[str | None]]:
    """Ask for each role, and come back when all questions are asked."""
    asking = [asyncio.create_task(store.grants.role("a", subject)) for subject in subjects]
    await asyncio.sleep(0)
    return asking


async def test_f35_who_asks_while_a_query_is_on_its_way_shares_the_next(
    two: tuple[SqlStore, SqlStore], gate: Gate
) -> None:
    await two[1].grants.put("a", "s77", "write", by="root")
    [first] = await ask(two[0], "early")
    await gate.reached.wait()
    others = await ask(two[0], *(f"s{number}" for number in range(100)), "early")
    await two[1].grants.put("a", "early", "read", by="root")  # whoever asked before that may not have seen it yet
    [last] = await ask(two[0], "early")
    gate.open.set()
    roles = await asyncio.gather(*others)
    assert [number for number, role in enumerate(roles) if role is not None] == [77, 100]
    assert (await first in (None, "read"), await last) == (True, "read")
    assert gate.passed == [1, 101]


async def test_who_gives_up_asking_leaves_the_question_to_the_others(
    two: tuple[SqlStore, SqlStore], gate: Gate
) -> None:
    await two[1].grants.put("a", "ann", "write", by="root")
    asking = await ask(two[0], "early", "ann", "ann")
    await gate.reached.wait()
    asking[0].cancel()
    gate.open.set()
    assert await asyncio.gather(*asking[1:]) == ["write", "write"]
    with pytest.raises(asyncio.CancelledError):
        await asking[0]


async def test_f14_an_outage_is_told_to_all_who_asked_together(two: tuple[SqlStore, SqlStore], gate: Gate) -> None:
    gate.breaks = True
    [first] = await ask(two[0], "early")
    await gate.reached.wait()
    others = await ask(two[0], *("one", "two", "three"))
    gate.open.set()
    answers = await asyncio.gather(first, *others, return_exceptions=True)
    assert [type(answer) for answer in answers] == [StoreUnavailable] * 4
    assert gate.passed == [1, 3]
    gate.breaks = False
    assert await two[0].grants.role("a", "one") is None


# --- Tickets --------------------------------------------------------------------------------------------------------


async def test_g4_d14_of_all_who_take_a_ticket_at_once_one_gets_it(two: tuple[SqlStore, SqlStore]) -> None:
    for number in range(20):
        secret = hashed(str(number))
        await two[0].tickets.put(secret, {"number": number}, datetime.now(UTC) + SOON)
        taken = await asyncio.gather(*(store.tickets.take(secret) for store in two * 4))
        assert [payload for payload in taken if payload is not None] == [{"number": number}]


async def test_g4_d14_of_two_processes_that_take_tickets_each_gets_its_own(database_url: str) -> None:
    store = await open_store(database_url)
    for number in range(50):
        await store.tickets.put(hashed(str(number)), {"number": number}, datetime.now(UTC) + SOON)
    program = (
        "import asyncio, json, sys; from hashlib import sha256; from collab.store import open_store\n"
        "async def main():\n"
        f"    store = await open_store({database_url!r})\n"
        "    print('ready', flush=True); sys.stdin.readline()\n"
        "    asked = [sha256(str(number).encode()).digest() for number in range(50)]\n"
        "    print(json.dumps([payload for one in asked if (payload := await store.tickets.take(one))]))\n"
        "    await store.close()\n"
        "asyncio.run(main())"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    takers = [subprocess.Popen([sys.executable, "-W", "error", "-c", program], **pipes) for _ in range(2)]
    for taker in takers:
        assert taker.stdout.readline() == "ready\n"
    for taker in takers:
        taker.stdin.write("go\n")
        taker.stdin.flush()
    taken = [json.loads(taker.communicate()[0]) for taker in takers]
    assert sorted(payload["number"] for payloads in taken for payload in payloads) == list(range(50))
    await store.close()


async def test_tickets_are_purged_while_others_purge(
    two: tuple[SqlStore, SqlStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_rules, "TICKETS_PER_PURGE", 1)
    now = datetime.now(UTC)
    await asyncio.gather(*(two[n % 2].tickets.put(hashed(str(n)), {}, now - SOON) for n in range(40)))
    await two[0].tickets.put(hashed("last"), {}, now + SOON)
    async with two[1]._database.reading() as connection:
        assert (await connection.execute(text("SELECT count(*) FROM access_tickets"))).scalar_one() == 1


# --- The epoch ------------------------------------------------------------------------------------------------------


async def test_g1_d12_a_reader_misses_no_change_of_concurrent_writers(two: tuple[SqlStore, SqlStore]) -> None:
    changes = 8
    await two[1].documents.create("b")

    async def write(number: int) -> None:
        store, subject = two[number % 2], f"s{number}"
        for turn in range(changes):
            if number == 0:
                value = {"not_before": datetime.now(UTC), "expires_at": datetime.now(UTC) + SOON}
                await store.revocations.revoke("subject", subject, **value, by="root")
            else:
                await store.grants.put("ab"[number % 2], subject, ("read", "write")[turn % 2], by="root")

    async def read(store: SqlStore, seen: list[int], expected: int) -> None:
        known = 0
        while len(seen) < expected:
            tail = await store.access_changes.after(known, limit=4)
            assert tail.complete
            seen += [change.epoch for change in tail.changes]
            known = tail.through

    writers = 6
    seen: tuple[list[int], list[int]] = ([], [])
    everything = writers * changes
    await asyncio.gather(
        *(write(number) for number in range(writers)),
        *(read(store, epochs, everything) for store, epochs in zip(two, seen, strict=True)),
    )
    assert seen[0] == seen[1] == list(range(1, everything + 1))
    assert await two[0].access_changes.epoch() == everything


async def test_g1_a_change_that_is_undone_leaves_no_hole(two: tuple[SqlStore, SqlStore]) -> None:
    await two[0].grants.put("a", "ann", "read", by="root")
    async with two[0]._database.writing() as connection:
        await raise_epoch(connection, subject="never")
        await connection.rollback()
    await two[1].grants.put("a", "bob", "read", by="root")
    tail = await two[0].access_changes.after(0)
    assert [(change.epoch, change.subject) for change in tail.changes] == [(1, "ann"), (2, "bob")]


@pytest.mark.postgres
async def test_g1_d12_no_epoch_is_seen_before_those_below_it(postgres_url: str) -> None:
    store = await open_store(postgres_url, migrate=True)
    await store.documents.create("a")
    slow = await asyncpg.connect(postgres_url)
    transaction = slow.transaction()
    await transaction.start()
    raised = "UPDATE access_epoch SET epoch = epoch + 1 RETURNING epoch"
    assert await slow.fetchval(raised) == 1
    await slow.execute("INSERT INTO access_changes (epoch, subject) VALUES (1, 'slow')")
    waiting = asyncio.create_task(store.grants.put("a", "fast", "read", by="root"))
    while not await slow.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
        pass
    assert await store.access_changes.epoch() == 0
    assert await store.grants.role("a", "fast") is None
    await transaction.commit()
    await waiting
    tail = await store.access_changes.after(0)
    assert [(change.epoch, change.subject) for change in tail.changes] == [(1, "slow"), (2, "fast")]
    await slow.close()
    await store.close()


@pytest.mark.postgres
async def test_p1_granting_holds_up_no_append(postgres_url: str) -> None:
    store = SqlStore(postgres_url, migrate=True, timeouts=Timeouts(lock_s=0.5))
    await store.open()
    await store.documents.create("a")
    forgotten = await asyncpg.connect(postgres_url)
    await forgotten.execute("BEGIN; UPDATE access_epoch SET epoch = epoch + 1")
    with pytest.raises(StoreUnavailable):
        await store.grants.put("a", "ann", "read", by="root")
    granting = "INSERT INTO grants SELECT id, 'ann', 'read', 'root', now() FROM documents"
    await forgotten.execute(granting)
    assert (await store.log.append([LogEntry("a", b"1", "n", 1)])).last_seq == {"a": 1}
    await forgotten.close()
    await store.close()


# --- The audit log --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("statement", ["UPDATE audit_log SET actor = 'eve'", "DELETE FROM audit_log"])
async def test_g5_the_audit_log_refuses_changes(two: tuple[SqlStore, SqlStore], statement: str) -> None:
    event = AuditEvent("document.delete", datetime.now(UTC), "ann", document="a")
    await two[0].audit.append([event])
    with pytest.raises(DBAPIError, match="the audit log is append-only"):
        async with two[0]._database.writing() as connection:
            await connection.execute(text(statement))
    [entry] = await two[1].audit.page()
    assert entry.event == event


@pytest.mark.postgres
async def test_g5_the_audit_log_is_emptied_on_purpose_only(postgres_url: str) -> None:
    store = await open_store(postgres_url, migrate=True)
    await store.audit.append([AuditEvent("document.open", datetime.now(UTC))])
    operator = await asyncpg.connect(postgres_url)
    with pytest.raises(asyncpg.RaiseError, match="append-only"):
        await operator.execute("TRUNCATE audit_log")
    await operator.execute(
        "BEGIN; ALTER TABLE audit_log DISABLE TRIGGER audit_log_append_only; DELETE FROM audit_log;"
        " ALTER TABLE audit_log ENABLE TRIGGER audit_log_append_only; COMMIT"
    )
    assert await store.audit.page() == ()
    await operator.close()
    await store.close()


# --- What only SQL could let in -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO grants SELECT id, 'eve', 'owner', 'eve', '2026-01-01' FROM documents",
        "INSERT INTO grants VALUES (4711, 'eve', 'admin', 'eve', '2026-01-01')",
        "INSERT INTO access_epoch VALUES (2, 0)",
    ],
)
async def test_the_tables_refuse_what_no_port_writes(two: tuple[SqlStore, SqlStore], statement: str) -> None:
    with pytest.raises(DBAPIError, match=r"(?i)constraint"):
        async with two[0]._database.writing() as connection:
            await connection.execute(text(statement))
