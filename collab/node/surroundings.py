"""What every live room of a node shares."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from collab.node.presence_budget import PresenceRate

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from collab.bus.port import Bus
    from collab.engine.port import Engine
    from collab.node.beat import Beat
    from collab.node.cluster import ClusterTimes
    from collab.node.compactor import Compactor
    from collab.node.connections import ConnectionManager
    from collab.node.counters import Counters
    from collab.node.recorder import Recorder
    from collab.room import Session
    from collab.store.port import UpdateLog


@dataclass(frozen=True, slots=True)
class RoomLimits:
    """What one room may hold, and its times (seconds)."""

    unsaved_bytes: int = 1024 * 1024
    unsaved_bytes_per_node: int = 64 * 1024 * 1024
    max_awareness_bytes: int = 8 * 1024
    many_clients: int = 50_000
    """A document in which so many have written is logged."""
    keep_alive_every: float = 10.0
    awareness_expires_after: float = 30.0
    show_plain_at_once: bool = True
    """Whether plain updates are shown before the engine has them."""
    presence: PresenceRate = field(default_factory=PresenceRate)
    crowd: int = 8
    """A room with more sessions than this keeps a pace. Guessed."""
    pace: float = 0.002
    """Between two turns of a crowded room; the first after a pause waits for nothing. Timers count milliseconds: it is
    0.7 ms on average."""
    pace_shared: float = 0.004
    """The same in a room that other nodes share."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every room of a node shares."""

    node: str
    engine: Engine
    log: UpdateLog
    bus: Bus
    times: ClusterTimes
    rng: random.Random
    recorder: Recorder
    compactor: Compactor
    connections: ConnectionManager
    beat: Beat
    counters: Counters
    limits: RoomLimits
    heard_of: Callable[[str], None]
    renew: Callable[[Session, bytes], None]
    """Told of a token that a client sent for its session."""
