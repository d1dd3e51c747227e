"""Questions that travel together: bounded, one at a time, and what goes wrong goes wrong for all who asked."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

import pytest

from collab.store.together import Together


class Oracle:
    """Knows the squares; notes what it was asked."""

    def __init__(self, *, fails: bool = False) -> None:
        self.asked: list[list[int]] = []
        self.fails = fails

    async def __call__(self, keys: Collection[int]) -> Mapping[int, int]:
        self.asked.append(list(keys))
        await asyncio.sleep(0)
        if self.fails:
            raise ZeroDivisionError
        return {key: key * key for key in keys if key != 13}


async def test_who_comes_together_asks_together_and_no_question_is_larger_than_allowed() -> None:
    oracle = Oracle()
    together = Together(oracle, most=10)
    answers = await asyncio.gather(*(together.ask(key) for key in range(25)))
    assert answers == [None if key == 13 else key * key for key in range(25)]
    assert oracle.asked == [list(range(10)), list(range(10, 20)), list(range(20, 25))]


async def test_whatever_goes_wrong_goes_wrong_once_for_all_who_asked() -> None:
    oracle = Oracle(fails=True)
    together = Together(oracle, most=100)
    answers = await asyncio.gather(*(together.ask(key) for key in range(50)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [ZeroDivisionError] * 50
    assert len(oracle.asked) == 1
    oracle.fails = False
    assert await together.ask(3) == 9


async def test_who_asks_for_all_and_gives_up_leaves_the_question_to_the_next() -> None:
    oracle = Oracle()
    together = Together(oracle, most=100)
    first, second = asyncio.create_task(together.ask(1)), asyncio.create_task(together.ask(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == 4
    with pytest.raises(asyncio.CancelledError):
        await first
