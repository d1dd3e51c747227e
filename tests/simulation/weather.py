"""How bad things are right now: rates and delays that every unreliable part looks at. Fair weather is the default."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Weather:
    """Probabilities per event, and ranges of seconds."""

    network_delay: tuple[float, float] = (0.001, 0.01)
    """Client to node and back, per frame."""

    bus_loss: float = 0.0
    bus_repeat: float = 0.0
    bus_damage: float = 0.0
    """Of an envelope's bytes on the way; it must be dropped, not believed."""
    bus_delay: tuple[float, float] = (0.001, 0.005)
    """Per hop: more than the time between two envelopes also reorders them."""

    store_delay: tuple[float, float] = (0.001, 0.004)
    """Before a transaction commits, and again before its reply."""
    store_slow: float = 0.0
    """Share of calls that take up to two seconds longer."""
    store_refuses: float = 0.0
    """Fails before anything is stored."""
    store_loses_reply: float = 0.0
    """Commits, then raises `StoreUnavailable`."""
    store_commits_late: float = 0.0
    """Raises `StoreUnavailable`, then commits."""
    slow_loads: float = 0.0
    """Share of loads that take up to a second longer."""

    engine_dies: float = 0.0
    """Per call."""
