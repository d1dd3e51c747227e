"""What of a document's clocks this node knows without asking the engine: enough to tell a plain update.

A plain update is one typed string or one erased range that leans only on what is known here and goes on where its
client stopped. A million hostile ones were given to yrs and to Yjs (`tests/fuzz`): none harms either, and both read the
same. So people may be shown it before the engine has it (SPEC R15).
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from collab.engine.port import Verdict
from collab.errors import MalformedMessage
from collab.protocol.yjs import read_state_vector
from collab.protocol.yjs_keystroke import read_erased, read_typed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from collab.engine.port import Integration

MAX_CLIENTS = 10_000
"""Of a document with more nothing is known, and nothing is plain."""


class KnownClocks:
    """Of one document. Knows nothing until it is told what was loaded."""

    def __init__(self) -> None:
        self._next: dict[int, int] | None = None
        """Client -> next expected clock; None while nothing counts as plain."""

    def loaded(self, state_vector: bytes) -> None:
        """The engine holds the document up to here, and was shown before what else is known."""
        before, self._next = self._next or {}, None
        with suppress(MalformedMessage):
            self._next = read_state_vector(state_vector, max_clients=MAX_CLIENTS)
            for client, clock in before.items():
                if clock > self._next.get(client, 0):
                    self._next[client] = clock

    def integrated(self, updates: Sequence[bytes], answer: Integration) -> None:
        """The engine had its say about these, which were not given to `take`."""
        self.followed(answer)
        for update, outcome in zip(updates, answer.outcomes, strict=True):
            if outcome.verdict is Verdict.INTEGRATED:
                self.note(update)

    def followed(self, answer: Integration) -> None:
        """The engine had its say about what was known here before."""
        if answer.crowded or (self._next is not None and len(self._next) > MAX_CLIENTS):
            self._next = None
        if self._next is not None and answer.clocks:
            for client, clock in answer.clocks.items():
                if clock > self._next.get(client, 0):
                    self._next[client] = clock

    def note(self, update: bytes) -> None:
        """``update`` is in the document, or people are shown it."""
        known = self._next
        typed = None if known is None else read_typed(update)
        if known is not None and typed is not None:
            client, clock, end, needs, _ = typed
            if clock <= known.get(client, 0) < end and _holds(known, needs):
                known[client] = end

    def take(self, update: bytes) -> bool:
        """Whether ``update`` is plain; then it counts as known from now on. Hot path."""
        known = self._next
        if known is None:
            return False
        typed = read_typed(update)
        if typed is None:
            erased = read_erased(update)
            return erased is not None and erased[2] <= known.get(erased[0], 0)
        client, clock, end, needs, _ = typed
        if clock != known.get(client, 0) or (needs and not _holds(known, needs)):
            return False
        known[client] = end
        return True


def _holds(known: dict[int, int], needs: dict[int, int]) -> bool:
    return all(needed <= known.get(client, 0) for client, needed in needs.items())
