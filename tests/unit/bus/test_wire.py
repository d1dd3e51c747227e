"""A connection's bytes become replies: whole, in order, and not so many at a time that nobody else gets a turn."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from collab.bus.wire import REPLIES_AT_A_TIME, Wire, command


class Transport:
    """What `Wire` needs of one, remembered."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.written: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *_: self.calls.append(name)

    def is_closing(self) -> bool:
        return "abort" in self.calls

    def write(self, data: bytes) -> None:
        self.written.append(data)


@pytest.fixture
def transport() -> Any:
    return Transport()


class Ears:
    def __init__(self, transport: Any) -> None:
        self.replies: list[Any] = []
        self.reasons: list[str] = []
        self.wire = Wire(self.replies.append, self.reasons.append)
        self.wire.take(transport)


async def test_replies_are_whole_however_the_bytes_are_cut(transport: Any) -> None:
    ears = Ears(transport)
    for byte in b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$4\r\n\r\n:1\r\n:12\r\n":
        ears.wire.data_received(bytes((byte,)))
    assert ears.replies == [[b"message", b"c", b"\r\n:1"], 12]


async def test_f09_a_flood_lets_others_have_their_turn_and_makes_redis_wait(transport: Any) -> None:
    ears = Ears(transport)
    count = REPLIES_AT_A_TIME * 3 + 1
    ears.wire.data_received(b"".join(b":%d\r\n" % number for number in range(count)))
    assert len(ears.replies) == REPLIES_AT_A_TIME
    assert transport.calls == ["set_protocol", "pause_reading"]
    ears.wire.data_received(b":%d\r\n" % count)  # was under way already
    assert len(ears.replies) == REPLIES_AT_A_TIME
    turns = 0
    while len(ears.replies) <= count:
        before = len(ears.replies)
        await asyncio.sleep(0)
        assert len(ears.replies) - before <= REPLIES_AT_A_TIME
        turns += 1
        assert turns < 10
    assert ears.replies == list(range(count + 1))
    assert transport.calls == ["set_protocol", "pause_reading", "resume_reading"]


async def test_the_end_is_told_once_and_nothing_is_heard_after_it(transport: Any) -> None:
    ears = Ears(transport)
    ears.wire.connection_lost(ConnectionResetError("reset"))
    ears.wire.connection_lost(None)
    ears.wire.data_received(b":1\r\n")
    assert (ears.reasons, ears.replies) == (["reset"], [])


async def test_what_is_not_redis_ends_it(transport: Any) -> None:
    ears = Ears(transport)
    ears.wire.data_received(b"HTTP/1.1 400 Bad Request\r\n")
    assert len(ears.reasons) == 1
    assert "not Redis" in ears.reasons[0]


async def test_after_abort_nobody_is_told_and_nothing_is_written(transport: Any) -> None:
    ears = Ears(transport)
    ears.wire.write(b"1")
    ears.wire.data_received(b":1\r\n" * (REPLIES_AT_A_TIME + 1))
    ears.wire.abort()
    ears.wire.write(b"2")
    ears.wire.connection_lost(None)
    await asyncio.sleep(0)
    assert (ears.reasons, transport.written, transport.calls[-1]) == ([], [b"1"], "abort")
    assert len(ears.replies) == REPLIES_AT_A_TIME


def test_a_command_is_what_redis_reads() -> None:
    assert command(b"PUBLISH", b"c", b"\r\n\0") == b"*3\r\n$7\r\nPUBLISH\r\n$1\r\nc\r\n$3\r\n\r\n\0\r\n"
