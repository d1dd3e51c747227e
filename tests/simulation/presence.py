"""Awareness as a stock client keeps it, line by line after y-protocols' awareness.js.

Faithful where it hurts: a client that reconnects remembers the clocks of those it saw, and does not show them again
before they move (y-websocket issue 122); what it hears of others it says again.
"""

from __future__ import annotations

from dataclasses import dataclass

from collab.protocol.messages import AwarenessEntry

OUTDATED_AFTER = 30.0
RENEW_AFTER = OUTDATED_AFTER / 2


@dataclass(slots=True)
class _Meta:
    clock: int
    updated_at: float


class Presence:
    """Who one client believes to be here."""

    def __init__(self, client: int, now: float) -> None:
        self.client = client
        self.states: dict[int, bytes] = {}
        self._meta: dict[int, _Meta] = {}
        self._at = 0
        self.move(now)  # what the constructor of awareness.js does; nobody ever shows a client at clock 0
        self.move(now)  # what every editor does with it at once: set its user or its cursor

    def move(self, now: float) -> AwarenessEntry:
        """The own cursor moves; what to tell."""
        meta = self._meta.get(self.client)
        self._meta[self.client] = _Meta(0 if meta is None else meta.clock + 1, now)
        self._at += 1
        self.states[self.client] = b'{"cursor":%d}' % self._at
        return self._entry(self.client)

    def own(self) -> AwarenessEntry:
        """What a client says about itself when it connects."""
        return self._entry(self.client)

    def hear(self, entries: tuple[AwarenessEntry, ...], now: float) -> tuple[AwarenessEntry, ...]:
        """Take what the server says; what y-websocket says again of it."""
        changed: list[int] = []
        for entry in entries:
            client, clock, state = entry.client, entry.clock, entry.state
            meta = self._meta.get(client)
            current = 0 if meta is None else meta.clock
            if not (current < clock or (current == clock and state is None and client in self.states)):
                continue
            if state is not None:
                self.states[client] = state
            elif client == self.client:
                clock += 1
            else:
                self.states.pop(client, None)
            self._meta[client] = _Meta(clock, now)
            if meta is not None or state is not None:
                changed.append(client)
        return tuple(self._entry(client) for client in changed)

    def renew(self, now: float) -> AwarenessEntry | None:
        """Called now and then: forget the outdated; the own entry when it is time to say it again."""
        for client, meta in self._meta.items():
            if client != self.client and now - meta.updated_at >= OUTDATED_AFTER:
                self.states.pop(client, None)
        return self.move(now) if now - self._meta[self.client].updated_at >= RENEW_AFTER else None

    def disconnected(self, *, forget: bool) -> None:
        """Show nobody else any more; with ``forget`` as a page that was loaded anew, which knows no clocks."""
        self.states = {self.client: self.states[self.client]}
        if forget:
            self._meta = {self.client: self._meta[self.client]}

    def _entry(self, client: int) -> AwarenessEntry:
        return AwarenessEntry(client, self._meta[client].clock, self.states.get(client))
