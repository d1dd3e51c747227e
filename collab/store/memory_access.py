"""The access ports in memory. See `memory`: no method awaits, so each call is one transaction."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count
from typing import Any

from collab.errors import DocumentDeleted, LinkMissing
from collab.store import access_rules, rules
from collab.store.access_port import (
    AccessChange,
    AccessTail,
    AuditEntry,
    AuditEvent,
    Grant,
    GrantPage,
    Link,
    Revocation,
    RevocationKind,
)
from collab.store.memory_shelf import Shelf


class MemoryAccessChanges:
    """`AccessChanges` in memory; the ports beside it raise its epoch."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._epoch = 0
        self._changes: deque[AccessChange] = deque()

    def add(
        self,
        *,
        document: str | None = None,
        subject: str | None = None,
        link_id: int | None = None,
        token: str | None = None,
    ) -> None:
        """Raise the epoch."""
        self._epoch += 1
        self._changes.append(AccessChange(self._epoch, document, subject, link_id, token))
        while len(self._changes) > access_rules.KEPT_CHANGES:
            self._changes.popleft()

    async def epoch(self) -> int:
        """See `AccessChanges.epoch`."""
        self._shelf.check_open()
        return self._epoch

    async def after(self, epoch: int, *, limit: int = 1000) -> AccessTail:
        """See `AccessChanges.after`."""
        self._shelf.check_open()
        found = [change for change in self._changes if change.epoch > epoch][: rules.page_size(limit)]
        return access_rules.tail(epoch, self._epoch, found)


class MemoryGrants:
    """`Grants` in memory."""

    def __init__(self, shelf: Shelf, changes: MemoryAccessChanges) -> None:
        self._shelf = shelf
        self._changes = changes
        self._grants: dict[tuple[str, str], Grant] = {}

    async def put(self, document: str, subject: str, role: str, *, by: str) -> Grant:
        """See `Grants.put`."""
        access_rules.checked_subject(subject)
        access_rules.checked_role(role)
        self._shelf.need(document)
        held = self._grants.get((document, subject))
        if held is not None and held.role == role:
            return held
        grant = Grant(document, subject, role, rules.storable(by), self._shelf.clock())
        self._grants[document, subject] = grant
        self._changes.add(document=document, subject=subject)
        return grant

    async def remove(self, document: str, subject: str) -> bool:
        """See `Grants.remove`."""
        self._shelf.need(document)
        if self._grants.pop((document, subject), None) is None:
            return False
        self._changes.add(document=document, subject=subject)
        return True

    async def get(self, document: str, subject: str) -> Grant | None:
        """See `Grants.get`."""
        self._shelf.need(document)
        return self._grants.get((document, subject))

    async def of_document(self, document: str, *, after: str | None = None, limit: int = 50) -> GrantPage:
        """See `Grants.of_document`."""
        self._shelf.need(document)
        after = rules.storable_or_none(after)
        found = [g for g in self._grants.values() if g.document == document and (after is None or g.subject > after)]
        found.sort(key=lambda grant: grant.subject)
        size = rules.page_size(limit)
        return GrantPage(tuple(found[:size]), found[size - 1].subject if len(found) > size else None)

    async def role(self, document: str, subject: str) -> str | None:
        """See `Grants.role`."""
        self._shelf.check_open()
        grant = self._grants.get((document, subject))
        return grant.role if grant is not None and _is_live(self._shelf, document) else None

    async def documents_of(
        self, subject: str, *, prefix: str = "", after: str | None = None, limit: int = 50
    ) -> GrantPage:
        """See `Grants.documents_of`."""
        self._shelf.check_open()
        found = [
            grant
            for grant in self._grants.values()
            if grant.subject == subject
            and grant.document.startswith(prefix)
            and (after is None or grant.document > rules.storable(after))
            and _is_live(self._shelf, grant.document)
        ]
        found.sort(key=lambda grant: grant.document)
        size = rules.page_size(limit)
        return GrantPage(tuple(found[:size]), found[size - 1].document if len(found) > size else None)


class MemoryLinks:
    """`Links` in memory."""

    def __init__(self, shelf: Shelf, changes: MemoryAccessChanges) -> None:
        self._shelf = shelf
        self._changes = changes
        self._links: dict[bytes, Link] = {}
        self._revoked: set[int] = set()

    async def create(
        self, document: str, role: str, secret_hash: bytes, *, by: str, expires_at: datetime | None = None
    ) -> Link:
        """See `Links.create`."""
        access_rules.checked_role(role)
        access_rules.checked_hash(secret_hash)
        self._shelf.need(document)
        ends = None if expires_at is None else expires_at.astimezone(UTC)
        held = self._links.get(secret_hash)
        if held is not None:
            return access_rules.same_link(held, document, role, ends)
        number = next(self._shelf.ids)
        link = Link(number, document, role, rules.storable(by), self._shelf.clock(), ends)
        self._links[secret_hash] = link
        self._changes.add(document=document, link_id=number)
        return link

    async def find(self, secret_hash: bytes) -> Link | None:
        """See `Links.find`."""
        self._shelf.check_open()
        link = self._links.get(secret_hash)
        if link is None or link.id in self._revoked or not _is_live(self._shelf, link.document):
            return None
        return link if link.expires_at is None or link.expires_at > self._shelf.clock() else None

    async def of_document(self, document: str, *, before: int | None = None, limit: int = 50) -> tuple[Link, ...]:
        """See `Links.of_document`."""
        self._shelf.need(document)
        found = [
            link
            for link in reversed(self._links.values())
            if link.document == document and link.id not in self._revoked and (before is None or link.id < before)
        ]
        return tuple(found[: rules.page_size(limit)])

    async def revoke(self, document: str, link_id: int) -> None:
        """See `Links.revoke`."""
        self._shelf.need(document)
        if not any(link.id == link_id and link.document == document for link in self._links.values()):
            raise LinkMissing(access_rules.no_link(document, link_id))
        if link_id not in self._revoked:
            self._revoked.add(link_id)
            self._changes.add(document=document, link_id=link_id)


@dataclass(frozen=True, slots=True)
class _Ticket:
    payload: dict[str, Any]
    expires_at: datetime


class MemoryTickets:
    """`Tickets` in memory."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._tickets: dict[bytes, _Ticket] = {}
        self._given_out = 0

    async def put(self, secret_hash: bytes, payload: Mapping[str, Any], expires_at: datetime) -> None:
        """See `Tickets.put`."""
        self._shelf.check_open()
        access_rules.checked_hash(secret_hash)
        ticket = _Ticket(access_rules.plain_json(payload), expires_at)
        if self._tickets.setdefault(secret_hash, ticket).payload != ticket.payload:
            raise access_rules.used_hash()
        self._given_out += 1
        if self._given_out % access_rules.TICKETS_PER_PURGE == 0:
            now = self._shelf.clock()
            self._tickets = {key: ticket for key, ticket in self._tickets.items() if ticket.expires_at > now}

    async def take(self, secret_hash: bytes) -> dict[str, Any] | None:
        """See `Tickets.take`."""
        self._shelf.check_open()
        ticket = self._tickets.pop(secret_hash, None)
        return ticket.payload if ticket is not None and ticket.expires_at > self._shelf.clock() else None


class MemoryRevocations:
    """`Revocations` in memory."""

    def __init__(self, shelf: Shelf, changes: MemoryAccessChanges) -> None:
        self._shelf = shelf
        self._changes = changes
        self._revocations: dict[tuple[RevocationKind, str], Revocation] = {}

    async def revoke(
        self, kind: RevocationKind, value: str, *, not_before: datetime, expires_at: datetime, by: str
    ) -> Revocation:
        """See `Revocations.revoke`."""
        self._shelf.check_open()
        access_rules.checked_subject(value)
        times = not_before.astimezone(UTC), expires_at.astimezone(UTC)
        held = self._revocations.get((kind, value))
        if held is not None and held.not_before >= times[0] and held.expires_at >= times[1]:
            return held
        if held is not None:
            times = max(held.not_before, times[0]), max(held.expires_at, times[1])
        made = self._revocations[kind, value] = Revocation(kind, value, *times, rules.storable(by))
        if kind == "subject":
            self._changes.add(subject=value)
        else:
            self._changes.add(token=value)
        return made

    async def all_current(self) -> tuple[Revocation, ...]:
        """See `Revocations.all_current`."""
        self._shelf.check_open()
        now = self._shelf.clock()
        self._revocations = {key: found for key, found in self._revocations.items() if found.expires_at > now}
        return tuple(self._revocations[key] for key in sorted(self._revocations))

    async def current(self, named: Collection[tuple[RevocationKind, str]]) -> tuple[Revocation, ...]:
        """See `Revocations.current`."""
        self._shelf.check_open()
        now = self._shelf.clock()
        found = (self._revocations.get(key) for key in named)
        return tuple(one for one in found if one is not None and one.expires_at > now)


class MemoryAudit:
    """`Audit` in memory."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._entries: dict[str, AuditEntry] = {}
        self._ids = count(1)

    async def append(self, events: Sequence[AuditEvent]) -> None:
        """See `Audit.append`."""
        self._shelf.check_open()
        for event in [access_rules.storable_event(event) for event in events]:
            if event.key not in self._entries:
                self._entries[event.key] = AuditEntry(next(self._ids), event)

    async def page(
        self, *, document: str | None = None, actor: str | None = None, before: int | None = None, limit: int = 50
    ) -> tuple[AuditEntry, ...]:
        """See `Audit.page`."""
        self._shelf.check_open()
        wanted = {"document": document, "actor": actor}
        asked = {name: access_rules.audit_text(text) for name, text in wanted.items() if text is not None}
        found = [
            replace(entry, event=replace(entry.event, detail=access_rules.plain_json(entry.event.detail)))
            for entry in reversed(self._entries.values())
            if (before is None or entry.id < before)
            and all(getattr(entry.event, name) == text for name, text in asked.items())
        ]
        return tuple(found[: rules.page_size(limit)])


def _is_live(shelf: Shelf, document: str) -> bool:
    try:
        return shelf.find(document) is not None
    except DocumentDeleted:
        return False
