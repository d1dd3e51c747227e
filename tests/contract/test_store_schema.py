"""Two versions of collab on one database while nodes are replaced: expand, migrate, contract.

The version after this one is invented: the real migrations with more behind them, in a folder of its own.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest
from alembic import command
from sqlalchemy import text

from collab.errors import StoreUnavailable
from collab.store import SqlStore, migrate, open_store
from collab.store.access_port import AuditEvent
from collab.store.port import LogEntry
from tests.support.postgres import postgres_server, postgres_url
from tests.support.stores import database_url, folded

__all__ = ["database_url", "postgres_server", "postgres_url"]

EXPAND = (
    'op.add_column("documents", sa.Column("colour", sa.Text)); op.add_column("updates", sa.Column("size", sa.Text))'
)
CONTRACT = 'op.drop_column("documents", "title"); op.execute("UPDATE collab_schema SET oldest = \'{oldest}\'")'

MIGRATION = """
import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "{name}", "{before}", None, None


def upgrade() -> None:
    {steps}
"""

NOW = migrate.head()
OLDEST = "0001"
"""The oldest revision for which there is still room."""
NEXT, AFTER_NEXT = (f"{int(NOW) + ahead:04}" for ahead in (1, 2))

Later = Callable[..., AbstractContextManager[None]]


@pytest.fixture
def later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Later:
    """Makes this process a later collab for a while: one whose migrations go on with these steps."""
    real = migrate.migrations_folder()

    @contextmanager
    def become(*upgrades: str) -> Iterator[None]:
        folder = tmp_path / f"{len(upgrades)}-later"
        if not folder.exists():
            shutil.copytree(real, folder, ignore=shutil.ignore_patterns("__pycache__"))
        before = NOW
        for name, steps in zip((NEXT, AFTER_NEXT), upgrades, strict=False):
            filled = steps.format(oldest=name)
            (folder / "versions" / f"{name}.py").write_text(MIGRATION.format(name=name, before=before, steps=filled))
            before = name
        with monkeypatch.context() as patch:
            patch.setattr(migrate, "migrations_folder", lambda: folder)
            assert migrate.head() == before
            yield

    return become


@pytest.fixture
def earlier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], AbstractContextManager[None]]:
    """Makes this process an earlier collab for a while: one that knows nothing after a revision."""
    real = migrate.migrations_folder()

    @contextmanager
    def become(newest: str) -> Iterator[None]:
        folder = tmp_path / newest
        shutil.copytree(real, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        for script in (folder / "versions").iterdir():
            if script.name[:4] > newest:
                script.unlink()
        with monkeypatch.context() as patch:
            patch.setattr(migrate, "migrations_folder", lambda: folder)
            assert migrate.head() == newest
            yield

    return become


async def write_and_read(store: SqlStore, document: str, number: int) -> None:
    """Everything a node does with its database."""
    assert (await store.log.append([LogEntry(document, b"u", "n", number)])).last_seq[document] >= 1
    assert (await store.log.append([LogEntry(document, b"u", "n", number)])).repeated
    stored = await store.log.load(document)
    assert stored.all_updates[-1] == b"u"
    assert await store.log.compact(document, folded(stored, b"[u]"))
    assert document in {found.name for found in (await store.documents.list()).documents}


async def test_an_expanded_schema_is_used_by_the_version_before_it(database_url: str, later: Later) -> None:
    old = await open_store(database_url)
    await write_and_read(old, "a", 1)
    with later(EXPAND):
        new = await open_store(database_url, migrate=True)
        assert (await new.check()).schema == NEXT
        await write_and_read(new, "b", 2)

    status = await old.check()
    assert (status.ok, status.schema, status.expected) == (True, NEXT, NOW)
    assert status.detail.endswith(f" answers, migrated by a newer collab that leaves room for this one ({NOW})")
    await write_and_read(old, "c", 3)
    await write_and_read(new, "c", 4)

    started_again = await open_store(database_url)
    await write_and_read(started_again, "b", 5)
    assert await started_again.log.last_seq("b") == 2
    for store in (old, new, started_again):
        await store.close()


async def test_0002_adds_to_a_database_in_use_and_leaves_the_version_before_at_work(
    database_url: str, earlier: Callable[[str], AbstractContextManager[None]]
) -> None:
    await asyncio.to_thread(migrate.upgrade, database_url)
    await asyncio.to_thread(command.downgrade, migrate.config(database_url), OLDEST)
    with earlier(OLDEST):
        old = await open_store(database_url)
        await write_and_read(old, "a", 1)
    new = await open_store(database_url, migrate=True)
    with earlier(OLDEST):
        status = await old.check()
        assert (status.ok, status.schema, status.expected) == (True, NOW, OLDEST)
        await write_and_read(old, "a", 2)
        started_again = await open_store(database_url)
        await write_and_read(started_again, "b", 3)
    assert (await new.grants.put("a", "ann", "write", by="root")).document == "a"
    assert (await new.access_changes.after(0)).through == 1
    await new.audit.append([AuditEvent("document.share", datetime.now(UTC), "root", document="a")])
    await write_and_read(old, "a", 4)
    assert [await new.log.last_seq(name) for name in ("a", "b")] == [3, 1]
    assert await new.grants.role("a", "ann") == "write"
    for store in (old, started_again, new):
        await store.close()


async def test_a_contracted_schema_is_refused_by_the_version_it_leaves_behind(database_url: str, later: Later) -> None:
    old = await open_store(database_url)
    await write_and_read(old, "a", 1)
    with later(EXPAND, CONTRACT):
        await asyncio.to_thread(migrate.upgrade, database_url)
    sentence = (
        f"was written by a newer collab (schema {AFTER_NEXT}, with room for {AFTER_NEXT} and later); "
        f"this one knows {NOW}"
    )
    status = await old.check()
    assert (status.ok, status.schema, status.expected) == (False, AFTER_NEXT, NOW)
    assert status.detail.endswith(sentence)
    await old.close()
    for allowed in (False, True):
        with pytest.raises(StoreUnavailable) as refused:
            await open_store(database_url, migrate=allowed)
        assert str(refused.value).endswith(sentence)
    assert (await asyncio.to_thread(migrate.current, database_url)).revision == AFTER_NEXT


async def test_a_newer_schema_is_left_alone_by_the_migrations_of_the_version_before(
    database_url: str, later: Later
) -> None:
    with later(EXPAND):
        await asyncio.to_thread(migrate.upgrade, database_url)
    await asyncio.to_thread(migrate.upgrade, database_url)  # as if it had been migrated while this one waited
    store = await open_store(database_url, migrate=True)
    async with store._database.reading() as connection:
        assert (await connection.execute(text("SELECT colour FROM documents"))).all() == []
    await store.close()
    assert await asyncio.to_thread(migrate.current, database_url) == migrate.Found(NEXT, OLDEST)


@pytest.mark.parametrize(
    ("revision", "statement"),
    [
        ("9999", "DELETE FROM collab_schema"),
        ("9999", "DROP TABLE collab_schema"),
        ("9999", f"UPDATE collab_schema SET oldest = '{NEXT}'"),
        ("0000", "UPDATE collab_schema SET oldest = '0000'"),
    ],
)
async def test_a_revision_that_promises_nothing_is_refused(database_url: str, revision: str, statement: str) -> None:
    store = await open_store(database_url)
    async with store._database.writing() as connection:
        await connection.execute(text("UPDATE collab_revision SET version_num = :it"), {"it": revision})
        await connection.execute(text(statement))
    status = await store.check()
    assert (status.ok, status.schema, status.expected) == (False, revision, NOW)
    await store.close()
    for allowed in (False, True):
        with pytest.raises(StoreUnavailable, match="newer collab"):
            await open_store(database_url, migrate=allowed)


async def test_an_older_schema_is_told_what_to_do(database_url: str, later: Later) -> None:
    store = await open_store(database_url)
    with later(EXPAND):
        status = await store.check()
        assert (status.ok, status.schema, status.expected) == (False, NOW, NEXT)
        assert status.detail.endswith(f" is at schema {NOW}, {NEXT} is needed; run `collab migrate`")
    await store.close()


@pytest.mark.postgres
async def test_a_migration_that_gets_no_lock_gives_up_soon_and_changes_nothing(postgres_url: str, later: Later) -> None:
    old = await open_store(postgres_url, migrate=True)
    await write_and_read(old, "a", 1)
    # It gets its lock on documents, and then none on updates: what was done is undone.
    forgotten = await asyncpg.connect(postgres_url)
    await forgotten.execute("BEGIN; LOCK TABLE updates IN ROW EXCLUSIVE MODE")
    try:
        with later(EXPAND), pytest.raises(StoreUnavailable) as refused:
            async with asyncio.timeout(60):
                await open_store(postgres_url, migrate=True)
        assert str(refused.value).endswith(
            " is busy: the migration waited 2 s for a table in use and changed nothing; try again"
        )
        assert (await asyncio.to_thread(migrate.current, postgres_url)).revision == NOW
        columns = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'documents'::regclass AND attname = 'colour'"
        assert await forgotten.fetchval(columns) == 0
        await write_and_read(old, "a", 2)
    finally:
        await forgotten.close()
    with later(EXPAND):
        new = await open_store(postgres_url, migrate=True)
        assert (await new.check()).schema == NEXT
        await new.close()
    await write_and_read(old, "a", 3)
    await old.close()
