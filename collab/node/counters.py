"""What a node counts about itself: plain numbers, cheap enough for the hot path.

Whoever does the work increments; `collab.server.metrics` reads at scrape time and knows the names Prometheus sees.
Standard library only, one thread only.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

LATENCY_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds, in seconds: fine around the promise of 10 ms, up to what an outage of the database makes of it."""
MAX_KINDS = 64
"""A counter by kind keeps at most this many kinds, so that no client can make up labels without end."""


class Histogram:
    """Counts observations by upper bound; the last bucket has none."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...] = LATENCY_BUCKETS_S) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value. Hot path: a binary search and two additions."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        """How many values were observed."""
        return sum(self.counts)

    def cumulative(self) -> list[tuple[str, int]]:
        """(upper bound, values at or below it) for every bucket, ending with "+Inf"."""
        total, out = 0, []
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            total += count
            out.append((bound, total))
        return out

    def quantile(self, q: float) -> float:
        """The upper bound of the bucket that holds quantile ``q`` (0 to 1); 0 when nothing was observed."""
        wanted = q * self.count
        for (_, total), bound in zip(self.cumulative(), (*self.bounds, float("inf")), strict=True):
            if total >= wanted:
                return bound if self.count else 0.0
        return float("inf")


class Kinds(Counter[str]):
    """Counts by kind, where kinds are few; past `MAX_KINDS` everything new counts as "other"."""

    def add(self, kind: str, count: int = 1) -> None:
        """Count ``kind``; it must come from our own code, never from what a client sent."""
        self[kind if kind in self or len(self) < MAX_KINDS else "other"] += count


@dataclass(slots=True)
class Counters:
    """The running totals of one node since its start, and what is true right now."""

    edit_to_acknowledgement_s: Histogram = field(default_factory=Histogram)
    """From an update's arrival to its author being told that it is committed."""
    broadcast_s: Histogram = field(default_factory=Histogram)
    """From an update's arrival to its frame being written to the last other session of this node."""

    connections_opened: int = 0
    connections: int = 0
    """WebSockets open now."""
    sessions: int = 0
    """Sessions joined to a room now."""
    rooms: int = 0
    """Documents in memory now."""
    queue_bytes: int = 0
    """Frames waiting for slow readers now."""
    unsaved_bytes: int = 0
    """Updates waiting for their commit now."""

    messages_in: Kinds = field(default_factory=Kinds)
    """By message class (`Update`, `Awareness`, ...)."""
    frames_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    updates: Kinds = field(default_factory=Kinds)
    """By verdict (a `Verdict`'s value)."""
    plain: int = 0
    """Updates shown before the engine had them."""
    closes: Kinds = field(default_factory=Kinds)
    """WebSocket closes by code."""
    denials: Kinds = field(default_factory=Kinds)
    """Upgrades refused, by HTTP status."""
    limits: Kinds = field(default_factory=Kinds)
    """Times a limit was met, by limit."""
    slow_reader_diffs: int = 0
    """How often a backlog was replaced by one diff."""

    engine_restarts: int = 0
    quarantines: int = 0
    """How often a document was quarantined."""
    transactions: int = 0
    """Commits to the update log."""
    rows: int = 0
    """Updates committed."""
    store_failures: int = 0
    """Commits that failed and were repeated later."""
    compactions: int = 0
    bus_connected: int = 0
    """1 while envelopes arrive from the bus and leave for it."""
    bus_published: int = 0
    """Envelopes the bus took."""
    bus_received: int = 0
    """Good envelopes of other nodes."""
    bus_dropped: int = 0
    """Envelopes given up unpublished because too many waited, or because they waited too long."""
    bus_bad_envelopes: int = 0
    """Envelopes that were changed on the way, signed with another secret, or of another version."""
    bus_reconnects: int = 0
    """How often the bus was lost and found again."""
    nodes: int = 0
    """Other nodes alive now."""
    resyncs: Kinds = field(default_factory=Kinds)
    """Questions to other nodes, by cause (`opened`, `hole`, `lost`, `digest`, `presence`, `log`, `paused`)."""
    adopted: int = 0
    """Updates of other nodes written to the log here."""
    followed: int = 0
    """Updates read from the log because nobody told of them."""

    audit_dropped: int = 0
    """Joins and exports missing from the audit log, since the database was away for too long."""
    damage: int = 0
    """Snapshots and rows that failed their checksum and were passed over."""
