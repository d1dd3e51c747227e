"""A pair of connections to Redis, one that hears and one that speaks, which live and die together.

A link is up once its own heartbeat has come round: spoken on one connection, heard on the other. So a connection that
carries one way only is never taken for a working one. Nothing here waits: replies arrive in callbacks, and what is to
be said is written in the same turn of the event loop, one batch at a time. `collab.bus.redis` opens and replaces links.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from collab.bus.channels import Channels
from collab.bus.wire import Wire, command

if TYPE_CHECKING:
    from collab.bus.outgoing import Outgoing

SLOWEST_BYTES_PER_S = 1024 * 1024
"""A batch may take this much longer than a small command. Guessed."""


class Listener(Protocol):
    """Who owns a link. Nothing here may raise."""

    def link_up(self) -> None:
        """The heartbeat has come round for the first time."""
        ...

    def heard(self, data: bytes) -> None:
        """Something was published to a channel that is heard."""
        ...

    def in_force(self, channel: bytes) -> None:
        """``channel`` is heard from now on; what was published before may have been missed."""
        ...

    def published(self, count: int) -> None:
        """Redis took so many of the commands that waited."""
        ...


@dataclass(frozen=True, slots=True)
class Words:
    """What the commands and their replies are called."""

    subscribe: bytes
    unsubscribe: bytes
    publish: bytes
    message: bytes


PLAIN = Words(b"SUBSCRIBE", b"UNSUBSCRIBE", b"PUBLISH", b"message")
SHARDED = Words(b"SSUBSCRIBE", b"SUNSUBSCRIBE", b"SPUBLISH", b"smessage")


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds."""

    command: float
    """Longest wait for the answer to a command."""
    beat_every: float
    silent_after: float
    """Longest wait for a heartbeat to come round."""


class Link:
    """Everything said and heard between one loss of the bus and the next. `start` it with two open transports."""

    def __init__(
        self, listener: Listener, outgoing: Outgoing, *, words: Words, inbox: bytes, beat: bytes, pace: Pace
    ) -> None:
        """``beat`` begins with a zero byte, as no envelope does, and is told from that of every earlier link."""
        self.channels = Channels()
        self.is_up = False
        self.over: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Why it ended, once it has."""
        self._listener = listener
        self._outgoing = outgoing
        self._words = words
        self._inbox = inbox
        self._beat = beat
        self._pace = pace
        self._loop = asyncio.get_running_loop()
        self._subscribe_reply, self._unsubscribe_reply = words.subscribe.lower(), words.unsubscribe.lower()
        self._hearing = Wire(self._told, self.fail)
        self._speaking = Wire(self._answered, self.fail)
        self._asking = self._sending = self._beat_due = self._suspected = False
        self._batch: list[bytes] = []
        self._unanswered = 0
        self._deadline = self._beaten_at = self._echoed_at = self._loop.time()
        self._idle: asyncio.Future[None] | None = None

    def start(self, hearing: asyncio.Transport, speaking: asyncio.Transport) -> None:
        """Begin. The listener learns the rest."""
        self._hearing.take(hearing)
        self._speaking.take(speaking)
        self.want(self._inbox)

    def want(self, channel: bytes) -> None:
        """Hear ``channel``; everything wanted in one turn of the loop is asked for in one command."""
        self.channels.want(channel)
        self._ask_soon()

    def release(self, channel: bytes) -> None:
        """Hear it no more."""
        self.channels.release(channel)
        self._ask_soon()

    def nudge(self) -> None:
        """There is something to send. Hot path: all that is published in one turn of the loop leaves in one write."""
        if not self._sending and not self._unanswered:
            self._sending = True
            self._loop.call_soon(self._send)

    def check(self) -> None:
        """Look at the clock; whoever owns the link calls this a few times per heartbeat."""
        now = self._loop.time()
        if trouble := self._trouble(now):
            if self._suspected:  # twice: after a stall of our own the answer may be here and only unread
                self.fail(trouble)
            self._suspected = True
            return
        self._suspected = False
        if self.channels.hears(self._inbox) and now - self._beaten_at >= self._pace.beat_every:
            self._send_beat(now)

    def idle(self) -> asyncio.Future[None]:
        """Done once nothing waits and everything sent was answered."""
        self._idle = self._loop.create_future()
        self._tell_idle()
        return self._idle

    def fail(self, reason: str) -> None:
        """It is over; the first reason counts."""
        self.is_up = False
        self._hearing.abort()
        self._speaking.abort()
        if not self.over.done():
            self.over.set_result(reason)

    def _trouble(self, now: float) -> str | None:
        if self._unanswered and now > self._deadline:
            return "Redis does not answer"
        if now - self._echoed_at > self._pace.silent_after:
            return "what is published does not come back"
        return None

    # the connection that hears

    def _ask_soon(self) -> None:
        if not self._asking:
            self._asking = True
            self._loop.call_soon(self._ask)

    def _ask(self) -> None:
        self._asking = False
        more, less = self.channels.questions()
        if more:
            self._hearing.write(command(self._words.subscribe, *more))
        if less:
            self._hearing.write(command(self._words.unsubscribe, *less))

    def _told(self, reply: Any) -> None:
        if not isinstance(reply, list):
            self.fail(f"Redis refuses: {reply}")
            return
        kind, channel = reply[0], reply[1]
        if kind == self._words.message:
            data = reply[2]
            if channel != self._inbox or data[:1] != b"\0":
                self._listener.heard(data)
            elif data == self._beat:
                self._echo()
        elif kind == self._subscribe_reply:
            if self.channels.subscribed(channel):
                self._heard_now(channel)
        elif kind == self._unsubscribe_reply and self.channels.unsubscribed(channel):
            self._ask_soon()

    def _heard_now(self, channel: bytes) -> None:
        if channel == self._inbox:
            self._send_beat(self._loop.time())
        else:
            self._listener.in_force(channel)

    def _echo(self) -> None:
        self._echoed_at = self._loop.time()
        if not self.is_up:
            self.is_up = True
            self._listener.link_up()

    # the connection that speaks

    def _send_beat(self, now: float) -> None:
        self._beaten_at = now
        self._beat_due = True
        self.nudge()

    def _send(self) -> None:
        self._sending = False
        if self._unanswered or self.over.done():
            return
        now = self._loop.time()
        self._batch = self._outgoing.batch(now)
        commands = self._batch
        if self._beat_due:
            commands = [command(self._words.publish, self._inbox, self._beat), *commands]
            self._beat_due = False
        if not commands:
            return
        data = b"".join(commands)
        self._unanswered = len(commands)
        self._deadline = now + self._pace.command + len(data) / SLOWEST_BYTES_PER_S
        self._speaking.write(data)

    def _answered(self, reply: Any) -> None:
        if not isinstance(reply, int):
            self.fail(f"Redis refuses: {reply}")
            return
        self._unanswered -= 1
        if self._unanswered == 0:
            self._outgoing.sent(len(self._batch))
            self._listener.published(len(self._batch))
            self._send()
            self._tell_idle()

    def _tell_idle(self) -> None:
        if self._idle is not None and not self._idle.done() and not self._unanswered and not self._outgoing:
            self._idle.set_result(None)
