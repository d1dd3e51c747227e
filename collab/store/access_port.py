"""The access ports of the store: grants, links, tickets, revocations, the changes of all these, and the audit log.

`Store` delivers one of each. A role is its name here (`ROLES`), since rooms and stores know nothing of each other; and
of every secret the store sees the SHA-256 only, which the caller makes. What the store port says about durability and
repeated calls holds here too; `Tickets.take` is the exception. Adapters pass `tests/contract/test_store_access.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol
from uuid import uuid4

ROLES = frozenset({"read", "comment", "write", "admin"})
"""What a grant or a link may say; anything else is `Misuse`."""

MAX_SUBJECT_CHARS = 255
"""Longest subject or token id that is kept here: OpenID Connect's bound for subjects."""


@dataclass(frozen=True, slots=True)
class Grant:
    """That a subject has a role on a document."""

    document: str
    subject: str
    role: str
    granted_by: str
    granted_at: datetime


@dataclass(frozen=True, slots=True)
class GrantPage:
    """Grants in order; ``next`` is what to continue after (a subject or a document, as asked), or None at the end."""

    grants: tuple[Grant, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class Link:
    """That whoever holds a secret has a role on a document. Nothing here leads to the secret."""

    id: int
    document: str
    role: str
    created_by: str
    created_at: datetime
    expires_at: datetime | None


RevocationKind = Literal["subject", "token"]


@dataclass(frozen=True, slots=True)
class Revocation:
    """That tokens issued before a time are no longer believed: all of a subject's, or the one of an id."""

    kind: RevocationKind
    value: str
    not_before: datetime
    expires_at: datetime
    """When the last token it is about has expired by itself, so that it can be forgotten."""
    revoked_by: str


@dataclass(frozen=True, slots=True)
class AccessChange:
    """What a live session may have to be asked about again. Only what it is about is set:

    a grant names document and subject, a link document and link, a revocation subject or token.
    """

    epoch: int
    document: str | None = None
    subject: str | None = None
    link_id: int | None = None
    token: str | None = None


@dataclass(frozen=True, slots=True)
class AccessTail:
    """What changed after an epoch."""

    changes: tuple[AccessChange, ...]
    """In order, one for each epoch."""
    through: int
    """Everything after the epoch asked for and up to here is in ``changes``; the caller goes on from here."""
    complete: bool = True
    """False when some of that is gone, or the epoch asked for never was (a restored database): ``changes`` is empty,
    and the caller asks about every session again, having noted ``through``."""


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """Something done, on its way into the audit log."""

    action: str
    """From the caller's fixed set, for example ``document.open``."""
    at: datetime
    actor: str | None = None
    """Subject, or None when nobody knows."""
    actor_kind: str | None = None
    """What the actor is, when that is not a user: the caller's word."""
    document: str | None = None
    """By name, so that it may name one that never was."""
    detail: Mapping[str, Any] = field(default_factory=dict)
    """Small, plain JSON; the caller sees to both. Never a secret, never document text."""
    key: str = field(default_factory=lambda: uuid4().hex)
    """Names the event: appended twice it is stored once."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """A row of the audit log."""

    id: int
    """Counts up, with gaps. Of entries appended at the same time a higher one may be visible first."""
    event: AuditEvent


class Grants(Protocol):
    """Who has which role on which document.

    Where a document is needed, its absence is `DocumentMissing` or `DocumentDeleted`. A subject that cannot be kept as
    it is (NUL, lone surrogates, more than `MAX_SUBJECT_CHARS`, nothing) has no grants, and putting one for it is
    `Misuse`: replacing a character could make it somebody else.
    """

    async def put(self, document: str, subject: str, role: str, *, by: str) -> Grant:
        """Grant, instead of what was granted before. The role it has already changes nothing, not even ``by``."""
        ...

    async def remove(self, document: str, subject: str) -> bool:
        """Take the grant back; whether there was one. Twice is no mistake."""
        ...

    async def get(self, document: str, subject: str) -> Grant | None:
        """What the subject was granted, and by whom."""
        ...

    async def of_document(self, document: str, *, after: str | None = None, limit: int = 50) -> GrantPage:
        """In order of subjects, by code point."""
        ...

    async def role(self, document: str, subject: str) -> str | None:
        """The granted role; None also when the document is deleted or was never there. One indexed query."""
        ...

    async def documents_of(
        self, subject: str, *, prefix: str = "", after: str | None = None, limit: int = 50
    ) -> GrantPage:
        """What a subject was granted, in order of document names; deleted documents are left out."""
        ...


class Links(Protocol):
    """Secrets that grant. Where a document is needed, its absence is `DocumentMissing` or `DocumentDeleted`."""

    async def create(
        self, document: str, role: str, secret_hash: bytes, *, by: str, expires_at: datetime | None = None
    ) -> Link:
        """Let whoever holds the secret in. A hash belongs to one link for ever: another one with it is `Misuse`."""
        ...

    async def find(self, secret_hash: bytes) -> Link | None:
        """The link, unless it is revoked or expired or its document deleted. One indexed query."""
        ...

    async def of_document(self, document: str, *, before: int | None = None, limit: int = 50) -> tuple[Link, ...]:
        """Those not revoked, expired ones too, newest first; ``before`` is the id to continue after."""
        ...

    async def revoke(self, document: str, link_id: int) -> None:
        """End it for good. Twice is no mistake. Raises `LinkMissing` for an id that is no link of the document."""
        ...


class Tickets(Protocol):
    """What is given out once and may be used once, on any node."""

    async def put(self, secret_hash: bytes, payload: Mapping[str, Any], expires_at: datetime) -> None:
        """Keep ``payload`` (plain JSON, else `Misuse`). Another payload under the same hash is `Misuse`."""
        ...

    async def take(self, secret_hash: bytes) -> dict[str, Any] | None:
        """The payload, once: of all who ask, anywhere, one gets it. None when used, expired or never given out.

        After `StoreUnavailable` the ticket may be used up, so its holder asks for another.
        """
        ...


class Revocations(Protocol):
    """Tokens that are no longer believed, although they have not expired."""

    async def revoke(
        self, kind: RevocationKind, value: str, *, not_before: datetime, expires_at: datetime, by: str
    ) -> Revocation:
        """Revoke what was issued before ``not_before``. Of two for one value the later times count.

        A value that cannot be kept as it is (see `Grants`) is `Misuse`.
        """
        ...

    async def all_current(self) -> tuple[Revocation, ...]:
        """Those not expired."""
        ...

    async def current(self, named: Collection[tuple[RevocationKind, str]]) -> tuple[Revocation, ...]:
        """Those of ``named`` that are there and not expired, in any order; as cheap as ``named`` is short."""
        ...


class AccessChanges(Protocol):
    """One count of all changes to grants, links and revocations, and what each was.

    The epoch is raised in the transaction of the change, under one row's lock: so epochs have no gaps, and whoever sees
    one can see all before it. Whoever knows everything up to an epoch misses nothing by asking for what came after.
    """

    async def epoch(self) -> int:
        """The newest; 0 before the first change. Cheap."""
        ...

    async def after(self, epoch: int, *, limit: int = 1000) -> AccessTail:
        """What changed since, the oldest ``limit`` of it. Old changes are forgotten (see `AccessTail.complete`)."""
        ...


class Audit(Protocol):
    """Who did what. Nothing in collab changes or removes a row, and the database refuses to."""

    async def append(self, events: Sequence[AuditEvent]) -> None:
        """Commit all of them, or none. Text that cannot be stored is made storable, and cut at 500 characters."""
        ...

    async def page(
        self, *, document: str | None = None, actor: str | None = None, before: int | None = None, limit: int = 50
    ) -> tuple[AuditEntry, ...]:
        """Newest first, of one document or actor or both if asked; ``before`` is the id to continue after."""
        ...
