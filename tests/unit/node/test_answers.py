"""Who asks for the whole document again and again gets it now and then (SPEC R16, attack B03)."""

from __future__ import annotations

import asyncio

import pytest

from collab.node.whole import LARGE_BYTES
from collab.protocol.messages import SyncStep1, SyncStep2, Update
from collab.room import Role

from .conftest import Build, Client
from .support import Writer, text_of

EMPTY, OF_ANOTHER = b"\x00", b"\x01\x05\x01"
"""State vectors: of nothing, and of something this document does not have, for which no answer is kept ready."""


def answers(client: Client) -> int:
    """How often it was told that it has everything now."""
    return sum(isinstance(message, SyncStep2) for message in client.connection.messages)


async def flooded(build: Build, text: str, vectors: list[bytes]) -> tuple[Client, Client]:
    """A writer of ``text``, and a session that has asked with each of the vectors, a turn for each."""
    hub = build()
    ann, writer = await Client(hub, "ann").enter(), Writer()
    ann.send(Update(writer.type(text)))
    await ann.connection.receives(Update)
    greedy = await Client(hub, "greedy", Role.READ).enter()
    async with asyncio.timeout(10):
        for asked, vector in enumerate(vectors, 1):
            greedy.send(SyncStep1(vector))
            while answers(greedy) + hub.counters.limits["answers"] < asked:
                await asyncio.sleep(0)
    return ann, greedy


@pytest.mark.parametrize("vector", [EMPTY, OF_ANOTHER], ids=["empty", "of another document"])
async def test_b03_a_large_document_is_sent_once_in_a_while(build: Build, vector: bytes) -> None:
    _, greedy = await flooded(build, "x" * LARGE_BYTES, [vector] * 20)
    assert answers(greedy) == 1
    assert greedy.hub.counters.limits["answers"] == 19
    assert greedy.connection.closed_with is None


async def test_r16_the_newest_question_is_answered_in_the_end(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collab.node.answers.LARGE_ANSWER_EVERY", 0.5)
    ann, greedy = await flooded(build, "x" * LARGE_BYTES, [EMPTY, OF_ANOTHER, EMPTY])
    assert answers(greedy) == 1
    await greedy.connection.until(lambda: answers(greedy) == 2)
    assert text_of(*greedy.connection.updates()).startswith("x")
    ann.send(SyncStep1(EMPTY))
    await ann.connection.receives(SyncStep2)


async def test_r16_small_answers_do_not_wait(build: Build) -> None:
    _, greedy = await flooded(build, "hello", [EMPTY, OF_ANOTHER] * 10)
    assert answers(greedy) == 20
    assert greedy.hub.counters.limits["answers"] == 0


async def test_r16_who_leaves_while_its_question_waits_is_forgotten(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collab.node.answers.LARGE_ANSWER_EVERY", 0.2)
    ann, greedy = await flooded(build, "x" * LARGE_BYTES, [EMPTY, EMPTY])
    greedy.leave()
    passed = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.4, passed.set_result, None)
    await passed
    assert answers(greedy) == 1
    ann.send(SyncStep1(EMPTY))
    await ann.connection.receives(SyncStep2)
