"""ConnectionManager: every session of this node, per room, user and link, and the fan-out of frames to them.

It knows who is connected and writes one frame to many; it decides nothing about documents. Rooms add and remove
their sessions; REST and shutdown ask it who is where.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from collab.errors import CloseCode, Overloaded
from collab.node.outbox import Flow, Frame

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from collab.node.counters import Counters
    from collab.node.outbox import Outbox
    from collab.room import Session


NOTHING: Mapping[Session, Sequence[Frame]] = MappingProxyType({})

ANONYMOUS = "anonymous"
"""The subject of everybody of whom nobody knows who they are: nobody was asked, or all they showed was a link."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How many sessions are let in."""

    per_node: int = 10_000
    per_room: int = 1_000
    per_user: int = 50
    """0: any number, as for whoever nobody was asked about (`ANONYMOUS`)."""
    per_link: int = 250
    """Of those who are known by a link only; 0: any number."""


class ConnectionManager:
    """The sessions of one node."""

    def __init__(self, counters: Counters, limits: ConnectionLimits | None = None) -> None:
        self._counters = counters
        self._limits = limits or ConnectionLimits()
        self._rooms: dict[str, dict[Session, Outbox]] = {}
        self._users: dict[str, dict[Session, str]] = {}
        self._link_of: dict[Session, int] = {}
        self._visitors: dict[int, set[Session]] = {}
        """Link -> the sessions that only it lets in."""
        self._empty = asyncio.Event()
        self._empty.set()

    def has_room_for(self, more: int) -> bool:
        """Whether the node may have so many sessions more."""
        return self._counters.sessions + more <= self._limits.per_node

    @contextmanager
    def by_link(self, session: Session, link: int) -> Iterator[None]:
        """While inside, ``session``, of which nothing but a link is known, is on its way in: it counts for the link."""
        self._link_of[session] = link
        try:
            yield
        finally:
            if session not in self._visitors.get(link, ()):
                self._link_of.pop(session, None)

    def add(self, document: str, session: Session, outbox: Outbox) -> None:
        """Register a session; raises `Overloaded` when the node, the room, the user or the link has all it may."""
        room = self._rooms.get(document, {})
        link = self._link_of.get(session)
        self._refuse_surplus(len(room), session.identity.subject, link)
        if link is not None:
            self._visitors.setdefault(link, set()).add(session)
        self._rooms.setdefault(document, room)[session] = outbox
        self._users.setdefault(session.identity.subject, {})[session] = document
        self._counters.sessions += 1
        self._empty.clear()

    def _refuse_surplus(self, in_room: int, subject: str, link: int | None) -> None:
        most = self._limits.per_user
        if not self.has_room_for(1):
            self._counters.limits.add("sessions")
            raise Overloaded("too many sessions")
        if in_room >= self._limits.per_room:
            self._counters.limits.add("sessions_per_room")
            raise Overloaded("too many sessions in this room")
        if most and subject != ANONYMOUS and len(self._users.get(subject, ())) >= most:
            self._counters.limits.add("sessions_per_user")
            raise Overloaded("too many sessions of this user")
        if link is not None and 0 < self._limits.per_link <= len(self._visitors.get(link, ())):
            self._counters.limits.add("sessions_per_link")
            raise Overloaded("too many sessions by this link")

    def remove(self, document: str, session: Session) -> None:
        """Forget a session; forgetting twice is no mistake."""
        room = self._rooms.get(document)
        if room is None or room.pop(session, None) is None:
            return
        if not room:
            del self._rooms[document]
        user = self._users[session.identity.subject]
        del user[session]
        if not user:
            del self._users[session.identity.subject]
        self._forget_link(session)
        self._counters.sessions -= 1
        if not self._rooms:
            self._empty.set()

    def _forget_link(self, session: Session) -> None:
        link = self._link_of.pop(session, None)
        if link is not None:
            visitors = self._visitors[link]
            visitors.discard(session)
            if not visitors:
                del self._visitors[link]

    def fan_out(self, document: str, frame: Frame, except_: Collection[Session] = ()) -> None:
        """Write one frame to every session of a room but ``except_``; those behind are left out.

        Hot path: no allocation, encoding or await per receiver.
        """
        room = self._rooms.get(document)
        if room is None:
            return
        written = 0
        if except_:
            for session, outbox in room.items():
                if session not in except_ and (outbox.flow is Flow.OPEN or outbox.flow is Flow.FALLING):
                    outbox.connection.write(frame)
                    written += 1
        else:
            for outbox in room.values():
                if outbox.flow is Flow.OPEN or outbox.flow is Flow.FALLING:
                    outbox.connection.write(frame)
                    written += 1
        self._counters.frames_out += written
        self._counters.bytes_out += written * frame.size

    def fan_out_together(
        self,
        document: str,
        broadcasts: Sequence[tuple[Frame, Collection[Session]]],
        echoes: Mapping[Session, Sequence[Frame]] = NOTHING,
    ) -> None:
        """Several frames, each to every session but some, in one write to each; ``echoes`` go along. Hot path."""
        together = Frame.joined([frame for frame, _ in broadcasts])
        apart = {session for _, except_ in broadcasts for session in except_}.union(echoes)
        self.fan_out(document, together, apart)
        for session, outbox in self._rooms.get(document, {}).items():
            if session in apart:
                frames = [frame for frame, except_ in broadcasts if session not in except_]
                own = echoes.get(session)
                if own:
                    outbox.note_echo()
                    frames += own
                if frames and (outbox.flow is Flow.OPEN or outbox.flow is Flow.FALLING):
                    frame = Frame.joined(frames)
                    outbox.connection.write(frame)
                    self._counters.frames_out += 1
                    self._counters.bytes_out += frame.size

    def send_to(self, document: str, frame: Frame, sessions: Collection[Session]) -> None:
        """Confirm to these sessions of a room what they wrote; those behind or gone are left out."""
        room = self._rooms.get(document, {})
        for session in sessions:
            outbox = room.get(session)
            if outbox is not None:
                outbox.write_echo(frame)
                self._counters.frames_out += 1
                self._counters.bytes_out += frame.size

    def outbox(self, document: str, session: Session) -> Outbox | None:
        """Where to write to one session, or None when it has left."""
        room = self._rooms.get(document)
        return None if room is None else room.get(session)

    def in_room(self, document: str) -> dict[Session, Outbox]:
        """The sessions of a room; do not keep it."""
        return self._rooms.get(document, {})

    def of_user(self, subject: str) -> dict[Session, str]:
        """The sessions of a user and the document each is in; do not keep it."""
        return self._users.get(subject, {})

    def pause_all(self) -> None:
        """Take nothing more from anybody."""
        for outbox in self._everybody():
            outbox.connection.pause_reading()

    def close_all(self, code: CloseCode) -> None:
        """Tell every session goodbye."""
        for outbox in tuple(self._everybody()):
            outbox.close(code)

    async def wait_empty(self, timeout: float) -> None:
        """Return when nobody is connected any more, or after ``timeout`` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._empty.wait()

    def waiting_bytes(self) -> int:
        """What waits for slow readers right now, over all connections. Read on scrape."""
        return sum(outbox.connection.waiting_bytes for outbox in self._everybody())

    def _everybody(self) -> Iterator[Outbox]:
        for room in self._rooms.values():
            yield from room.values()
