"""What every store adapter must agree on: checksums, which rows a snapshot covers, what text and names may hold.

Pure functions and one value; used by `memory` and `sql` alike, so that the two cannot drift apart.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from collab.errors import Misuse
from collab.store.port import LogEntry, NamedUpdate, Tail

Clock = Callable[[], datetime]
"""Tells the time, aware, in any zone."""

MAX_PAGE = 1000
"""Most rows a listing returns at once. Guessed: about 1 MB of answer."""

TAIL_ROWS = 10_000
"""Most rows of one document a tail holds, so that none is longer than a statement's time. Guessed: a node that follows
the log is a few rows behind; one that is farther behind asks again."""

TAIL_ROW_BYTES = 100
"""What a row of a tail counts besides its update, so that many tiny ones are bounded too."""

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def utc_now() -> datetime:
    """Tell the wall clock's time; the default clock of the adapters."""
    return datetime.now(UTC)


def checksum(document: str, update: bytes) -> bytes:
    """SHA-256 over name, NUL and bytes: a row that is changed, cut, or moved to another document fails it."""
    digest = sha256(document.encode("utf-8", "surrogatepass") + b"\x00")
    digest.update(update)
    return digest.digest()


def storable(text: str) -> str:
    """Replace what PostgreSQL cannot keep in text (NUL, lone surrogates) by U+FFFD.

    Without this one hostile author name would fail the transaction of every document it shares a batch with.
    """
    return text if text.isascii() and "\x00" not in text else _UNSTORABLE.sub("\ufffd", text)


def storable_or_none(text: str | None) -> str | None:
    """`storable`, for text that may be absent."""
    return None if text is None else storable(text)


def checked_meta(meta: Mapping[str, Any] | None) -> dict[str, Any]:
    """Copy ``meta`` as what will be read back. Raises `Misuse` for what is not JSON."""
    try:
        copied: dict[str, Any] = json.loads(json.dumps(dict(meta or {}), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise Misuse(f"document meta must be plain JSON: {error}") from error
    return copied


def prefix_end(prefix: str) -> str | None:
    """Return the first string after all that start with ``prefix``, in code point order; None when nothing is.

    A range, because LIKE would take ``_`` and ``%`` in a name for wildcards.
    """
    for cut in range(len(prefix), 0, -1):
        last = ord(prefix[cut - 1])
        if last < 0x10FFFF:
            return prefix[: cut - 1] + chr(0xE000 if last == 0xD7FF else last + 1)
    return None


def page_size(limit: int) -> int:
    """Bound a caller's limit to 1..`MAX_PAGE`."""
    return max(1, min(limit, MAX_PAGE))


def counts_by_document(entries: Iterable[LogEntry]) -> dict[str, int]:
    """Count entries per document, in name order: every writer locks documents in this order, so none deadlocks."""
    counts: dict[str, int] = {}
    for entry in entries:
        counts[entry.document] = counts.get(entry.document, 0) + 1
    return dict(sorted(counts.items()))


def distinct(entries: Iterable[LogEntry]) -> dict[tuple[str, int], LogEntry]:
    """Name -> entry, in order, each name once. Raises `Misuse` when one name is given to two updates."""
    named: dict[tuple[str, int], LogEntry] = {}
    for entry in entries:
        first = named.setdefault((entry.node, entry.number), entry)
        if (first.document, first.update) != (entry.document, entry.update):
            raise Misuse(two_updates(entry.node, entry.number))
    return named


@dataclass(frozen=True, slots=True)
class Coverage:
    """Which rows of the log a compaction snapshot holds: all up to ``through``, except those in ``waiting``.

    Exact, although it is short, because the sequence of one document has no gaps. ``waiting`` are rows that were
    still waiting for a dependency (or were unreadable) when the snapshot was folded.
    """

    through: int = 0
    waiting: frozenset[int] = frozenset()

    def covers(self, seq: int) -> bool:
        """Say whether the row ``seq`` is part of the snapshot."""
        return seq <= self.through and seq not in self.waiting

    def extended(self, covered: Collection[int]) -> Coverage:
        """Return the coverage after folding the rows ``covered`` in as well."""
        through = max(self.through, max(covered, default=0))
        waiting = self.waiting.union(range(self.through + 1, through + 1)).difference(covered)
        return Coverage(through, frozenset(waiting))


NOTHING_COVERED = Coverage()
"""Before the first snapshot."""


def snapshot_damage(snapshot: int) -> str:
    """Sentence for `Stored.damage`."""
    return f"snapshot {snapshot} fails its checksum and was passed over"


def update_damage(seq: int) -> str:
    """Sentence for `Stored.damage`."""
    return f"update {seq} fails its checksum and was left out"


def no_snapshot(document: str, snapshot: int) -> str:
    """Sentence for `SnapshotMissing`."""
    return f"no snapshot {snapshot} of {document}"


def two_updates(node: str, number: int) -> str:
    """Sentence for `Misuse`: storing either would lose the other."""
    return f"entry {number} of node {node} names two different updates"


def check_covered(covered: Collection[int], last_seq: int) -> None:
    """Raise `Misuse` when a compaction claims rows that were never committed."""
    if covered and not (min(covered) >= 1 and max(covered) <= last_seq):
        raise Misuse(f"a compaction covers rows outside 1..{last_seq}")


def check_create(name: str, entry: LogEntry | None) -> None:
    """Raise `Misuse` when a document would be created with another one's update."""
    if entry is not None and entry.document != name:
        raise Misuse("a document's first entry must be its own")


def undamaged(document: str, rows: Sequence[tuple[int, bytes, bytes]]) -> tuple[list[tuple[int, bytes]], list[str]]:
    """Split ``rows`` of (seq, update, checksum) into readable ones and sentences about the others."""
    good: list[tuple[int, bytes]] = []
    damage: list[str] = []
    for seq, update, expected in rows:
        if checksum(document, update) == expected:
            good.append((seq, update))
        else:
            damage.append(update_damage(seq))
    return good, damage


@dataclass(frozen=True, slots=True)
class TailRow:
    """One row of the log as it is kept, on its way into a `Tail`."""

    seq: int
    update: bytes
    checksum: bytes
    node: str
    number: int

    @property
    def size(self) -> int:
        """What it counts against a tail's limit."""
        return len(self.update) + TAIL_ROW_BYTES


def tail(document: str, after: int, last_seq: int, rows: Sequence[TailRow], *, cut: bool) -> Tail:
    """Make the tail after ``after`` of the rows found there, in order.

    ``cut`` says that the limit was reached with the last of them: what follows was not looked at.
    """
    through = after + len(rows)
    wanted = through if cut else min(last_seq, after + TAIL_ROWS)
    if through != wanted or (rows and rows[-1].seq != through):
        return Tail((), after, complete=False)
    good = (row for row in rows if checksum(document, row.update) == row.checksum)
    return Tail(tuple(NamedUpdate(row.seq, row.update, row.node, row.number) for row in good), through)
