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
    fruitless: int = 0
    """Answers in a row that brought nothing although digests differ."""
