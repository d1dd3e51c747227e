"""Awareness entries of one document: who owns each, which is newer, when one is gone.

The rules are those of y-protocols (an entry with a newer clock wins; at the same clock only a removal does), plus
ownership, which y-protocols leaves to the server: a session speaks for one client id. Stock clients send back the
entries of others that they received; those are foreign and dropped without a word (SPEC A4).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from collab.errors import MalformedMessage
from collab.protocol.messages import AwarenessEntry
from collab.room.session import Identity, Session

Owner = Session | str
"""A session of this node, or the id of another node."""

REMOVED_KEPT_FOR = 60.0
"""Seconds a removed entry's clock is remembered: longer than any client (30 s) would go on showing it."""


@dataclass(slots=True)
class _Entry:
    clock: int
    state: bytes | None
    owner: Owner | None
    heard_at: float


class AwarenessTable:
    """The entries of a document, and which of them the room has not been told about yet.

    ``take_changes`` gives each changed entry once, however often it changed since (SPEC A5).
    """

    def __init__(self, *, expire_after: float = 30.0) -> None:
        self._expire_after = expire_after
        self._entries: dict[int, _Entry] = {}
        self._changed: dict[int, bool] = {}
        """client id -> whether its owner must hear of it too."""

    def receive(self, session: Session, entries: Iterable[AwarenessEntry], now: float) -> None:
        """Take what ``session`` says about its own client; drop what it says about others."""
        entries = tuple(entries)
        if session.client is None and len(entries) == 1 and not self._claim(session, entries[0], now):
            return
        for entry in entries:
            if entry.client == session.client:
                self._update(entry, session, now)

    def receive_from_node(self, node: str, entries: Iterable[AwarenessEntry], now: float) -> None:
        """Take what another node says about its sessions; entries owned here are not its business."""
        for entry in entries:
            known = self._entries.get(entry.client)
            if known is None or not isinstance(known.owner, Session):
                self._update(entry, node, now)

    def leave(self, owner: Owner, now: float) -> None:
        """Remove every entry ``owner`` owns (SPEC A2)."""
        for client, entry in self._entries.items():
            if entry.owner is owner or (isinstance(owner, str) and entry.owner == owner):
                self._remove(client, entry, now)

    def expire(self, now: float) -> None:
        """Remove entries unheard of for too long, and forget removed ones that nobody can still show."""
        forgotten = []
        for client, entry in self._entries.items():
            silent_for = now - entry.heard_at
            if entry.state is not None and silent_for > self._expire_after:
                self._remove(client, entry, now)
            elif entry.state is None and silent_for > REMOVED_KEPT_FOR:
                forgotten.append(client)
        for client in forgotten:
            del self._entries[client]

    def take_changes(self) -> tuple[tuple[AwarenessEntry, ...], Session | None]:
        """Entries changed since the last call, and the session that need not hear them (it said all of it)."""
        if not self._changed:
            return (), None
        entries = tuple(self._shown(client) for client in self._changed if client in self._entries)
        author = None
        if len(self._changed) == 1:
            ((client, told_to_owner),) = self._changed.items()
            entry = self._entries.get(client)
            if entry is not None and not told_to_owner and isinstance(entry.owner, Session):
                author = entry.owner
        self._changed.clear()
        return entries, author

    def all(self) -> tuple[AwarenessEntry, ...]:
        """Everybody present."""
        return tuple(
            AwarenessEntry(client, entry.clock, entry.state)
            for client, entry in self._entries.items()
            if entry.state is not None
        )

    def owned_here(self, entries: tuple[AwarenessEntry, ...]) -> tuple[AwarenessEntry, ...]:
        """Those of ``entries`` that a session of this node speaks for, or spoke for until it left."""
        return tuple([entry for entry in entries if not isinstance(self._entries[entry.client].owner, str)])

    def _claim(self, session: Session, entry: AwarenessEntry, now: float) -> bool:
        """Bind ``session`` to the client of its first entry, if nobody else speaks for that client."""
        known = self._entries.get(entry.client)
        if known is None:
            if entry.state is None:
                return False
        elif isinstance(known.owner, Session):
            # The same user coming back before its old connection was found dead takes its entry along.
            if known.owner.identity != session.identity or entry.clock < known.clock:
                return False
        elif known.state is None:
            if session.joined_at < known.heard_at or entry.state is None:
                return False  # somebody who saw it leave repeats what it last saw
            if entry.clock == known.clock:
                # Gone and back with an unchanged clock: those who removed it would never show it again
                # (y-websocket issue 122), so it returns one clock later, and its owner learns that too.
                entry = AwarenessEntry(entry.client, entry.clock + 1, entry.state)
                session.client = entry.client
                self._update(entry, session, now)
                self._changed[entry.client] = True
                return False
        session.client = entry.client
        if known is not None:
            known.owner, known.heard_at = session, now
        return True

    def _update(self, entry: AwarenessEntry, owner: Owner, now: float) -> None:
        known = self._entries.get(entry.client)
        if known is None:
            if entry.state is None:
                return
        elif entry.clock < known.clock or (
            entry.clock == known.clock and (entry.state is not None or known.state is None)
        ):
            return
        state = entry.state
        if state is not None and isinstance(owner, Session):
            state = stamp(state, owner.identity)
        self._entries[entry.client] = _Entry(entry.clock, state, owner, now)
        self._changed.setdefault(entry.client, False)

    def _remove(self, client: int, entry: _Entry, now: float) -> None:
        if entry.state is None:
            entry.owner = None
            return
        entry.state = None
        entry.owner = None
        entry.heard_at = now
        self._changed[client] = True

    def _shown(self, client: int) -> AwarenessEntry:
        entry = self._entries[client]
        return AwarenessEntry(client, entry.clock, entry.state)


def stamp(state: bytes, identity: Identity) -> bytes:
    """The state with its ``user`` field set from ``identity``; untouched when the identity has no name.

    ``user`` is where every cursor plugin of the Yjs family looks for the name and colour to show. Raises
    `MalformedMessage` for a state that is not a JSON object.
    """
    if identity.name is None:
        return state
    try:
        fields = json.loads(state)
    except ValueError as error:
        raise MalformedMessage("an awareness state that is not JSON") from error
    if not isinstance(fields, dict):
        raise MalformedMessage("an awareness state that is not an object")
    claimed = fields.get("user")
    color = identity.color
    if color is None and isinstance(claimed, dict):
        color = _color(claimed.get("color"))
    fields["user"] = {"id": identity.subject, "name": identity.name, **({"color": color} if color else {})}
    return json.dumps(fields, separators=(",", ":")).encode()


def _color(value: object) -> str | None:
    """A #rrggbb colour, or None: anything else ends up in other people's style attributes."""
    if not isinstance(value, str) or len(value) != 7 or value[0] != "#":
        return None
    return value if all(digit in "0123456789abcdefABCDEF" for digit in value[1:]) else None
