"""How often a room shows presence: everybody's moves to everybody is quadratic, so what it may cost is bounded.

In a small room a move is seen at once. In a room of 500 it waits up to a tenth of a second and travels with
everybody else's; when all of them move ten times a second, each is seen about twice a second, at its newest place.
Edits never wait.
"""

from __future__ import annotations

from dataclasses import dataclass

SHORTEST_PAUSE = 0.002
"""Shorter ones are not worth a timer."""

LONGEST_PAUSE = 2.0
"""Presence is never older than this, whatever it costs. Guessed."""


@dataclass(frozen=True, slots=True)
class PresenceRate:
    """What one room's presence may cost a second."""

    frames: int = 5_000
    """Written, over all sessions: about a twentieth of a core (measured: 5 us to 10 us each)."""
    bytes: int = 96 * 1024 * 1024
    """The same. Guessed."""


class PresenceBudget:
    """Says when the next frame of presence may go out; ``spend`` what each one cost."""

    def __init__(self, rate: PresenceRate) -> None:
        self._rate = rate
        self._next_at = 0.0

    def pause(self, now: float) -> float:
        """Seconds to gather changes before they are shown; 0 most of the time."""
        left = self._next_at - now
        return left if left > SHORTEST_PAUSE else 0.0

    def spend(self, receivers: int, size: int, now: float) -> None:
        """A frame of ``size`` bytes went to so many sessions."""
        seconds = max(receivers / self._rate.frames, receivers * size / self._rate.bytes)
        self._next_at = now + min(seconds, LONGEST_PAUSE)
