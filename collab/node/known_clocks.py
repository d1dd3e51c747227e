"""What of a document this node knows without asking the engine: enough to tell a plain update.

A plain update is one typed string that goes on where its client stopped and stands beside text, or one erased range;
everything it names is known here. Of a million hostile ones (`python -m tests.attacks.plain`) none harmed yrs or Yjs,
so people may be shown it before the engine has it (SPEC R15). Clocks alone would not do: a string typed beside a map
entry becomes that entry, and some of those crash both. So a place counts as text only once the engine took a string
that stands there (E22).
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

MAX_PLACES = 256
"""So many places beside which people typed lately are remembered, besides each client's newest run of typed text."""


class KnownClocks:
    """Of one document. Knows nothing until it is told what was loaded."""

    def __init__(self) -> None:
        self._next: dict[int, int] | None = None
        """Client -> next expected clock; None while nothing counts as plain."""
        self._runs: dict[int, tuple[int, int]] = {}
        """Client -> first and next clock of what it typed last: text, all of it."""
        self._places: dict[tuple[int, int], None] = {}
        """Other (client, clock) that strings stand beside."""

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
        """The engine took ``update``, or another node's did and people are shown it."""
        known = self._next
        typed = None if known is None else read_typed(update)
        if known is None or typed is None:
            return
        client, clock, end, needs, beside = typed
        if clock <= known.get(client, 0) <= end and _holds(known, needs):
            known[client] = end
            self._extend(client, clock, end)
            for place in beside:
                if not self._is_text(place):
                    self._remember(place)

    def follows(self, update: bytes) -> bool:
        """Whether all of ``update`` is new and nothing it needs is missing, or it erases what is known. Hot path.

        So nobody here wrote its structs: whoever did may take them for confirmed when they are shown again. An erasure
        has none.
        """
        known = self._next
        if known is None:
            return False
        typed = read_typed(update)
        if typed is None:
            return _erases(known, update)
        return typed[1] == known.get(typed[0], 0) and _holds(known, typed[3])

    def take(self, update: bytes) -> bool:
        """Whether ``update`` is plain; then it counts as known from now on. Hot path."""
        known = self._next
        if known is None:
            return False
        typed = read_typed(update)
        if typed is None:
            return _erases(known, update)
        client, clock, end, needs, beside = typed
        if clock != known.get(client, 0) or (needs and not _holds(known, needs)):
            return False
        for place in beside:
            if not self._is_text(place):
                return False
        known[client] = end
        self._extend(client, clock, end)
        return True

    def _is_text(self, place: tuple[int, int]) -> bool:
        first, end = self._runs.get(place[0], (0, 0))
        return first <= place[1] < end or place in self._places

    def _extend(self, client: int, clock: int, end: int) -> None:
        run = self._runs.get(client)
        self._runs[client] = (run[0], end) if run is not None and run[0] <= clock <= run[1] else (clock, end)

    def _remember(self, place: tuple[int, int]) -> None:
        if len(self._places) >= MAX_PLACES:
            del self._places[next(iter(self._places))]
        self._places[place] = None


def _holds(known: dict[int, int], needs: dict[int, int]) -> bool:
    return all(needed <= known.get(client, 0) for client, needed in needs.items())


def _erases(known: dict[int, int], update: bytes) -> bool:
    erased = read_erased(update)
    return erased is not None and erased[2] <= known.get(erased[0], 0)
