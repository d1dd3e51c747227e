"""Tickets in SQL: a DELETE that returns the row is what makes one single use, between processes too."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from collab.store import access_rules, rules
from collab.store.database import Database
from collab.store.sql_changes import upsert
from collab.store.tables import access_tickets as tickets


class SqlTickets:
    """`Tickets` on a `Database`."""

    def __init__(self, database: Database, clock: rules.Clock) -> None:
        self._database = database
        self._clock = clock
        self._given_out = 0

    async def put(self, secret_hash: bytes, payload: Mapping[str, Any], expires_at: datetime) -> None:
        """See `Tickets.put`."""
        access_rules.checked_hash(secret_hash)
        plain = access_rules.plain_json(payload)
        with self._database.translating():
            async with self._database.writing() as connection:
                adding = upsert(connection, tickets).values(
                    secret_hash=secret_hash, payload=plain, expires_at=expires_at
                )
                once = adding.on_conflict_do_nothing(index_elements=[tickets.c.secret_hash])
                if (await connection.execute(once)).rowcount == 0:
                    await _check_same(connection, secret_hash, plain)
                self._given_out += 1
                if self._given_out % access_rules.TICKETS_PER_PURGE == 0:
                    await self._purge(connection)

    async def take(self, secret_hash: bytes) -> dict[str, Any] | None:
        """See `Tickets.take`."""
        valid = (tickets.c.secret_hash == secret_hash) & (tickets.c.expires_at > self._clock())
        with self._database.translating():
            async with self._database.writing() as connection:
                taken = await connection.execute(delete(tickets).where(valid).returning(tickets.c.payload))
                payload: dict[str, Any] | None = taken.scalar_one_or_none()
        return payload

    async def _purge(self, connection: AsyncConnection) -> None:
        """Remove what expired unused. Rows that another process is removing are left to it: two could deadlock."""
        expired = select(tickets.c.secret_hash).where(tickets.c.expires_at <= self._clock())
        ours = expired.with_for_update(skip_locked=True)
        await connection.execute(delete(tickets).where(tickets.c.secret_hash.in_(ours)))


async def _check_same(connection: AsyncConnection, secret_hash: bytes, payload: dict[str, Any]) -> None:
    held = await connection.execute(select(tickets.c.payload).where(tickets.c.secret_hash == secret_hash))
    if held.scalar_one_or_none() not in (payload, None):
        raise access_rules.used_hash()
