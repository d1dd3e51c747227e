"""What the memory store holds: records of documents, and the questions its ports ask of them.

Used by `memory` and `memory_access` only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from typing import Any

from collab.errors import DocumentDeleted, DocumentMissing, Misuse, StoreUnavailable
from collab.store import rules
from collab.store.port import Document, LogEntry, Snapshot
from collab.store.rules import Coverage


@dataclass(slots=True)
class Row:
    """An update in the log."""

    update: bytes
    checksum: bytes
    key: tuple[str, int]


@dataclass(slots=True)
class Fold:
    """A snapshot that loading starts from."""

    update: bytes
    state_vector: bytes
    checksum: bytes
    coverage: Coverage


@dataclass(slots=True)
class Version:
    """A labelled snapshot."""

    snapshot: Snapshot
    update: bytes
    checksum: bytes


@dataclass(slots=True)
class Record:
    """A document and all that is kept of it."""

    name: str
    created_at: datetime
    updated_at: datetime
    title: str | None = None
    meta: dict[str, Any] = field(default_factory=dict)
    deleted_at: datetime | None = None
    last_seq: int = 0
    rows: dict[int, Row] = field(default_factory=dict)
    folds: dict[int, Fold] = field(default_factory=dict)
    versions: dict[int, Version] = field(default_factory=dict)

    def newest_good_fold(self) -> tuple[int | None, Coverage, list[str]]:
        """Its number and coverage, and a sentence for each newer one whose checksum fails."""
        damage: list[str] = []
        for number, fold in reversed(self.folds.items()):
            if rules.checksum(self.name, fold.update) == fold.checksum:
                return number, fold.coverage, damage
            damage.append(rules.snapshot_damage(number))
        return None, rules.NOTHING_COVERED, damage

    def tail_rows(self, after: int, limit: int) -> list[rules.TailRow]:
        """The rows there after ``after``, until ``limit`` bytes are reached."""
        found: list[rules.TailRow] = []
        for seq in range(after + 1, min(self.last_seq, after + rules.TAIL_ROWS) + 1):
            row = self.rows.get(seq)
            if row is not None and limit > 0:
                found.append(rules.TailRow(seq, row.update, row.checksum, *row.key))
                limit -= found[-1].size
        return found

    def as_document(self) -> Document:
        """What the catalogue says of it."""
        newest = self.folds[max(self.folds)] if self.folds else None
        coverage = newest.coverage if newest else rules.NOTHING_COVERED
        size = sum(len(row.update) for seq, row in self.rows.items() if not coverage.covers(seq))
        size += len(newest.update) if newest else 0
        return Document(
            self.name, self.title, dict(self.meta), self.created_at, self.updated_at, bytes=size, seq=self.last_seq
        )


class Shelf:
    """All records, and the questions every port asks of them."""

    def __init__(self, clock: rules.Clock) -> None:
        self.clock = clock
        self.records: dict[str, Record] = {}
        self.keys: dict[tuple[str, int], bytes] = {}
        self.ids = count(1)
        self.closed = False

    def check_open(self) -> None:
        """Raise `StoreUnavailable` when the store is closed."""
        if self.closed:
            raise StoreUnavailable("the memory store is closed")

    def find(self, name: str) -> Record | None:
        """The record, or None. Raises `DocumentDeleted`."""
        self.check_open()
        record = self.records.get(name)
        if record is not None and record.deleted_at is not None:
            raise DocumentDeleted(name)
        return record

    def need(self, name: str) -> Record:
        """The record. Raises `DocumentMissing`, `DocumentDeleted`."""
        record = self.find(name)
        if record is None:
            raise DocumentMissing(name)
        return record

    def add(self, name: str) -> Record:
        """The record, made when it is missing."""
        now = self.clock()
        return self.records.setdefault(name, Record(name, now, now))

    def is_stored(self, entry: LogEntry) -> bool:
        """Say whether the log holds ``entry``. Raises `Misuse` when its name belongs to another update."""
        held = self.keys.get((entry.node, entry.number))
        if held is not None and held != rules.checksum(entry.document, entry.update):
            raise Misuse(rules.two_updates(entry.node, entry.number))
        return held is not None

    def put(self, record: Record, entry: LogEntry) -> None:
        """Add ``entry`` to its log."""
        key = (entry.node, entry.number)
        digest = self.keys[key] = rules.checksum(entry.document, entry.update)
        record.last_seq += 1
        record.updated_at = self.clock()
        record.rows[record.last_seq] = Row(entry.update, digest, key)
