"""What of a document's clocks this node knows without asking the engine: enough to tell a plain update.

A plain update is one typed string or one erased range that leans only on what is known here and goes on where its
client stopped. A million hostile ones were given to yrs and to Yjs (`tests/fuzz`): none harms either, and both read the
same. So people may be shown it before the engine has it (SPEC R15).
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from collab.errors import MalformedMessage
from collab.protocol.yjs import read_state_vector
from collab.protocol.yjs_keystroke import read_erased, read_typed

if TYPE_CHECKING:
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

    def integrated(self, answer: Integration) -> None:
        """The engine integrated updates, of which those that are one typed string were given to `note`."""
        if answer.crowded or (self._next is not None and len(self._next) > MAX_CLIENTS):
            self._next = None
        if self._next is not None and answer.clocks:
            for client, clock in answer.clocks.items():
                if clock > self._next.get(client, 0):
                    self._next[client] = clock

    def note(self, update: bytes) -> None:
        """``update`` is in the document, or people are shown it."""
        typed = read_typed(update)
        if typed is not None and self._next is not None and typed[1] <= self._next.get(typed[0], 0) < typed[2]:
            self._next[typed[0]] = typed[2]

    def take(self, update: bytes) -> bool:
        """Whether ``update`` is plain; then it counts as known from now on. Hot path."""
        known = self._next
        if known is None:
            return False
        typed = read_typed(update)
        if typed is None:
            erased = read_erased(update)
            return erased is not None and erased[2] <= known.get(erased[0], 0)
        client, clock, end, needs = typed
        if clock != known.get(client, 0):
            return False
        for other, needed in needs.items():
            if needed > known.get(other, 0):
                return False
        known[client] = end
        return True
