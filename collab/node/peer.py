"""Another node that has a document open, as one room's `Exchange` knows it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Peer:
    """Another node that has the document open."""

    heard_at: float
    epoch: int = 0
    sequence: int = 0
    missed: str | None = None
    """Why it must be asked, or None."""
    asked_at: float = float("-inf")
    complete: bool = False
    """Whether all it said since it opened the document, or since its last answer, was heard."""
    missing_through: int = 0
    """Up to which number something of it was not heard in its turn; an answer given before that fills no hole."""
    fruitless: int = 0
    """Answers in a row that brought nothing although digests differ."""

    def hole(self, before: int) -> None:
        """Something numbered less than ``before`` was not heard."""
        self.missing_through = max(self.missing_through, before - 1)
        self.complete = False

    def level(self, through: int) -> None:
        """All that it had said up to number ``through`` is here."""
        self.complete = self.missed is None and through >= self.missing_through
