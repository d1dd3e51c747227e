"""What happened in one history: time, actor, event. Kept short, hashed, and printed when the history fails."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.loop import VirtualLoop

SHOWN = 400
"""Events printed of a history that failed: its last ones."""


@dataclass(slots=True)
class History:
    """The events of one seed, in order. Two runs of a seed have the same `digest`, whatever the process."""

    loop: VirtualLoop
    events: list[tuple[float, str, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """Broken promises, each once; any makes the seed fail."""

    def note(self, actor: str, event: str) -> None:
        """Something happened."""
        self.events.append((self.loop.time(), actor, event))

    def wrong(self, problem: str) -> None:
        """A promise was broken."""
        if problem not in self.problems:
            self.problems.append(problem)
            self.note("CHECK", problem)

    def digest(self) -> str:
        """A hash of everything that happened."""
        total = sha256()
        for line in self.lines():
            total.update(line.encode())
        return total.hexdigest()[:16]

    def lines(self, last: int | None = None) -> Iterator[str]:
        """One line per event, all or the last ones."""
        for time, actor, event in self.events[-last:] if last else self.events:
            yield f"{time:10.6f} {actor:<8} {event}"
