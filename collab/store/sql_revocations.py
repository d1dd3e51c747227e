"""Revocations in SQL."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import ColumnElement, and_, case, delete, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from collab.store import access_rules, rules
from collab.store.access_port import Revocation, RevocationKind
from collab.store.database import Database
from collab.store.sql_changes import raise_epoch, upsert
from collab.store.tables import access_revocations as revocations

_REVOCATIONS = select(
    revocations.c.kind,
    revocations.c.value,
    revocations.c.not_before,
    revocations.c.expires_at,
    revocations.c.revoked_by,
)


class SqlRevocations:
    """`Revocations` on a `Database`."""

    def __init__(self, database: Database, clock: rules.Clock) -> None:
        self._database = database
        self._clock = clock

    async def revoke(
        self, kind: RevocationKind, value: str, *, not_before: datetime, expires_at: datetime, by: str
    ) -> Revocation:
        """See `Revocations.revoke`."""
        access_rules.checked_subject(value)
        with self._database.translating():
            async with self._database.writing() as connection:
                await self._purge(connection)
                adding = upsert(connection, revocations).values(
                    kind=kind, value=value, not_before=not_before, expires_at=expires_at, revoked_by=rules.storable(by)
                )
                held, new = revocations.c, adding.excluded
                changing = adding.on_conflict_do_update(
                    index_elements=[held.kind, held.value],
                    set_={
                        "not_before": _later(held.not_before, new.not_before),
                        "expires_at": _later(held.expires_at, new.expires_at),
                        "revoked_by": new.revoked_by,
                    },
                    where=or_(new.not_before > held.not_before, new.expires_at > held.expires_at),
                )
                if (await connection.execute(changing.returning(held.kind))).first() is not None:
                    is_subject = kind == "subject"
                    await raise_epoch(
                        connection, subject=value if is_subject else None, token=None if is_subject else value
                    )
                row = (await connection.execute(_REVOCATIONS.where(held.kind == kind, held.value == value))).one()
        return Revocation(*row)

    async def all_current(self) -> tuple[Revocation, ...]:
        """See `Revocations.all_current`."""
        query = _REVOCATIONS.where(revocations.c.expires_at > self._clock())
        with self._database.translating():
            async with self._database.reading() as connection:
                rows = (await connection.execute(query.order_by(revocations.c.kind, revocations.c.value))).all()
        return tuple(Revocation(*row) for row in rows)

    async def current(self, named: Collection[tuple[RevocationKind, str]]) -> tuple[Revocation, ...]:
        """See `Revocations.current`."""
        one_of = [
            and_(revocations.c.kind == kind, revocations.c.value.in_([value for its, value in named if its == kind]))
            for kind in {kind for kind, _ in named}
        ]
        if not one_of:
            return ()
        query = _REVOCATIONS.where(revocations.c.expires_at > self._clock(), or_(*one_of))
        with self._database.translating():
            async with self._database.reading() as connection:
                rows = (await connection.execute(query)).all()
        return tuple(Revocation(*row) for row in rows)

    async def _purge(self, connection: AsyncConnection) -> None:
        """Remove what expired. Rows that another process is removing are left to it: two could deadlock."""
        expired = select(revocations.c.value).where(revocations.c.expires_at <= self._clock())
        for kind in ("subject", "token"):
            ours = expired.where(revocations.c.kind == kind).with_for_update(skip_locked=True)
            removing = delete(revocations).where(revocations.c.kind == kind, revocations.c.value.in_(ours))
            await connection.execute(removing)


def _later(one: ColumnElement[datetime], other: ColumnElement[datetime]) -> ColumnElement[datetime]:
    return case((other > one, other), else_=one)
