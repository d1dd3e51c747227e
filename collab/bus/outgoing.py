"""What waits to be published: bounded in number, bytes and age. Pure; `collab.bus.link` empties it.

One policy when it is full: what comes is dropped and counted. Receivers find out by the hole in the sequence or by a
digest (see `collab.bus.port`), so nothing is remembered about it here.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

BATCH_BYTES = 1024 * 1024
BATCH_COMMANDS = 1000
"""What travels in one round trip at most, but for a single command that is larger. Guessed."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much may wait, and how long."""

    commands: int = 20_000
    bytes: int = 32 * 1024 * 1024
    """Twice the largest frame of a session."""
    seconds: float = 5.0
    """After an outage, what is older is news to nobody: everybody asks everybody for what is missing."""


class Outgoing:
    """Ready commands in the order given, kept until the bus has answered them."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._waiting: deque[tuple[bytes, float]] = deque()
        self._bytes = 0
        self.dropped = 0
        """Commands given up because there were too many or they had become too old."""

    def __len__(self) -> int:
        """How many wait, those sent and not answered yet included."""
        return len(self._waiting)

    def add(self, command: bytes, now: float) -> None:
        """Put ``command`` last, or drop it. Hot path."""
        if len(self._waiting) >= self._bounds.commands or self._bytes + len(command) > self._bounds.bytes:
            self.dropped += 1
            return
        self._waiting.append((command, now))
        self._bytes += len(command)

    def batch(self, now: float) -> list[bytes]:
        """The next commands to send; they stay until `sent`."""
        while self._waiting and now - self._waiting[0][1] > self._bounds.seconds:
            self.dropped += 1
            self._remove(1)
        commands: list[bytes] = []
        size = 0
        for command, _ in self._waiting:
            size += len(command)
            if commands and (size > BATCH_BYTES or len(commands) == BATCH_COMMANDS):
                break
            commands.append(command)
        return commands

    def sent(self, count: int) -> None:
        """The first ``count`` commands were answered."""
        self._remove(count)

    def _remove(self, count: int) -> None:
        for _ in range(count):
            self._bytes -= len(self._waiting.popleft()[0])
