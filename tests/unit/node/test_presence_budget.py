"""What a room's presence may cost (SPEC A5)."""

from __future__ import annotations

import asyncio

import pytest

from collab.node import HubLimits, RoomLimits
from collab.node.presence_budget import LONGEST_PAUSE, PresenceBudget, PresenceRate
from collab.protocol.messages import Awareness, AwarenessEntry

from .conftest import Build, Client

RATE = PresenceRate(frames=1000, bytes=1_000_000)


@pytest.mark.parametrize(
    ("receivers", "size", "pause"),
    [(500, 250, 0.5), (500, 4000, 2.0), (10_000, 1_000_000, LONGEST_PAUSE), (100, 10, 0.1), (2, 10, 0.0)],
)
def test_a5_presence_pauses_as_long_as_the_last_frame_was_dear(receivers: int, size: int, pause: float) -> None:
    budget = PresenceBudget(RATE)
    assert budget.pause(7.0) == 0.0
    budget.spend(receivers, size, 7.0)
    assert budget.pause(7.0) == pytest.approx(pause)
    assert budget.pause(7.001 + pause) == 0.0


def test_a5_small_rooms_never_notice() -> None:
    budget = PresenceBudget(PresenceRate())
    budget.spend(5, 5 * 250, 7.0)
    assert budget.pause(7.0) == 0.0


async def test_a5_moves_that_come_while_it_pauses_travel_together_newest_only(build: Build) -> None:
    hub = build(limits=HubLimits(room=RoomLimits(presence=PresenceRate(frames=10))))
    ann, ben, cat = [await Client(hub, name).enter() for name in ("ann", "ben", "cat")]
    ann.send(Awareness((AwarenessEntry(1, 1, b"{}"),)))
    await cat.connection.receives(Awareness)
    shown = len(cat.connection.writes)
    for clock in range(2, 12):
        ann.send(Awareness((AwarenessEntry(1, clock, b"{}"),)))
        ben.send(Awareness((AwarenessEntry(2, clock, b"{}"),)))
        await asyncio.sleep(0)
    newest = Awareness((AwarenessEntry(1, 11, b"{}"), AwarenessEntry(2, 11, b"{}")))
    await cat.connection.until(lambda: len(cat.connection.writes) > shown)
    assert cat.connection.writes[shown] == [newest]
