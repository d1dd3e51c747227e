"""The store in this process's memory: real in every rule except that it is gone with the process.

Used by tests, by the simulation and where nothing need survive. Every method does its work without awaiting, so
each call is one transaction. Rows carry checksums too, so that damage can be tried on it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from typing import Any

from collab.errors import DocumentDeleted, DocumentExists, DocumentMissing, Misuse, SnapshotMissing, StoreUnavailable
from collab.store import rules
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
from collab.store.rules import Coverage


@dataclass(slots=True)
class _Row:
    update: bytes
    checksum: bytes
    key: tuple[str, int]


@dataclass(slots=True)
class _Fold:
    update: bytes
    state_vector: bytes
    checksum: bytes
    coverage: Coverage


@dataclass(slots=True)
class _Version:
    snapshot: Snapshot
    update: bytes
    checksum: bytes


@dataclass(slots=True)
class _Record:
    name: str
    created_at: datetime
    updated_at: datetime
    title: str | None = None
    meta: dict[str, Any] = field(default_factory=dict)
    deleted_at: datetime | None = None
    last_seq: int = 0
    rows: dict[int, _Row] = field(default_factory=dict)
    folds: dict[int, _Fold] = field(default_factory=dict)
    versions: dict[int, _Version] = field(default_factory=dict)

    def newest_good_fold(self) -> tuple[int | None, Coverage, list[str]]:
        damage: list[str] = []
        for number, fold in reversed(self.folds.items()):
            if rules.checksum(self.name, fold.update) == fold.checksum:
                return number, fold.coverage, damage
            damage.append(rules.snapshot_damage(number))
        return None, rules.NOTHING_COVERED, damage

    def tail_rows(self, after: int, limit: int) -> list[rules.TailRow]:
        found: list[rules.TailRow] = []
        for seq in range(after + 1, min(self.last_seq, after + rules.TAIL_ROWS) + 1):
            row = self.rows.get(seq)
            if row is not None and limit > 0:
                found.append(rules.TailRow(seq, row.update, row.checksum, *row.key))
                limit -= found[-1].size
        return found

    def as_document(self) -> Document:
        newest = self.folds[max(self.folds)] if self.folds else None
        coverage = newest.coverage if newest else rules.NOTHING_COVERED
        size = sum(len(row.update) for seq, row in self.rows.items() if not coverage.covers(seq))
        size += len(newest.update) if newest else 0
        return Document(
            self.name, self.title, dict(self.meta), self.created_at, self.updated_at, bytes=size, seq=self.last_seq
        )


class _Shelf:
    """All records, and the questions every port asks of them."""

    def __init__(self, clock: rules.Clock) -> None:
        self.clock = clock
        self.records: dict[str, _Record] = {}
        self.keys: dict[tuple[str, int], bytes] = {}
        self.ids = count(1)
        self.closed = False

    def check_open(self) -> None:
        if self.closed:
            raise StoreUnavailable("the memory store is closed")

    def find(self, name: str) -> _Record | None:
        self.check_open()
        record = self.records.get(name)
        if record is not None and record.deleted_at is not None:
            raise DocumentDeleted(name)
        return record

    def need(self, name: str) -> _Record:
        record = self.find(name)
        if record is None:
            raise DocumentMissing(name)
        return record

    def add(self, name: str) -> _Record:
        now = self.clock()
        return self.records.setdefault(name, _Record(name, now, now))

    def is_stored(self, entry: LogEntry) -> bool:
        """Say whether the log holds ``entry``. Raises `Misuse` when its name belongs to another update."""
        held = self.keys.get((entry.node, entry.number))
        if held is not None and held != rules.checksum(entry.document, entry.update):
            raise Misuse(rules.two_updates(entry.node, entry.number))
        return held is not None

    def put(self, record: _Record, entry: LogEntry) -> None:
        key = (entry.node, entry.number)
        digest = self.keys[key] = rules.checksum(entry.document, entry.update)
        record.last_seq += 1
        record.updated_at = self.clock()
        record.rows[record.last_seq] = _Row(entry.update, digest, key)


class MemoryStore:
    """A `Store` that keeps everything in memory. ``clock`` tells the time documents are stamped with."""

    def __init__(self, *, clock: Callable[[], datetime] = rules.utc_now) -> None:
        shelf = _Shelf(clock)
        self._shelf = shelf
        self.log = MemoryLog(shelf)
        self.documents = MemoryDocuments(shelf)
        self.snapshots = MemorySnapshots(shelf)

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

    def __init__(self, shelf: _Shelf) -> None:
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
        record.folds[next(self._shelf.ids)] = _Fold(
            compaction.update,
            compaction.state_vector,
            rules.checksum(document, compaction.update),
            coverage.extended(compaction.covered),
        )
        return True


class MemoryDocuments:
    """`Documents` in memory."""

    def __init__(self, shelf: _Shelf) -> None:
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

    def __init__(self, shelf: _Shelf) -> None:
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
        record.versions[snapshot.id] = _Version(snapshot, update, rules.checksum(document, update))
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
