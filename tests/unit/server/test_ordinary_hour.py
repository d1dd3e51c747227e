"""An hour of twenty people who type, paste, draw, idle, sleep and reconnect, on virtual time: no limit ever notices.

What clients send was taken from y-websocket 3.1 and y-prosemirror: an update and an awareness message for each
keystroke, awareness again every 15 s, a sync status after each update (`clients/web`), and at every connect SyncStep1,
the whole of what was written offline as one SyncStep2, awareness, and an update for each edit made before that. It
goes through the limits a gateway asks on the way in, with their defaults: the rates of a session, the refusals of an
address, the sessions of a user. Bounds on one message (frame, awareness, document) are not about time: other tests.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import repeat
from random import Random

import pytest

from collab.node import ConnectionLimits, Outbox
from collab.node.connections import ConnectionManager
from collab.node.counters import Counters
from collab.room import Identity, Role, Session
from collab.server.addresses import Addresses
from collab.server.allowance import COST, Allowance
from collab.server.refusals import PER_MINUTE
from collab.server.websocket import EndpointLimits
from tests.unit.node.conftest import FakeConnection

HOUR = 3_600.0
PEOPLE = 20
OFFICE = "198.51.100.7"
KEYSTROKE, STATUS, AWARENESS, STEP1, MIB = 40, 5, 250, 4_000, 1024 * 1024

Event = tuple[float, str, int]
"""When; `send` with a size, or `connect`, `expire` (come with an old token, then with a new one) with what was written
offline."""


def typing(at: float, rng: Random) -> Iterator[Event]:
    """A few sentences; the fastest typists make a dozen keystrokes a second."""
    for _ in range(rng.randint(20, 400)):
        at += rng.uniform(0.06, 0.4)
        yield from said(at, KEYSTROKE)


def said(at: float, size: int) -> Iterator[Event]:
    for part in (size, AWARENESS, STATUS):
        yield at, "send", part


def key_held_down(at: float, rng: Random) -> Iterator[Event]:
    """Backspace or undo, repeated 33 times a second."""
    for _ in range(rng.randint(30, 600)):
        at += 0.03
        yield from said(at, KEYSTROKE)


def drawing(at: float, rng: Random) -> Iterator[Event]:
    """A pointer, or a selection that is dragged: presence 60 times a second, an update half as often."""
    for step in range(rng.randint(60, 1_200)):
        at += 1 / 60
        yield at, "send", AWARENESS
        if step % 2:
            yield from ((at, "send", size) for size in (KEYSTROKE, STATUS))


def pasting(at: float, rng: Random) -> Iterator[Event]:
    """A text or a picture; now and then of a megabyte, and again because it looked as if it had not worked."""
    for _ in range(rng.choice((1, 1, 1, 5))):
        at += rng.uniform(0.3, 3.0)
        yield from said(at, rng.choice((2_000, 60_000, 1 * MIB)))


def replacing_all(at: float, rng: Random) -> Iterator[Event]:
    """In an editor that makes a transaction of each occurrence."""
    for _ in range(rng.randint(50, 300)):
        yield from said(at, KEYSTROKE)
    yield at + 3.0, "send", AWARENESS


def sleeping(at: float, rng: Random) -> Iterator[Event]:
    """The lid is closed and opened, or the train leaves the tunnel: what was written meanwhile comes at once."""
    yield at + rng.uniform(5, 600), rng.choice(("connect", "connect", "expire")), rng.choice((0, 500, 3 * MIB))


def a_bad_line(at: float, rng: Random) -> Iterator[Event]:
    """y-websocket tries again after 0.1, 0.2, ... 2.5 seconds."""
    for again in range(rng.randint(3, 12)):
        at += min(2.5, 0.1 * 2**again)
        yield at, "connect", rng.choice((0, 200))


HABITS = (typing, typing, typing, typing, key_held_down, drawing, pasting, replacing_all, sleeping, a_bad_line)


def a_day(rng: Random) -> Iterator[Event]:
    """One person's hour."""
    at = rng.uniform(0, 20)
    yield at, "connect", 0
    while at < HOUR:
        for event in rng.choice(HABITS)(at, rng):
            yield event
            at = event[0]
        idle = rng.choice((0.5, 3.0, 20.0, 120.0))
        yield from ((at + beat, "send", AWARENESS) for beat in range(15, int(idle), 15))
        at += idle


class Gateway:
    """The limits of one node, asked as `YjsEndpoint` and `Visit` ask them."""

    def __init__(self) -> None:
        self.limits = EndpointLimits()
        self.counters = Counters()
        self.addresses = Addresses(per_minute=PER_MINUTE)
        self.connections = ConnectionManager(self.counters, ConnectionLimits())
        self.sessions: dict[int, list[Session]] = {}
        self.allowances: dict[int, Allowance] = {}
        self.frames = 0

    def take(self, who: int, event: Event) -> None:
        at, what, size = event
        if what == "send":
            self.frame(who, size, at)
            return
        if what == "expire":
            self.knock(at)
            self.addresses.refused(OFFICE, at)
        self.knock(at)
        self.join(who)
        self.allowances[who] = Allowance(self.limits.rates, at)
        for part in (STEP1, size, AWARENESS, *([size // 50] * 50 if size else [])):
            self.frame(who, part, at)

    def knock(self, at: float) -> None:
        assert self.addresses.wait(OFFICE, at) == 0, "the whole office stands outside"

    def join(self, who: int) -> None:
        """The last connection may not be found dead yet, and people have a few tabs."""
        theirs = self.sessions.setdefault(who, [])
        if len(theirs) >= 8:
            self.connections.remove("d", theirs.pop(0))
        theirs.append(Session(f"{who}", Identity(f"user{who}"), Role.WRITE))
        self.connections.add("d", theirs[-1], Outbox(FakeConnection()))

    def frame(self, who: int, size: int, at: float) -> None:
        self.frames += 1
        allowance = self.allowances[who]
        allowance.left -= size + COST
        if allowance.left < 0:
            hold = allowance.settle(at)
            assert hold is None, f"{who} is held back for {hold} at {at}"


@pytest.mark.parametrize("seed", range(3))
def test_n17_no_limit_notices_an_ordinary_hour(seed: int) -> None:
    hours = [zip(a_day(Random(seed * PEOPLE + who)), repeat(who)) for who in range(PEOPLE)]
    gateway = Gateway()
    for event, who in heapq.merge(*hours):
        gateway.take(who, event)
    assert gateway.frames > 100_000
    assert not gateway.counters.limits


def test_n17_nor_when_the_node_was_restarted_and_all_come_back_at_once() -> None:
    gateway = Gateway()
    for who in range(1_000):
        gateway.take(who, (0.0, "connect", 10_000))
    assert not gateway.counters.limits
