"""Whether a database keeps the promise that a commit is on disk: what `collab doctor` asks.

SQLite's switches are set by our own connections; PostgreSQL's belong to its administrator and can only be looked at.
"""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from collab.errors import StoreUnavailable
from collab.store.urls import described, normalised

_WEAK = {
    "fsync": "fsync is off: a power cut can destroy the whole database; switch it on.",
    "full_page_writes": "full_page_writes is off: a power cut can destroy pages; switch it on.",
    "synchronous_commit": "synchronous_commit is off: what collab calls saved can be lost in a crash; switch it on.",
}


async def weaknesses(url: str | URL) -> tuple[str, ...]:
    """What of the database's own settings breaks "saved means on disk", one sentence each.

    Raises `Misuse` for an unreadable URL and `StoreUnavailable` when the database does not answer.
    """
    address = normalised(url)
    if address.get_backend_name() == "sqlite":
        return ()
    engine = create_async_engine(address, poolclass=NullPool, hide_parameters=True)
    try:
        async with engine.connect() as connection:
            found = [name for name in _WEAK if (await connection.execute(text(f"SHOW {name}"))).scalar() == "off"]
    except (DBAPIError, OSError, TimeoutError) as error:
        raise StoreUnavailable(f"{described(address)} does not answer") from error
    finally:
        await engine.dispose()
    return tuple(_WEAK[name] for name in found)
