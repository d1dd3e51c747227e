"""Database URLs: what people write becomes what drivers want, and no password is shown."""

from __future__ import annotations

import pytest

from collab.errors import Misuse
from collab.store import SqlStore
from collab.store.urls import described, normalised


@pytest.mark.parametrize(
    ("plain", "driver"),
    [
        ("sqlite:///collab.db", "sqlite+aiosqlite:///collab.db"),
        ("sqlite:////var/lib/collab.db", "sqlite+aiosqlite:////var/lib/collab.db"),
        ("sqlite+aiosqlite:///collab.db", "sqlite+aiosqlite:///collab.db"),
        ("postgresql://u:p@h:5432/d", "postgresql+asyncpg://u:p@h:5432/d"),
        ("postgres://h/d", "postgresql+asyncpg://h/d"),
        ("postgresql://h/d?sslmode=require", "postgresql+asyncpg://h/d?ssl=require"),
        ("postgresql:///d?host=/run/pg&port=5433", "postgresql+asyncpg:///d?host=%2Frun%2Fpg&port=5433"),
        ("postgresql://u:a%40b%2F%25@h/d", "postgresql+asyncpg://u:a%40b%2F%25@h/d"),
    ],
)
def test_plain_urls_get_their_driver(plain: str, driver: str) -> None:
    assert normalised(plain).render_as_string(hide_password=False) == driver
    assert normalised(normalised(plain)) == normalised(plain)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("sqlite:///file:x?mode=memory", "in memory"),
        ("sqlite://collab.db", "in memory"),
        ("sqlite://host/collab.db", "slashes"),
        ("sqlite:///collab.db?timeout=3", "no options"),
        ("mysql://u:hunter2@h/d", "no database of the kind 'mysql'"),
        ("hunter2", "cannot be read"),
        ("postgresql://u:hunter2@h:port/d", "cannot be read"),
        ("postgresql://u:hunter2@h/d?password=hunter2&options=-c", "options collab does not know: options, password"),
        ("", "cannot be read"),
    ],
)
def test_other_urls_are_refused_in_a_sentence_without_secrets(url: str, sentence: str) -> None:
    with pytest.raises(Misuse, match=sentence) as caught:
        normalised(url)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:///collab.db", "SQLite file collab.db"),
        ("postgresql://someone:hunter2@db.example:5433/notes", "PostgreSQL database notes at db.example:5433"),
        ("postgresql:///notes?host=/run/pg&port=5433", "PostgreSQL database notes at /run/pg:5433"),
        ("postgresql://", "PostgreSQL database (default) at localhost"),
    ],
)
def test_a_database_is_shown_without_user_and_password(url: str, shown: str) -> None:
    assert described(normalised(url)) == shown
    assert repr(SqlStore(url)) == f"<SqlStore: {shown}>"
