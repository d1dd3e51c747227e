"""The store in this process's memory: real in every rule except that it is gone with the process.

Used by tests, by the simulation and where nothing need survive. Every method does its work without awaiting, so
each call is one transaction. Rows carry checksums too, so that damage can be tried on it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from collab.errors import DocumentExists, DocumentMissing, SnapshotMissing
from collab.store import rules
from collab.store.memory_access import (
    MemoryAccessChanges,
    MemoryAudit,
    MemoryGrants,
    MemoryLinks,
    MemoryRevocations,
    MemoryTickets,
)
from collab.store.memory_shelf import Fold, Shelf, Version
from collab.store.port import (
    ROW_WAIT_S,
    Appended,
    Change,
    Compaction,
    Document,
    LogEntry,
    LoggedUpdate,
    Page,
    Snapshot,
    Stored,
    StoreStatus,
    Tail,
)


class MemoryStore:
    """A `Store` that keeps everything in memory. ``clock`` tells the time documents are stamped with."""

    def __init__(self, *, clock: Callable[[], datetime] = rules.utc_now) -> None:
        shelf = Shelf(clock)
        self._shelf = shelf
        self.log = MemoryLog(shelf)
        self.documents = MemoryDocuments(shelf)
        self.snapshots = MemorySnapshots(shelf)
        self.access_changes = MemoryAccessChanges(shelf)
        self.grants = MemoryGrants(shelf, self.access_changes)
        self.links = MemoryLinks(shelf, self.access_changes)
        self.tickets = MemoryTickets(shelf)
        self.revocations = MemoryRevocations(shelf, self.access_changes)
        self.audit = MemoryAudit(shelf)

    async def open(self) -> None:
        """Nothing to connect to; a closed store opens again with what it held."""
        self._shelf.closed = False

    async def check(self) -> StoreStatus:
        """See `Store.check`."""
        if self._shelf.closed:
            return StoreStatus(ok=False, detail="the memory store is closed")
        return StoreStatus(ok=True, detail="documents are kept in memory and end with this process")

    async def close(self) -> None:
        """Refuse everything from now on."""
        self._shelf.closed = True


class MemoryLog:
    """`UpdateLog` in memory."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    async def append(self, entries: Sequence[LogEntry], *, row_wait_s: float = ROW_WAIT_S) -> Appended:
        """See `UpdateLog.append`."""
        shelf = self._shelf
        shelf.check_open()
        fresh = [entry for entry in rules.distinct(entries).values() if not shelf.is_stored(entry)]
        names = {entry.document for entry in entries}
        deleted = {name for name in names if name in shelf.records and shelf.records[name].deleted_at is not None}
        added = [entry for entry in fresh if entry.document not in deleted]
        for entry in added:
            shelf.put(shelf.add(entry.document), entry)
        return Appended(
            {name: shelf.records[name].last_seq for name in names - deleted},
            frozenset(deleted),
            repeated=len(added) < sum(entry.document not in deleted for entry in entries),
        )

    async def load(self, document: str) -> Stored:
        """See `UpdateLog.load`."""
        record = self._shelf.find(document)
        if record is None:
            return Stored(None, ())
        number, coverage, damage = record.newest_good_fold()
        rows = [(seq, row.update, row.checksum) for seq, row in record.rows.items() if not coverage.covers(seq)]
        good, unreadable = rules.undamaged(document, rows)
        return Stored(
            None if number is None else record.folds[number].update,
            tuple(LoggedUpdate(seq, update) for seq, update in good),
            last_seq=record.last_seq,
            snapshot_id=number,
            damage=(*damage, *unreadable),
        )

    async def last_seq(self, document: str) -> int:
        """See `UpdateLog.last_seq`."""
        record = self._shelf.find(document)
        return 0 if record is None else record.last_seq

    async def last_seqs(self, documents: Collection[str]) -> dict[str, int | None]:
        """See `UpdateLog.last_seqs`."""
        self._shelf.check_open()
        found = {name: self._shelf.records[name] for name in documents if name in self._shelf.records}
        return {name: record.last_seq if record.deleted_at is None else None for name, record in found.items()}

    async def tail(self, after: Mapping[str, int], *, limit_bytes: int = 4 * 1024 * 1024) -> dict[str, Tail]:
        """See `UpdateLog.tail`."""
        self._shelf.check_open()
        tails: dict[str, Tail] = {}
        left = max(limit_bytes, 1)
        for name, seq in after.items():
            record = self._shelf.records.get(name)
            if left > 0 and record is not None and record.deleted_at is None and record.last_seq > seq:
                rows = record.tail_rows(seq, left)
                left -= sum(row.size for row in rows)
                tails[name] = rules.tail(name, seq, record.last_seq, rows, cut=left <= 0)
        return tails

    async def compact(self, document: str, compaction: Compaction) -> bool:
        """See `UpdateLog.compact`."""
        record = self._shelf.find(document)
        if record is None:
            return False
        rules.check_covered(compaction.covered, record.last_seq)
        base, coverage, _ = record.newest_good_fold()
        if base != compaction.base or (base is None and record.folds and len(record.rows) < record.last_seq):
            return False
        for seq in [seq for seq in record.rows if coverage.covers(seq)]:
            del self._shelf.keys[record.rows.pop(seq).key]
        for older in [number for number in record.folds if base is not None and number < base]:
            del record.folds[older]
        record.folds[next(self._shelf.ids)] = Fold(
            compaction.update,
            compaction.state_vector,
            rules.checksum(document, compaction.update),
            coverage.extended(compaction.covered),
        )
        return True


class MemoryDocuments:
    """`Documents` in memory."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    async def create(
        self,
        name: str,
        *,
        title: str | None = None,
        meta: Mapping[str, Any] | None = None,
        entry: LogEntry | None = None,
    ) -> Document:
        """See `Documents.create`."""
        self._shelf.check_open()
        rules.check_create(name, entry)
        plain = rules.checked_meta(meta)
        stored = entry is not None and self._shelf.is_stored(entry)
        if name in self._shelf.records:
            if stored:
                return self._shelf.need(name).as_document()
            raise DocumentExists(name)
        record = self._shelf.add(name)
        record.title, record.meta = rules.storable_or_none(title), plain
        if entry is not None:
            self._shelf.put(record, entry)
        return record.as_document()

    async def get(self, name: str) -> Document:
        """See `Documents.get`."""
        return self._shelf.need(name).as_document()

    async def list(self, *, prefix: str = "", after: str | None = None, limit: int = 50) -> Page:
        """See `Documents.list`."""
        self._shelf.check_open()
        size = rules.page_size(limit)
        names = sorted(
            name
            for name, record in self._shelf.records.items()
            if name.startswith(prefix) and (after is None or name > after) and record.deleted_at is None
        )
        page = tuple(self._shelf.records[name].as_document() for name in names[:size])
        return Page(page, names[size - 1] if len(names) > size else None)

    async def change(self, name: str, change: Change) -> Document:
        """See `Documents.change`."""
        record = self._shelf.need(name)
        if change.meta is not None:
            record.meta = rules.checked_meta(change.meta)
        if change.title is not None:
            record.title = rules.storable(change.title)
        record.updated_at = self._shelf.clock()
        return record.as_document()

    async def delete(self, name: str) -> None:
        """See `Documents.delete`."""
        self._shelf.check_open()
        record = self._shelf.records.get(name)
        if record is None:
            raise DocumentMissing(name)
        if record.deleted_at is None:
            record.deleted_at = record.updated_at = self._shelf.clock()


class MemorySnapshots:
    """`Snapshots` in memory."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    async def create(
        self, document: str, *, update: bytes, state_vector: bytes, seq: int, label: str | None, author: str | None
    ) -> Snapshot:
        """See `Snapshots.create`."""
        record = self._shelf.need(document)
        snapshot = Snapshot(
            id=next(self._shelf.ids),
            document=document,
            label=rules.storable_or_none(label),
            author=rules.storable_or_none(author),
            created_at=self._shelf.clock(),
            bytes=len(update),
            seq=seq,
        )
        record.versions[snapshot.id] = Version(snapshot, update, rules.checksum(document, update))
        return snapshot

    async def list(self, document: str, *, before: int | None = None, limit: int = 50) -> tuple[Snapshot, ...]:
        """See `Snapshots.list`."""
        record = self._shelf.need(document)
        newest_first = [record.versions[number].snapshot for number in sorted(record.versions, reverse=True)]
        return tuple(found for found in newest_first if before is None or found.id < before)[: rules.page_size(limit)]

    async def get(self, document: str, snapshot: int) -> tuple[Snapshot, bytes]:
        """See `Snapshots.get`."""
        found = self._shelf.need(document).versions.get(snapshot)
        if found is None:
            raise SnapshotMissing(rules.no_snapshot(document, snapshot))
        if rules.checksum(document, found.update) != found.checksum:
            raise SnapshotMissing(rules.no_snapshot(document, snapshot)) from ValueError(
                rules.snapshot_damage(snapshot)
            )
        return found.snapshot, found.update

    async def delete(self, document: str, snapshot: int) -> None:
        """See `Snapshots.delete`."""
        if self._shelf.need(document).versions.pop(snapshot, None) is None:
            raise SnapshotMissing(rules.no_snapshot(document, snapshot))
