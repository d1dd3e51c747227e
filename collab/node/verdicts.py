"""The engine's verdicts in the room's terms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collab.engine.port import Integration, Outcome, Verdict
from collab.errors import CloseCode
from collab.room import Integrated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from collab.node.counters import Counters
    from collab.room import Proposal

NOTHING_NEW = Integration((Outcome(Verdict.REDUNDANT, empty=True),), None)
"""What the engine says of an empty update."""


def sort(proposals: Sequence[Proposal], answer: Integration, counters: Counters) -> Integrated:
    """Say what became of each proposal of a batch, and count it."""
    taken, waiting, repeated, still_waiting, structless, refused = [], [], [], [], [], []
    for proposal, outcome in zip(proposals, answer.outcomes, strict=True):
        counters.updates[outcome.verdict.value] += 1
        match outcome.verdict:
            case Verdict.INTEGRATED:
                taken.append(proposal)
            case Verdict.PENDING:
                taken.append(proposal)
                waiting.append(proposal)
            case Verdict.REDUNDANT:
                repeated.append(proposal)
                if outcome.empty:
                    structless.append(proposal)
            case Verdict.STILL_PENDING:
                still_waiting.append(proposal)
                if outcome.empty:
                    structless.append(proposal)
            case Verdict.REFUSED:
                refused.append((proposal, outcome.code or CloseCode.MALFORMED, outcome.detail))
    return Integrated(
        taken=tuple(taken),
        merged=answer.merged,
        brought={proposals[index]: update for index, update in answer.brought.items()},
        waiting=tuple(waiting),
        repeated=tuple(repeated),
        still_waiting=tuple(still_waiting),
        structless=frozenset(structless),
        refused=tuple(refused),
    )
