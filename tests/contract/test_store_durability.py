"""What `collab doctor` finds out about a database's own durability settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from collab.errors import StoreUnavailable
from collab.store.durability import weaknesses
from tests.support.postgres import PostgresServer, postgres_server

__all__ = ["postgres_server"]


async def test_sqlite_has_no_switch_of_its_own(tmp_path: Path) -> None:
    assert await weaknesses(f"sqlite:///{tmp_path}/never.db") == ()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.postgres
async def test_p1_switches_that_break_saved_are_named(postgres_server: PostgresServer) -> None:
    url = await postgres_server.create_database()
    before = await weaknesses(postgres_server.url(url))
    await postgres_server.run(f'ALTER DATABASE "{url}" SET synchronous_commit = off')
    after = await weaknesses(postgres_server.url(url))
    assert [sentence for sentence in after if sentence not in before] == [
        "synchronous_commit is off: what collab calls saved can be lost in a crash; switch it on."
    ]


async def test_a_database_that_does_not_answer_is_unavailable() -> None:
    with pytest.raises(StoreUnavailable) as caught:
        await weaknesses("postgresql://u:hunter2@127.0.0.1:1/x")
    assert "hunter2" not in str(caught.value)
