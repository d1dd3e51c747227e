"""Awareness entries of one document: who owns each, which is newer, when one is gone.

The rules are those of y-protocols (an entry with a newer clock wins; at the same clock only a removal does), plus
ownership, which y-protocols leaves to the server: a session, here or on another node, speaks for one client id. Stock
clients send back the entries of others that they received; those are foreign and dropped without a word (SPEC A4).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b

from collab.errors import MalformedMessage
from collab.protocol.messages import AwarenessEntry
from collab.protocol.peers import PeerEntry
from collab.protocol.values import value
from collab.protocol.varint import write_varuint
from collab.room.session import Identity, Session


@value()
class Remote:
    """A session of another node."""

    node: str
    subject: str


Owner = Session | Remote

REMOVED_KEPT_FOR = 60.0
"""Seconds a removed entry's clock is remembered: longer than any client (30 s) would go on showing it."""


@dataclass(slots=True)
class _Entry:
    clock: int
    state: bytes | None
    owner: Owner
    """Who speaks for it, or did until it was removed."""
    heard_at: float
    since: float
    """When the owning session joined; of two that speak for one client at one clock, the younger counts."""


class AwarenessTable:
    """The entries of a document, and which of them the room has not been told about yet.

    ``take_changes`` gives each changed entry once, however often it changed since (SPEC A5).
    """

    def __init__(self, *, expire_after: float = 30.0) -> None:
        self._expire_after = expire_after
        self._entries: dict[int, _Entry] = {}
        self._changed: dict[int, bool] = {}
        """client id -> whether its owner must hear of it too."""

    # sessions of this node

    def receive(self, session: Session, entries: Iterable[AwarenessEntry], now: float) -> None:
        """Take what ``session`` says about its own client; drop what it says about others."""
        entries = tuple(entries)
        if session.client is None:
            own = entries[0] if len(entries) == 1 else self._only_news(entries)
            if own is None or not self._claim(session, own, now):
                return
        for entry in entries:
            if entry.client == session.client:
                self._hear_owner(entry, session, now)

    def leave(self, session: Session, now: float) -> None:
        """Remove the entry ``session`` speaks for (SPEC A2)."""
        for client, entry in self._entries.items():
            if entry.owner is session:
                self._remove(client, entry, now)

    def owned_here(self, now: float, entries: Iterable[AwarenessEntry] | None = None) -> tuple[PeerEntry, ...]:
        """Those of ``entries`` (by default: all present) that a session of this node speaks for, or spoke for."""
        wanted = self.all() if entries is None else entries
        return tuple(self._for_peers(wanted, now))

    # sessions of other nodes

    def receive_from_node(self, node: str, entries: Iterable[PeerEntry], now: float) -> tuple[PeerEntry, ...]:
        """Take what another node says about its sessions (SPEC A10).

        What was removed here at the very clock at which it is said to be there cannot be shown again: the node must
        hear of that removal, which is given back, and say the entry once more at the next clock.
        """
        removed: list[PeerEntry] = []
        for peer in entries:
            owner, since = Remote(node, peer.subject), now - peer.age_ms / 1000
            known = self._entries.get(peer.entry.client)
            if known is None or known.state is None:
                self._update(peer.entry, owner, now, since)
                if known is not None and peer.entry.state is not None and peer.entry.clock <= known.clock:
                    removed.append(PeerEntry(self._shown(peer.entry.client), peer.subject, 0))
            elif isinstance(known.owner, Session):
                self._contest(known, peer.entry, owner, now, since)
            elif known.owner.node == node:
                self._update(peer.entry, owner, now, since)
            elif peer.entry.state is not None and _outranks(peer.entry, owner, since, known):
                self._entries[peer.entry.client] = _Entry(peer.entry.clock, peer.entry.state, owner, now, since)
                self._changed.setdefault(peer.entry.client, False)
        return tuple(removed)

    def receive_all_from_node(self, node: str, entries: Iterable[PeerEntry], now: float) -> tuple[PeerEntry, ...]:
        """The same, when ``entries`` are all that the node has: what else was known of it is gone."""
        entries = tuple(entries)
        removed = self.receive_from_node(node, entries, now)
        present = {peer.entry.client for peer in entries}
        for client, entry in self._owned_by_node(node):
            if client not in present:
                self._remove(client, entry, now)
        return removed

    def node_gone(self, node: str, now: float) -> None:
        """Remove every entry of another node."""
        for client, entry in self._owned_by_node(node):
            self._remove(client, entry, now)

    def digest(self, node: str | None = None) -> bytes:
        """Eight bytes over what this node's sessions, or ``node``'s, say; equal when it is the same."""
        of_node = self._owned_by_node(node) if node is not None else self._owned_by_sessions()
        clocks = sorted((client, entry.clock) for client, entry in of_node)
        return blake2b(b"".join(write_varuint(number) for pair in clocks for number in pair), digest_size=8).digest()

    # everybody

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

    @property
    def changed(self) -> bool:
        """Whether `take_changes` would give something."""
        return bool(self._changed)

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

    def known(self) -> tuple[AwarenessEntry, ...]:
        """Everybody present and, removed, who left within `REMOVED_KEPT_FOR`: for a session that was not told."""
        return tuple(map(self._shown, self._entries))

    def _only_news(self, entries: Iterable[AwarenessEntry]) -> AwarenessEntry | None:
        """The one entry that repeats nothing known; a client told of its own removal answers with others' too."""
        news = [entry for entry in entries if entry.state is not None and self._is_newer(entry)]
        return news[0] if len(news) == 1 else None

    def _is_newer(self, entry: AwarenessEntry) -> bool:
        known = self._entries.get(entry.client)
        return known is None or entry.clock > known.clock

    def _claim(self, session: Session, entry: AwarenessEntry, now: float) -> bool:
        """Bind ``session`` to the client of its first entry, if nobody else speaks for that client."""
        known = self._entries.get(entry.client)
        if known is None:
            if entry.state is None:
                return False
        elif known.state is None:
            if entry.state is None or (session.joined_at < known.heard_at and entry.clock <= known.clock):
                return False  # somebody who saw it leave repeats what it last saw
            if entry.clock <= known.clock:
                return self._raise(session, entry, known, now)
        else:
            # The same user coming back before its old connection was found dead takes its entry along (SPEC A8).
            if not _same_user(known.owner, session):
                return False
            if entry.clock < known.clock:
                if session.joined_at <= known.since or entry.state is None:
                    return False
                return self._raise(session, entry, known, now)
            if isinstance(known.owner, Remote):
                self._changed.setdefault(entry.client, False)  # other nodes must learn who speaks for it now
        session.client = entry.client
        if known is not None:
            known.owner, known.heard_at, known.since = session, now, session.joined_at
        return True

    def _raise(self, session: Session, entry: AwarenessEntry, known: _Entry, now: float) -> bool:
        """Gone and back with a clock at which nobody would show it again (y-websocket issue 122): it returns one clock
        later, and its owner learns that too."""
        session.client = entry.client
        self._hear_owner(AwarenessEntry(entry.client, known.clock + 1, entry.state), session, now)
        self._changed[entry.client] = True
        return False

    def _contest(self, known: _Entry, entry: AwarenessEntry, owner: Remote, now: float, since: float) -> None:
        """Another node speaks for a client that a session here speaks for: it came from there, or went there."""
        if entry.state is None:
            if entry.clock >= known.clock:
                # It came from there. Who hears of its removal last must still show it, so it is here one clock later.
                known.clock = entry.clock + 1
                self._changed[entry.client] = True
        elif _outranks(entry, owner, since, known):
            self._entries[entry.client] = _Entry(entry.clock, entry.state, owner, now, since)
            self._changed.setdefault(entry.client, False)

    def _hear_owner(self, entry: AwarenessEntry, session: Session, now: float) -> None:
        self._update(entry, session, now, session.joined_at)

    def _update(self, entry: AwarenessEntry, owner: Owner, now: float, since: float) -> None:
        known = self._entries.get(entry.client)
        if known is None:
            if entry.state is None:
                return
        elif entry.clock < known.clock or (
            entry.clock == known.clock and (entry.state is not None or known.state is None)
        ):
            if known.state is not None and known.owner == owner:
                known.heard_at = now
            return
        state = entry.state
        if state is not None and isinstance(owner, Session):
            state = stamp(state, owner.identity)
        self._entries[entry.client] = _Entry(entry.clock, state, owner, now, since)
        self._changed.setdefault(entry.client, False)

    def _remove(self, client: int, entry: _Entry, now: float) -> None:
        if entry.state is None:
            return
        entry.state = None
        entry.heard_at = now
        self._changed[client] = True

    def _owned_by_node(self, node: str) -> list[tuple[int, _Entry]]:
        return [
            (client, entry)
            for client, entry in self._entries.items()
            if entry.state is not None and isinstance(entry.owner, Remote) and entry.owner.node == node
        ]

    def _owned_by_sessions(self) -> list[tuple[int, _Entry]]:
        return [
            (client, entry)
            for client, entry in self._entries.items()
            if entry.state is not None and isinstance(entry.owner, Session)
        ]

    def _for_peers(self, entries: Iterable[AwarenessEntry], now: float) -> Iterator[PeerEntry]:
        for entry in entries:
            known = self._entries[entry.client]
            if isinstance(known.owner, Session):
                age_ms = max(0, int((now - known.since) * 1000))
                yield PeerEntry(entry, known.owner.identity.subject, age_ms)

    def _shown(self, client: int) -> AwarenessEntry:
        entry = self._entries[client]
        return AwarenessEntry(client, entry.clock, entry.state)


def _same_user(owner: Owner, session: Session) -> bool:
    if isinstance(owner, Session):
        return owner.identity == session.identity
    return owner.subject == session.identity.subject


def _outranks(entry: AwarenessEntry, owner: Remote, since: float, known: _Entry) -> bool:
    """Whether a session of another node takes over a client that somebody speaks for: only the same user's does."""
    subject = known.owner.identity.subject if isinstance(known.owner, Session) else known.owner.subject
    if owner.subject != subject:
        return False
    return entry.clock > known.clock or (entry.clock == known.clock and since > known.since)


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
