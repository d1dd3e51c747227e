"""What a database adds to the contract: several stores on one of it, its schema, its limits, its secrets."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import text

from collab.errors import DocumentDeleted, StoreUnavailable
from collab.store import SqlStore, Timeouts, migrate, open_store
from collab.store.port import LogEntry
from collab.store.sqlite import SqliteDatabase
from tests.support.postgres import PASSWORD, PostgresServer, postgres_server, postgres_url
from tests.support.stores import Entries, database_url, folded

__all__ = ["database_url", "postgres_server", "postgres_url"]


async def test_l1_what_was_appended_is_there_after_a_restart(database_url: str) -> None:
    store = await open_store(database_url)
    await store.log.append([LogEntry("a", b"1", "n", 1)])
    await store.close()
    store = await open_store(database_url)
    assert (await store.log.load("a")).all_updates == (b"1",)
    assert (await store.log.append([LogEntry("a", b"1", "n", 1)])).last_seq == {"a": 1}
    await store.close()


async def test_two_stores_on_one_database_share_one_sequence(database_url: str) -> None:
    stores = [await open_store(database_url), await open_store(database_url)]

    async def write(store: SqlStore, make: Entries) -> list[int]:
        return [(await store.log.append([make("a", b"u"), make("b", b"u")])).last_seq["a"] for _ in range(15)]

    seen = await asyncio.gather(*(write(store, Entries(f"n{n}")) for n, store in enumerate(stores * 2)))
    assert sorted(seq for seqs in seen for seq in seqs) == list(range(1, 61))
    assert all(seqs == sorted(seqs) for seqs in seen)
    for store in stores:
        assert [row.seq for row in (await store.log.load("b")).updates] == list(range(1, 61))
        await store.close()


async def test_two_stores_see_each_other_compact_and_delete(database_url: str) -> None:
    one, two = await open_store(database_url), await open_store(database_url)
    await one.log.append([LogEntry("a", b"1", "n", 1)])
    read = await two.log.load("a")
    assert await one.log.compact("a", folded(read, b"[1]"))
    assert not await two.log.compact("a", folded(read, b"(1)"))
    assert (await two.log.load("a")).snapshot == b"[1]"
    await two.documents.delete("a")
    assert (await one.log.append([LogEntry("a", b"2", "n", 2)])).deleted == {"a"}
    with pytest.raises(DocumentDeleted):
        await one.log.load("a")
    await one.close()
    await two.close()


async def test_a_row_moved_to_another_document_fails_its_checksum(database_url: str) -> None:
    store = await open_store(database_url)
    await store.log.append([LogEntry("a", b"secret", "n", 1), LogEntry("b", b"x", "n", 2)])
    async with store._database.writing() as connection:
        await connection.execute(text("UPDATE updates SET seq = 9, document_id = 3 - document_id WHERE number = 1"))
    stored = await store.log.load("b")
    assert (stored.all_updates, stored.damage) == ((b"x",), ("update 9 fails its checksum and was left out",))
    await store.close()


async def test_counters_tell_rows_transactions_and_repeats(database_url: str) -> None:
    store = await open_store(database_url)
    batch = [LogEntry("a", b"1", "n", 1), LogEntry("b", b"2", "n", 2)]
    await store.log.append(batch)
    await store.log.append([*batch, LogEntry("a", b"3", "n", 3)])
    await store.log.compact("a", folded(await store.log.load("a"), b"[13]"))
    counted = store.counters
    assert (counted.append_transactions, counted.appended_rows, counted.repeated_rows) == (2, 3, 2)
    assert (counted.careful_appends, counted.compactions) == (1, 1)
    await store.close()


async def test_tables_and_migrations_are_equal(database_url: str) -> None:
    await asyncio.to_thread(migrate.upgrade, database_url)
    await asyncio.to_thread(command.check, migrate.config(database_url))
    assert (await asyncio.to_thread(migrate.current, database_url)).revision == migrate.head()


async def test_migrations_go_back_and_forth(database_url: str) -> None:
    await asyncio.to_thread(migrate.upgrade, database_url)
    await asyncio.to_thread(command.downgrade, migrate.config(database_url), "base")
    assert (await asyncio.to_thread(migrate.current, database_url)).revision is None
    await asyncio.to_thread(migrate.upgrade, database_url)
    await asyncio.to_thread(migrate.upgrade, database_url)
    assert (await asyncio.to_thread(migrate.current, database_url)).revision == migrate.head()


async def test_an_outage_says_no_values_and_no_password(database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    store = await open_store(database_url)
    async with store._database.writing() as connection:
        await connection.execute(text("ALTER TABLE updates RENAME TO hidden"))
    with pytest.raises(StoreUnavailable) as caught:
        await store.log.append([LogEntry("a", b"confidential", "n", 1, "confidential")])
    said = f"{caught.value!r} {caught.value.__cause__} {caplog.text} {store!r}"
    assert "confidential" not in said
    assert PASSWORD not in said
    assert caught.value.__cause__ is not None
    await store.close()


# --- SQLite ---------------------------------------------------------------------------------------------------------


async def on_the_appending_connection(store: SqlStore, statement: str) -> tuple[int, ...]:
    assert isinstance(store._database, SqliteDatabase)
    appender = store._database._appender
    ask = lambda: appender._connected().execute(statement).fetchone()  # noqa: E731 - runs in the connection's thread
    found: tuple[int, ...] = await asyncio.get_running_loop().run_in_executor(appender.thread, ask)
    return found


async def test_p1_an_sqlite_commit_is_an_fsync(tmp_path: Path) -> None:
    store = await open_store(f"sqlite:///{tmp_path / 'collab.db'}")
    async with store._database.writing() as connection:
        found = [
            (await connection.execute(text(f"PRAGMA {name}"))).scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        ]
    assert found == ["wal", 2, 1, 5000]
    for name, value in (("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1), ("busy_timeout", 5000)):
        assert await on_the_appending_connection(store, f"PRAGMA {name}") == (value,)
    async with store._database.reading() as connection:
        with pytest.raises(Exception, match="readonly"):
            await connection.execute(text("DELETE FROM documents"))
    await store.close()


async def test_a_full_disk_is_an_outage_and_ends(tmp_path: Path) -> None:
    store = await open_store(f"sqlite:///{tmp_path / 'collab.db'}")
    await store.log.append([LogEntry("a", b"1", "n", 1)])
    [pages] = await on_the_appending_connection(store, "PRAGMA page_count")
    await on_the_appending_connection(store, f"PRAGMA max_page_count = {pages}")
    big = [LogEntry("b", b"2", "n", 2), LogEntry("a", b"x" * 500_000, "n", 3)]
    with pytest.raises(StoreUnavailable, match="full"):
        await store.log.append(big)
    assert (await store.log.load("a")).all_updates == (b"1",)
    assert await store.log.last_seq("b") == 0
    await on_the_appending_connection(store, "PRAGMA max_page_count = 1000000")
    assert (await store.log.append(big)).last_seq == {"a": 2, "b": 1}
    await store.close()


async def test_a_write_lock_held_elsewhere_is_an_outage_and_ends(tmp_path: Path) -> None:
    path = tmp_path / "collab.db"
    store = SqlStore(f"sqlite:///{path}", timeouts=Timeouts(lock_s=0.05))
    await store.open()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked"):
        await store.log.append([LogEntry("a", b"1", "n", 1)])
    assert (await store.log.load("a")).all_updates == ()
    other.execute("COMMIT")
    other.close()
    assert (await store.log.append([LogEntry("a", b"1", "n", 1)])).last_seq == {"a": 1}
    await store.close()


async def test_processes_that_start_together_make_one_sqlite_database(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'collab.db'}"
    program = (
        "import asyncio, sys; from collab.store import open_store; from collab.store.port import LogEntry\n"
        "async def main():\n"
        f"    store = await open_store({url!r})\n"
        "    await store.log.append([LogEntry('a', b'u', sys.argv[1], 1)])\n"
        "    await store.close()\n"
        "asyncio.run(main())"
    )
    started = [
        subprocess.Popen([sys.executable, "-W", "error", "-c", program, str(number)], stderr=subprocess.PIPE)
        for number in range(3)
    ]
    for process in started:
        assert process.communicate()[1] == b""
        assert process.returncode == 0
    store = await open_store(url)
    assert await store.log.last_seq("a") == 3
    await store.close()


async def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="its folder is missing"):
        await open_store(f"sqlite:///{tmp_path / 'nowhere' / 'collab.db'}")


async def test_a_file_that_is_no_database_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "collab.db").write_bytes(b"this is a letter to my bank" * 100)
    with pytest.raises(StoreUnavailable, match="not a database"):
        await open_store(f"sqlite:///{tmp_path / 'collab.db'}")


# --- PostgreSQL -----------------------------------------------------------------------------------------------------


@pytest.mark.postgres
async def test_postgres_is_migrated_only_when_asked(postgres_url: str) -> None:
    waiting = SqlStore(postgres_url)
    with pytest.raises(StoreUnavailable, match="has no tables yet; run `collab migrate`"):
        await waiting.open()
    stores = [SqlStore(postgres_url, migrate=True) for _ in range(3)]
    await asyncio.gather(*(store.open() for store in stores))
    await waiting.open()
    for store in [waiting, *stores]:
        assert (await store.check()).ok
        await store.close()


@pytest.mark.postgres
async def test_names_compare_bytewise_whatever_the_database_s_language(
    postgres_url: str, postgres_server: PostgresServer
) -> None:
    await asyncio.to_thread(migrate.upgrade, postgres_url)
    [found] = await postgres_server.run(
        "SELECT collation_name FROM information_schema.columns WHERE table_name = 'documents' AND column_name = 'name'",
        database=postgres_url.rsplit("/", 1)[1],
    )
    assert found["collation_name"] == "C"


@pytest.mark.postgres
async def test_a_wrong_password_is_an_outage_that_shows_no_password(postgres_server: PostgresServer) -> None:
    url = postgres_server.url().replace("tester:", "tester:hunter2")
    with pytest.raises(StoreUnavailable, match="password authentication failed") as caught:
        await open_store(url)
    assert "hunter2" not in f"{caught.value!r} {caught.value.__cause__!r}"
