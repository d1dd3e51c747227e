"""A real PostgreSQL that is restarted, killed, frozen, locked, made read-only or cut off at the worst moment.

The rules: an outage raises `StoreUnavailable`, leaves nothing half done, ends by itself, and a call repeated after a
lost reply is stored once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime

import asyncpg
import pytest
from sqlalchemy.engine import make_url

from collab.errors import DocumentsBusy, StoreUnavailable
from collab.store import SqlStore, Timeouts
from collab.store.database import Batch
from collab.store.port import LogEntry
from tests.support.postgres import PostgresServer, postgres_server, postgres_url
from tests.support.stores import Entries, folded

__all__ = ["postgres_server", "postgres_url"]

pytestmark = pytest.mark.postgres

SHORT = Timeouts(connect_s=1, statement_s=0.5, lock_s=0.3)


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[SqlStore]:
    made = SqlStore(postgres_url, migrate=True, timeouts=SHORT)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def brief(postgres_url: str) -> AsyncIterator[SqlStore]:
    """A store that waits briefly for a lock, and whose statements may take long."""
    made = SqlStore(postgres_url, migrate=True, timeouts=Timeouts(lock_s=0.2))
    await made.open()
    yield made
    await made.close()


@pytest.fixture
def entry() -> Entries:
    return Entries()


class CuttingProxy:
    """Passes bytes on, until told to swallow the server's next answer and cut the connection."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._tasks: set[asyncio.Task[None]] = set()
        self._clients: set[asyncio.StreamWriter] = set()
        self.swallow_next_answer = False
        self.cuts = 0

    def say(self, message: bytes) -> None:
        """Send the clients something the server did not."""
        for client in self._clients:
            client.write(message)

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.add(writer)
        upstream, to_server = await asyncio.open_connection("127.0.0.1", self._target)
        forward = asyncio.create_task(self._pass(reader, to_server, from_server=False))
        back = asyncio.create_task(self._pass(upstream, writer, from_server=True))
        self._tasks |= {forward, back}
        await asyncio.wait([forward, back], return_when=asyncio.FIRST_COMPLETED)
        self._clients.discard(writer)
        for stream in (writer, to_server):
            stream.transport.abort()

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, from_server: bool) -> None:
        with suppress(ConnectionError):
            while data := await source.read(65536):
                if from_server and self.swallow_next_answer:
                    self.swallow_next_answer = False
                    self.cuts += 1
                    return
                target.write(data)
                await target.drain()

    async def close(self) -> None:
        self._server.close()
        await self._server.wait_closed()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def test_l3_an_append_whose_reply_is_lost_is_stored_once(
    postgres_url: str, postgres_server: PostgresServer, store: SqlStore, entry: Entries
) -> None:
    proxy = CuttingProxy(postgres_server.port)
    through = SqlStore(make_url(postgres_url).set(port=await proxy.start()), timeouts=SHORT)
    await through.open()
    await through.log.append([entry("a", b"1")])
    proxy.swallow_next_answer = True  # the statement is prepared, so the next answer comes after the commit
    appended = await through.log.append([entry("a", b"2"), entry("b", b"3")])
    assert (appended.last_seq, proxy.cuts) == ({"a": 2, "b": 1}, 1)
    assert (through.counters.careful_appends, through.counters.repeated_rows) == (1, 2)
    assert (await store.log.load("a")).all_updates == (b"1", b"2")
    await through.close()
    await proxy.close()


async def test_f14_the_last_words_of_a_dying_server_are_an_outage(
    postgres_url: str, postgres_server: PostgresServer, store: SqlStore, entry: Entries
) -> None:
    proxy = CuttingProxy(postgres_server.port)
    through = SqlStore(make_url(postgres_url).set(port=await proxy.start()), timeouts=SHORT)
    await through.open()
    await through.log.append([entry("a", b"1")])
    fields = b"SFATAL\x00C57P02\x00Mterminating connection\x00\x00"
    proxy.say(b"E" + (len(fields) + 4).to_bytes(4, "big") + fields)
    for _ in range(20):  # turns of the loop, so that it arrives before the append is sent
        await asyncio.sleep(0)
    late = [entry("a", b"2")]
    for _ in range(3):
        with suppress(StoreUnavailable):
            await through.log.append(late)
            break
    assert (await through.log.append(late)).last_seq == {"a": 2}
    assert (await store.log.load("a")).all_updates == (b"1", b"2")
    await through.close()
    await proxy.close()


async def test_sessions_ended_by_the_administrator_are_replaced(
    postgres_server: PostgresServer, store: SqlStore, entry: Entries
) -> None:
    for _ in range(3):
        await asyncio.gather(*(store.log.append([entry("a", b"u")]) for _ in range(4)))
        await store.log.load("a")
        await postgres_server.run(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'collab'"
        )
    assert (await store.log.load("a")).last_seq == 12
    assert (await store.log.append([entry("a", b"u")])).last_seq == {"a": 13}


async def test_f15_a_restart_fails_no_call_that_comes_after_it(
    postgres_server: PostgresServer, store: SqlStore, entry: Entries
) -> None:
    await asyncio.gather(*(store.log.append([entry("a", b"u")]) for _ in range(4)))
    await asyncio.gather(*(store.log.load("a") for _ in range(6)))
    await asyncio.to_thread(postgres_server.restart)
    assert (await store.documents.get("a")).seq == 4
    await asyncio.gather(*(store.log.load("a") for _ in range(6)))
    await asyncio.gather(*(store.log.append([entry("a", b"u")]) for _ in range(4)))
    assert await store.log.last_seq("a") == 8


async def test_p1_f14_kill_9_loses_nothing_that_was_answered(postgres_server: PostgresServer, store: SqlStore) -> None:
    answered: list[LogEntry] = []
    failed: list[LogEntry] = []
    enough = asyncio.Event()

    async def write(make: Entries) -> None:
        while True:
            batch = [make(f"d{number}", b"u") for number in range(3)]
            try:
                await store.log.append(batch)
            except StoreUnavailable:
                failed.extend(batch)
                return
            answered.extend(batch)
            if len(answered) > 60:
                enough.set()

    writing = [asyncio.create_task(write(Entries(f"n{number}"))) for number in range(3)]
    await enough.wait()
    await asyncio.to_thread(postgres_server.kill)
    try:
        await asyncio.gather(*writing)
        assert not (await store.check()).ok
    finally:
        await asyncio.to_thread(postgres_server.start)
    assert (await store.check()).ok
    for number in range(3):
        stored = await store.log.load(f"d{number}")
        assert stored.last_seq >= sum(kept.document == f"d{number}" for kept in answered)
        assert [row.seq for row in stored.updates] == list(range(1, stored.last_seq + 1))
    await store.log.append(failed)
    assert await store.log.last_seq("d0") == len(answered + failed) // 3


@pytest.mark.parametrize("mode", ["ACCESS EXCLUSIVE", "SHARE"])
@pytest.mark.parametrize("table", ["updates", "documents"])
async def test_f17_a_table_locked_elsewhere_is_an_outage_and_ends(
    postgres_url: str, store: SqlStore, entry: Entries, table: str, mode: str
) -> None:
    await store.log.append([entry("a", b"1")])
    other = await asyncpg.connect(postgres_url)
    late = [entry("b", b"2"), entry("a", b"3")]
    async with other.transaction():
        await other.execute(f"LOCK TABLE {table} IN {mode} MODE")
        with pytest.raises(StoreUnavailable, match="timeout") as raised:
            await store.log.append(late)
        assert not isinstance(raised.value, DocumentsBusy), "no document is to blame"
    await other.close()
    assert await store.log.last_seq("b") == 0
    assert (await store.log.append(late)).last_seq == {"a": 2, "b": 1}


async def test_f17_documents_locked_elsewhere_are_named_and_the_others_need_not_wait(
    postgres_url: str, brief: SqlStore, entry: Entries
) -> None:
    first = [entry(name, b"1") for name in "abcd"]
    await brief.log.append(first)
    locked, free = [entry("a", b"2"), entry("c", b"2")], [entry("b", b"2"), entry("d", b"2"), entry("new", b"1")]
    other, folding = await asyncpg.connect(postgres_url), await asyncpg.connect(postgres_url)
    async with other.transaction(), folding.transaction():
        await other.execute("SELECT 1 FROM documents WHERE name IN ('a', 'c', 'elsewhere') FOR UPDATE")
        await folding.execute("SELECT 1 FROM documents WHERE name = 'd' FOR KEY SHARE")  # as a new snapshot does
        with pytest.raises(DocumentsBusy) as raised:
            await brief.log.append([*locked, *free])
        assert raised.value.documents == {"a", "c"}
        assert await brief.log.last_seqs(["a", "b", "c", "d", "new"]) == dict.fromkeys("abcd", 1)
        assert (await brief.log.append(free)).last_seq == {"b": 2, "d": 2, "new": 1}
        with pytest.raises(DocumentsBusy) as raised:
            await brief.log.append(locked)
        assert raised.value.documents == {"a", "c"}
    await other.close()
    await folding.close()
    appended = await brief.log.append(locked)
    assert (appended.last_seq, appended.repeated) == ({"a": 2, "c": 2}, False)


async def test_f17_documents_locked_while_a_lost_connection_is_made_up_for_are_named_too(
    postgres_url: str, postgres_server: PostgresServer, brief: SqlStore, entry: Entries
) -> None:
    await brief.log.append([entry("a", b"1"), entry("b", b"1")])
    other = await asyncpg.connect(postgres_url)
    late = [entry("a", b"2"), entry("b", b"2")]
    async with other.transaction():
        await other.execute("SELECT 1 FROM documents WHERE name = 'a' FOR UPDATE")
        await _reconnect(postgres_server)  # so that the append finds its connection dead, and has to look first
        with pytest.raises(DocumentsBusy) as raised:
            await brief.log.append(late)
        assert raised.value.documents == {"a"}
        assert await brief.log.last_seq("b") == 1
    await other.close()
    assert (await brief.log.append(late)).last_seq == {"a": 2, "b": 2}


async def test_f17_a_document_that_is_being_created_elsewhere_holds_up_new_documents_only(
    postgres_url: str, brief: SqlStore, entry: Entries
) -> None:
    await brief.log.append([entry("old", b"1")])
    old, new, made = entry("old", b"2"), entry("new", b"1"), entry("made elsewhere", b"1")
    other = await asyncpg.connect(postgres_url)
    creating = other.transaction()
    await creating.start()
    await other.execute(
        "INSERT INTO documents (name, meta, created_at, updated_at, last_seq)"
        " VALUES ('made elsewhere', '{}', now(), now(), 0)"
    )
    with pytest.raises(DocumentsBusy) as raised:
        await brief.log.append([old, new, made])
    assert made.document in raised.value.documents
    assert old.document not in raised.value.documents
    assert (await brief.log.append([old])).last_seq == {"old": 2}
    assert (await brief.log.append([new])).last_seq == {"new": 1}
    await creating.rollback()
    await other.close()
    assert (await brief.log.append([made])).last_seq == {"made elsewhere": 1}


async def test_f17_an_append_waits_for_a_row_as_long_as_it_is_told_to(
    postgres_url: str, store: SqlStore, entry: Entries
) -> None:
    usual = SqlStore(postgres_url)
    await usual.open()
    async with usual._database.reading() as connection:
        assert (await connection.exec_driver_sql("SHOW lock_timeout")).scalar_one() == "5s"
    for row_wait_s, told in ((0.75, "750ms"), (2.5, "2500ms"), (60.0, "5s")):
        batch = Batch([], datetime.now(UTC), row_wait_s=row_wait_s)
        async with usual._database.appending(batch) as connection:
            assert (await connection.exec_driver_sql("SHOW lock_timeout")).scalar_one() == told
    await usual.log.append([entry("a", b"1")])
    other = await asyncpg.connect(postgres_url)
    async with other.transaction():
        await other.execute("SELECT 1 FROM documents WHERE name = 'a' FOR UPDATE")
        with pytest.raises(DocumentsBusy):
            await usual.log.append([entry("a", b"2")], row_wait_s=0.05)
        patient = asyncio.create_task(usual.log.append([entry("a", b"2")], row_wait_s=60.0))
        await _until_somebody_waits_for_a_lock(other)
    assert (await patient).last_seq == {"a": 2}
    await other.close()
    await usual.close()


async def _until_somebody_waits_for_a_lock(connection: asyncpg.Connection) -> None:
    async with asyncio.timeout(20):
        while not await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            await asyncio.sleep(0.01)


async def test_a_locked_document_holds_up_no_other_document_s_readers(
    postgres_url: str, store: SqlStore, entry: Entries
) -> None:
    await store.log.append([entry("a", b"1"), entry("b", b"2")])
    other = await asyncpg.connect(postgres_url)
    async with other.transaction():
        await other.execute("SELECT 1 FROM documents WHERE name = 'a' FOR UPDATE")
        assert (await store.log.append([entry("b", b"3")])).last_seq == {"b": 2}
        assert (await store.log.load("a")).all_updates == (b"1",)
        with pytest.raises(StoreUnavailable):
            await store.log.append([entry("a", b"4")])
    await other.close()


async def test_f18_a_read_only_database_still_loads(
    postgres_server: PostgresServer, store: SqlStore, entry: Entries
) -> None:
    await store.log.append([entry("a", b"1")])
    database = (await postgres_server.run("SELECT current_database()"))[0]["current_database"]
    assert database == "postgres"
    name = store._database.url.database
    await postgres_server.run(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    await _reconnect(postgres_server)
    with pytest.raises(StoreUnavailable, match="read-only"):
        await store.log.append([entry("a", b"2")])
    assert (await store.log.load("a")).all_updates == (b"1",)
    await postgres_server.run(f"ALTER DATABASE {name} SET default_transaction_read_only = off")
    await _reconnect(postgres_server)
    assert (await store.log.append([entry("a", b"2")])).last_seq == {"a": 2}


async def _reconnect(server: PostgresServer) -> None:
    await server.run("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'collab'")


async def test_a_frozen_server_is_an_outage_in_bounded_time_and_ends(
    postgres_server: PostgresServer, store: SqlStore, entry: Entries
) -> None:
    await store.log.append([entry("a", b"1")])
    frozen = [entry("a", b"2")]
    postgres_server.pause()
    try:
        async with asyncio.timeout(60):
            with pytest.raises(StoreUnavailable):
                await store.log.append(frozen)
            with pytest.raises(StoreUnavailable):
                await store.log.load("a")
            assert not (await store.check()).ok
    finally:
        postgres_server.resume()
    assert (await store.log.append(frozen)).last_seq == {"a": 2}
    assert (await store.log.load("a")).all_updates == (b"1", b"2")


async def test_l2_compactions_that_meet_in_the_middle_do_not_both_win(
    postgres_url: str, postgres_server: PostgresServer, entry: Entries
) -> None:
    patient = SqlStore(postgres_url, migrate=True)
    await patient.open()
    await patient.log.append([entry("a", b"1"), entry("a", b"2")])
    read = await patient.log.load("a")
    other = await asyncpg.connect(postgres_url)
    async with other.transaction():
        await other.execute("LOCK TABLE snapshots IN SHARE MODE")  # reading goes on, adding waits
        both = [asyncio.create_task(patient.log.compact("a", folded(read, update))) for update in (b"[12]", b"(12)")]
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        while (await postgres_server.run(waiting))[0]["count"] < 2:
            await asyncio.sleep(0)
        # Appends are not held up by a compaction.
        assert (await patient.log.append([entry("a", b"3")])).last_seq == {"a": 3}
    await other.close()
    assert sorted(await asyncio.gather(*both)) == [False, True]
    assert (await patient.log.load("a")).all_updates[1:] == (b"3",)
    await patient.close()
