"""Questions to the database that come together travel together.

Whoever asks while an answer is on its way shares the next question: a thousand who come back at once cost a few
queries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class _Question(Generic[K, V]):
    """Keys that are asked for together."""

    __slots__ = ("answer", "asked", "failure")

    def __init__(self) -> None:
        self.asked: dict[K, None] = {}
        self.answer: Mapping[K, V] | None = None
        self.failure: Exception | None = None


class Together(Generic[K, V]):
    """Asks one question at a time, for all who came since the last one began."""

    def __init__(self, ask: Callable[[Collection[K]], Awaitable[Mapping[K, V]]], *, most: int) -> None:
        """``ask`` answers for one key up to ``most``; it may leave some out."""
        self._ask = ask
        self._most = most
        self._turn = asyncio.Lock()
        self._next: _Question[K, V] = _Question()

    async def ask(self, key: K) -> V | None:
        """What is true of ``key`` after the call; None when the answer leaves it out. Raises what ``ask`` raises."""
        if len(self._next.asked) >= self._most:
            self._next = _Question()
        question = self._next
        question.asked[key] = None
        async with self._turn:
            if question.failure is not None:
                raise question.failure
            if question.answer is None:
                question.answer = await self._answer(question)
        return question.answer.get(key)

    async def _answer(self, question: _Question[K, V]) -> Mapping[K, V]:
        await asyncio.sleep(0)  # whoever comes in the same turn comes along
        if question is self._next:  # or else whoever asked was cancelled, and this asks again
            self._next = _Question()
        try:
            return await self._ask(question.asked)
        except Exception as error:
            question.failure = error
            raise
