"""Database addresses: the plain ones people write, turned into what the drivers want, in one place.

`sqlite:///collab.db` (relative), `sqlite:////var/lib/collab.db` (absolute), `postgresql://user:secret@host/name` and
`postgres://...`. Nothing here connects. A URL holds a password: show people `described(url)` only.
"""

from __future__ import annotations

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from collab.errors import Misuse

_SQLITE = frozenset({"sqlite", "sqlite+aiosqlite"})
_POSTGRES = frozenset({"postgres", "postgresql", "postgresql+asyncpg"})
_POSTGRES_OPTIONS = frozenset({"host", "port", "sslmode", "ssl"})


def normalised(url: str | URL) -> URL:
    """Turn a plain URL into SQLAlchemy's, with the driver named (a bare one means psycopg since SQLAlchemy 2.1).

    Raises `Misuse` with a sentence that never repeats the URL.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise Misuse("the database URL cannot be read; write sqlite:///collab.db or postgresql://host/name") from None
    if parsed.drivername in _SQLITE:
        return _sqlite(parsed)
    if parsed.drivername in _POSTGRES:
        return _postgres(parsed)
    raise Misuse(f"no database of the kind {parsed.drivername!r} here; use sqlite:// or postgresql://")


def described(url: URL) -> str:
    """Name the database for logs and errors: kind, place and name; no user, no password, no options."""
    if url.get_backend_name() == "sqlite":
        return f"SQLite file {url.database}"
    host = url.host or str(url.query.get("host", "localhost"))
    port = url.port or url.query.get("port")
    return f"PostgreSQL database {url.database or '(default)'} at {host}{f':{port}' if port else ''}"


def _sqlite(url: URL) -> URL:
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        raise Misuse(
            "an SQLite database in memory would end with its connection; name a file, as in sqlite:///collab.db"
        )
    if url.host or url.query:
        raise Misuse("an SQLite URL takes three or four slashes and no options: sqlite:///collab.db, sqlite:////abs.db")
    return url.set(drivername="sqlite+aiosqlite")


def _postgres(url: URL) -> URL:
    if unknown := sorted(set(url.query) - _POSTGRES_OPTIONS):
        raise Misuse(f"the database URL has options collab does not know: {', '.join(unknown)}")
    query = dict(url.query)
    if "sslmode" in query:
        query["ssl"] = query.pop("sslmode")
    return url.set(drivername="postgresql+asyncpg", query=query)
