"""The store port: where documents are kept for good.

Small ports behind one `Store`: the update log (what `Recorder` writes and rooms load), the documents (what REST lists
and changes) and their snapshots; those about who may do what are in `access_port`. Adapters: `memory` (real, but gone
with the process) and `sql` (SQLite and PostgreSQL). Every adapter passes `tests/contract/test_store.py`.

Durability: when a writing call returns, its effect is committed with fsync. When it raises `StoreUnavailable` the
outcome is unknown; the caller repeats the very same call, which is then idempotent.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

from collab.protocol.values import value
from collab.store.access_port import AccessChanges, Audit, Grants, Links, Revocations, Tickets

ROW_WAIT_S = 0.75
"""How long an append waits for a document's row unless told otherwise: while one document of a batch is waited for, all
of them wait, on other nodes too. The largest batch (16 MiB) held its rows for 0.2 s, 0.7 s at worst (measured, two busy
cores)."""


@value()
class LogEntry:
    """One update on its way into the log. ``(node, number)`` names it: appending it twice stores it once.

    The name is known as long as the row is kept, which is until two compactions later. Repeated after that, the update
    is stored again, which changes no document. Two updates under one name are `Misuse`.
    """

    document: str
    update: bytes
    node: str
    """Id of the node process that received it; new at every start."""
    number: int
    """Counts up within ``node``."""
    author: str | None = None
    """Subject of the identity that sent it."""


@dataclass(frozen=True, slots=True)
class Appended:
    """The answer to `UpdateLog.append`, after the commit."""

    last_seq: Mapping[str, int]
    """Document name -> its durable sequence, for every document written to."""
    deleted: frozenset[str] = frozenset()
    """Documents that are deleted: none of their entries was stored (SPEC L5)."""
    repeated: bool = False
    """Whether this settled a doubt, so that some entries may have been stored before. When False, the entries of each
    document have the consecutive sequence numbers that end in its ``last_seq``."""


@dataclass(frozen=True, slots=True)
class LoggedUpdate:
    """One row of the log."""

    seq: int
    update: bytes


@dataclass(frozen=True, slots=True)
class Stored:
    """All that is needed to build a document: a snapshot (or None) and the updates it does not cover."""

    snapshot: bytes | None
    updates: tuple[LoggedUpdate, ...]
    last_seq: int = 0
    """The durable sequence: how many updates were ever committed to this document."""
    snapshot_id: int | None = None
    damage: tuple[str, ...] = ()
    """What failed its checksum and was passed over, one sentence each; empty when all is well."""

    @property
    def all_updates(self) -> tuple[bytes, ...]:
        """Snapshot first, then the log."""
        logged = tuple(row.update for row in self.updates)
        return logged if self.snapshot is None else (self.snapshot, *logged)


@dataclass(frozen=True, slots=True)
class Compaction:
    """A folded document about to become the newest snapshot."""

    base: int | None
    """`Stored.snapshot_id` it was folded from."""
    update: bytes
    state_vector: bytes
    covered: frozenset[int]
    """Sequence numbers of exactly the rows that were read and are part of ``update``."""


@dataclass(frozen=True, slots=True)
class Document:
    """What is known of a document besides its content."""

    name: str
    title: str | None
    meta: Mapping[str, Any]
    created_at: datetime
    updated_at: datetime
    bytes: int
    """Size of newest snapshot plus the log after it."""
    seq: int
    """The durable sequence."""


@dataclass(frozen=True, slots=True)
class Page:
    """Documents in name order; ``next`` is the name to continue after, or None at the end."""

    documents: tuple[Document, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class Change:
    """What to change of a document; a field that is None stays as it is.

    In every text a caller stores (title, label, author), NUL and lone surrogates become U+FFFD.
    """

    title: str | None = None
    meta: Mapping[str, Any] | None = None


SnapshotKind = Literal["compaction", "version"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A labelled version of a document, made on request and kept until deleted."""

    id: int
    document: str
    label: str | None
    author: str | None
    created_at: datetime
    bytes: int
    seq: int
    """The durable sequence it was made at."""


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """The answer to `Store.check`, for `/readyz` and `collab doctor`."""

    ok: bool
    detail: str
    """One sentence."""
    schema: str | None = None
    """Revision of the schema found."""
    expected: str | None = field(default=None)
    """Revision this version of collab needs."""


@dataclass(frozen=True, slots=True)
class NamedUpdate:
    """One row of the log with its name, as `UpdateLog.tail` gives it."""

    seq: int
    update: bytes
    node: str
    number: int


@dataclass(frozen=True, slots=True)
class Tail:
    """What a document's log holds after a sequence number."""

    rows: tuple[NamedUpdate, ...]
    """In order. Rows that fail their checksum are left out."""
    through: int
    """Everything after the number asked for and up to here is in ``rows``; the caller goes on from here."""
    complete: bool = True
    """False when rows of that stretch are gone, covered by a snapshot: ``rows`` is empty, and only `load` tells."""


class UpdateLog(Protocol):
    """Updates in the order they were committed, per document.

    Sequence numbers of one document are assigned under its row lock, so they become visible in order, without gaps.
    """

    async def append(self, entries: Sequence[LogEntry], *, row_wait_s: float = ROW_WAIT_S) -> Appended:
        """Commit ``entries`` (of any number of documents, in order) in one transaction, creating missing documents.

        Raises `DocumentsBusy` when somebody else holds some of the documents locked for longer than ``row_wait_s``.
        Nothing of this call is stored then, and without those documents' entries it need not wait: the caller may
        part ``entries`` there (never within one document's) and repeat each part until it succeeds. A database that
        is locked as a whole is `StoreUnavailable`.
        """
        ...

    async def load(self, document: str) -> Stored:
        """What is committed; an unknown document is empty. Raises `DocumentDeleted`.

        A snapshot whose checksum fails is passed over for the one before it plus the rows that one does not cover;
        a row whose checksum fails is left out. Both are named in `Stored.damage`.
        """
        ...

    async def last_seq(self, document: str) -> int:
        """The durable sequence; 0 for an unknown document. Raises `DocumentDeleted`."""
        ...

    async def last_seqs(self, documents: Collection[str]) -> Mapping[str, int | None]:
        """The durable sequence of each, None for a deleted one; documents never written to are left out."""
        ...

    async def tail(self, after: Mapping[str, int], *, limit_bytes: int = 4 * 1024 * 1024) -> Mapping[str, Tail]:
        """The rows of each document after a sequence number; documents without any, or deleted, are left out.

        Stops soon after ``limit_bytes`` over all documents (at least one row of one is given): ask again.
        """
        ...

    async def compact(self, document: str, compaction: Compaction) -> bool:
        """Add the snapshot; False (and nothing done) when ``base`` is no longer the newest that can be read.

        Rows and snapshots that only the state before ``base`` needed are deleted: the new snapshot may turn out damaged
        and ``base`` with the log still makes the whole document. Also False for an unknown document, and for one whose
        snapshots are all damaged and rows are gone: that one is left for a person. Raises `DocumentDeleted`, and
        `Misuse` when ``covered`` names rows that never were.
        """
        ...


class Documents(Protocol):
    """The catalogue of documents."""

    async def create(
        self,
        name: str,
        *,
        title: str | None = None,
        meta: Mapping[str, Any] | None = None,
        entry: LogEntry | None = None,
    ) -> Document:
        """Create with its first update, atomically. Raises `DocumentExists`, also for a deleted name.

        Repeating the call after a lost reply finds the document made before, provided there was an ``entry``.
        ``meta`` must be plain JSON, else `Misuse`.
        """
        ...

    async def get(self, name: str) -> Document:
        """Raises `DocumentMissing`, `DocumentDeleted`."""
        ...

    async def list(self, *, prefix: str = "", after: str | None = None, limit: int = 50) -> Page:
        """Documents that are not deleted, in name order."""
        ...

    async def change(self, name: str, change: Change) -> Document:
        """Raises `DocumentMissing`, `DocumentDeleted`."""
        ...

    async def delete(self, name: str) -> None:
        """Soft: bytes stay, the name stays taken. Deleting twice is no mistake. Raises `DocumentMissing`."""
        ...


class Snapshots(Protocol):
    """Labelled versions. Every method raises `DocumentMissing` or `DocumentDeleted` for the document."""

    async def create(
        self, document: str, *, update: bytes, state_vector: bytes, seq: int, label: str | None, author: str | None
    ) -> Snapshot:
        """Keep ``update``, a full update of the document at durable sequence ``seq``."""
        ...

    async def list(self, document: str, *, before: int | None = None, limit: int = 50) -> tuple[Snapshot, ...]:
        """Newest first; ``before`` is the id to continue after."""
        ...

    async def get(self, document: str, snapshot: int) -> tuple[Snapshot, bytes]:
        """With its bytes, checked. Raises `SnapshotMissing` (also when the checksum fails: the cause says so)."""
        ...

    async def delete(self, document: str, snapshot: int) -> None:
        """Raises `SnapshotMissing`."""
        ...


class Store(Protocol):
    """One database: its ports and its own life."""

    @property
    def log(self) -> UpdateLog:
        """The update log."""
        ...

    @property
    def documents(self) -> Documents:
        """The catalogue."""
        ...

    @property
    def snapshots(self) -> Snapshots:
        """Labelled versions."""
        ...

    @property
    def grants(self) -> Grants:
        """Who has which role."""
        ...

    @property
    def links(self) -> Links:
        """Secrets that grant."""
        ...

    @property
    def tickets(self) -> Tickets:
        """What may be used once."""
        ...

    @property
    def revocations(self) -> Revocations:
        """Tokens no longer believed."""
        ...

    @property
    def access_changes(self) -> AccessChanges:
        """The access epoch, and what raised it."""
        ...

    @property
    def audit(self) -> Audit:
        """Who did what."""
        ...

    async def open(self) -> None:
        """Connect. Raises `StoreUnavailable` with one sentence on what is wrong (for example: run collab migrate)."""
        ...

    async def check(self) -> StoreStatus:
        """Cheap health check; never raises."""
        ...

    async def close(self) -> None:
        """Give back every connection."""
        ...
