"""The door: rule N16, in turns of a real event loop."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from collab.node import door as door_module
from collab.node.door import PER_TURN, Door


class Crowd:
    """People who go through a door; ``inside`` is who has, in order."""

    def __init__(self, door: Door, count: int) -> None:
        self.inside: list[int] = []
        self.tasks = [asyncio.create_task(self._go(door, number)) for number in range(count)]

    async def _go(self, door: Door, number: int) -> None:
        await door.turn()
        self.inside.append(number)


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_n16_a_crowd_comes_in_in_order_a_few_in_each_turn_of_the_loop() -> None:
    crowd = Crowd(Door(), 5 * PER_TURN)
    inside = []
    while len(crowd.inside) < 5 * PER_TURN:
        await turns(1)
        inside.append(len(crowd.inside))
    assert crowd.inside == list(range(5 * PER_TURN))
    assert max(after - before for before, after in itertools.pairwise(inside)) == PER_TURN


async def test_n16_nobody_comes_in_while_others_arrive_and_all_come_in_when_that_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(door_module, "CLOSED_FOR", 60.0)
    door = Door()
    await door.turn()  # so that it was open a moment ago
    crowd = Crowd(door, PER_TURN)
    for _ in range(50):
        door.somebody_came()
        await turns(1)
    assert crowd.inside == []
    await asyncio.gather(*crowd.tasks)
    assert len(crowd.inside) == PER_TURN


async def test_n16_who_waits_comes_in_however_many_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_module, "CLOSED_FOR", 0.0)
    door = Door()
    crowd = Crowd(door, 3 * PER_TURN)
    while len(crowd.inside) < 3 * PER_TURN:
        door.somebody_came()
        await turns(1)


async def test_n16_who_gave_up_waiting_takes_nobodys_place() -> None:
    door = Door()
    gone = Crowd(door, PER_TURN)
    crowd = Crowd(door, PER_TURN)
    await turns(1)
    for task in gone.tasks:
        task.cancel()
    await asyncio.gather(*gone.tasks, return_exceptions=True)
    await asyncio.gather(*crowd.tasks)
    assert (len(gone.inside), len(crowd.inside)) == (0, PER_TURN)
    await door.turn()  # and it still opens
