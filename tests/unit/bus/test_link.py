"""What a link says and when: one write per turn, one round trip at a time, one command for many channels."""

from __future__ import annotations

import asyncio
from typing import Any

import hiredis
import pytest

from collab.bus.link import PLAIN, Link, Pace
from collab.bus.outgoing import Bounds, Outgoing
from collab.bus.wire import command

BEAT = b"\0beat"


class Transport:
    """Keeps what is written; the test plays Redis."""

    def __init__(self) -> None:
        self.writes: list[list[Any]] = []
        self.aborted = False
        self.protocol: Any = None

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def write(self, data: bytes) -> None:
        reader = hiredis.Reader()
        reader.feed(data)
        self.writes.append([])
        while (words := reader.gets()) is not False:
            self.writes[-1].append(words)

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.aborted

    def say(self, *replies: Any) -> None:
        self.protocol.data_received(b"".join(map(_reply, replies)))


def _reply(reply: Any) -> bytes:
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    return command(*reply) if isinstance(reply, tuple) else reply


class Owner:
    """Remembers what the link tells."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def link_up(self) -> None:
        self.told.append("up")

    def heard(self, data: bytes) -> None:
        self.told.append(data)

    def in_force(self, channel: bytes) -> None:
        self.told.append(("in force", channel))

    def published(self, count: int) -> None:
        self.told.append(count)


class Bench:
    def __init__(self, pace: Pace) -> None:
        self.owner = Owner()
        self.outgoing = Outgoing(Bounds())
        self.hearing: Any = Transport()
        self.speaking: Any = Transport()
        self.link = Link(self.owner, self.outgoing, words=PLAIN, inbox=b"in", beat=BEAT, pace=pace)
        self.link.start(self.hearing, self.speaking)

    async def up(self) -> None:
        await asyncio.sleep(0)
        self.hearing.say((b"subscribe", b"in", b"1"))
        await asyncio.sleep(0)
        self.hearing.say((b"message", b"in", BEAT))
        self.speaking.say(1)
        self.forget()

    def forget(self) -> None:
        self.owner.told.clear()
        self.hearing.writes.clear()
        self.speaking.writes.clear()

    def add(self, *commands: bytes) -> None:
        for word in commands:
            self.outgoing.add(command(word), asyncio.get_running_loop().time())
            self.link.nudge()


@pytest.fixture
async def bench() -> Bench:
    return Bench(Pace(command=60.0, beat_every=60.0, silent_after=60.0))


async def test_f10_it_is_up_when_its_heartbeat_has_come_round(bench: Bench) -> None:
    await asyncio.sleep(0)
    assert bench.hearing.writes == [[[b"SUBSCRIBE", b"in"]]]
    assert bench.speaking.writes == []
    bench.hearing.say((b"subscribe", b"in", b"1"))
    await asyncio.sleep(0)
    assert bench.speaking.writes == [[[b"PUBLISH", b"in", BEAT]]]
    bench.speaking.say(1)
    bench.hearing.say((b"message", b"in", b"\0 the beat of an earlier link"))
    assert (bench.link.is_up, "up" in bench.owner.told) == (False, False)
    bench.hearing.say((b"message", b"in", BEAT))
    assert (bench.link.is_up, bench.owner.told[-1]) == (True, "up")
    bench.hearing.say((b"message", b"in", BEAT))
    assert bench.owner.told.count("up") == 1


async def test_what_is_published_in_one_turn_leaves_in_one_write_and_the_rest_waits_for_the_answers(
    bench: Bench,
) -> None:
    await bench.up()
    bench.add(b"1", b"2")
    assert bench.speaking.writes == []
    await asyncio.sleep(0)
    bench.add(b"3")
    await asyncio.sleep(0)
    bench.speaking.say(1)
    bench.add(b"4")
    await asyncio.sleep(0)
    assert (bench.speaking.writes, bench.owner.told) == ([[[b"1"], [b"2"]]], [])
    bench.speaking.say(0)
    assert (bench.speaking.writes[1:], bench.owner.told) == ([[[b"3"], [b"4"]]], [2])
    bench.speaking.say(0, 0)
    assert (len(bench.outgoing), bench.owner.told) == (0, [2, 2])


async def test_what_is_published_from_within_an_answer_is_sent_once(bench: Bench) -> None:
    await bench.up()

    def publish_more(_: int) -> None:
        if len(bench.speaking.writes) < 3:
            bench.add(b"more")

    bench.owner.published = publish_more  # type: ignore[method-assign]
    bench.add(b"1")
    await asyncio.sleep(0)
    for _ in range(3):
        bench.speaking.say(1)
        await asyncio.sleep(0)
    assert (bench.speaking.writes, len(bench.outgoing)) == ([[[b"1"]], [[b"more"]], [[b"more"]]], 0)


async def test_channels_of_one_turn_are_asked_for_in_one_command(bench: Bench) -> None:
    await bench.up()
    for channel in (b"a", b"b", b"c"):
        bench.link.want(channel)
    bench.link.release(b"c")
    await asyncio.sleep(0)
    (((word, *channels),),) = bench.hearing.writes
    assert (word, sorted(channels)) == (b"SUBSCRIBE", [b"a", b"b"])
    bench.hearing.say((b"subscribe", b"a", b"2"), (b"message", b"a", b"hello"), (b"subscribe", b"b", b"3"))
    assert bench.owner.told == [("in force", b"a"), b"hello", ("in force", b"b")]
    bench.forget()
    bench.link.release(b"a")
    bench.link.release(b"b")
    bench.link.want(b"b")
    await asyncio.sleep(0)
    assert bench.hearing.writes == [[[b"UNSUBSCRIBE", b"a"]]]


async def test_a_subscription_that_redis_ends_by_itself_is_made_again(bench: Bench) -> None:
    await bench.up()
    bench.link.want(b"a")
    await asyncio.sleep(0)
    bench.hearing.say((b"subscribe", b"a", b"2"))
    bench.forget()
    bench.hearing.say((b"unsubscribe", b"a", b"1"))
    await asyncio.sleep(0)
    assert bench.hearing.writes == [[[b"SUBSCRIBE", b"a"]]]
    bench.hearing.say((b"subscribe", b"a", b"2"))
    assert bench.owner.told == [("in force", b"a")]


@pytest.mark.parametrize("side", ["hearing", "speaking"])
async def test_a_refusal_ends_it_and_both_connections(bench: Bench, side: str) -> None:
    await bench.up()
    bench.add(b"1")
    await asyncio.sleep(0)
    getattr(bench, side).say(b"-NOPERM no permission\r\n")
    assert "NOPERM" in bench.link.over.result()
    assert (bench.link.is_up, bench.hearing.aborted, bench.speaking.aborted) == (False, True, True)


@pytest.mark.parametrize("side", ["hearing", "speaking"])
async def test_one_lost_connection_ends_both_at_once(bench: Bench, side: str) -> None:
    await bench.up()
    getattr(bench, side).protocol.connection_lost(None)
    assert (bench.link.is_up, bench.hearing.aborted, bench.speaking.aborted) == (False, True, True)
    bench.link.want(b"a")
    bench.add(b"1")
    await asyncio.sleep(0)
    assert (bench.hearing.writes, bench.speaking.writes) == ([], [])
    assert len(bench.outgoing) == 1


@pytest.mark.parametrize(
    ("pace", "reason"), [(Pace(0.0, 60.0, 60.0), "does not answer"), (Pace(60.0, 60.0, 0.0), "does not come back")]
)
async def test_f09_f10_silence_ends_it_when_it_is_seen_twice(pace: Pace, reason: str) -> None:
    bench = Bench(pace)
    await bench.up()
    bench.add(b"1")
    await asyncio.sleep(0.1)
    bench.link.check()
    assert bench.link.is_up
    bench.link.check()
    assert reason in bench.link.over.result()


async def test_an_answer_that_was_only_unread_counts() -> None:
    bench = Bench(Pace(command=0.0, beat_every=60.0, silent_after=60.0))
    await bench.up()
    for _ in range(3):
        bench.add(b"1")
        await asyncio.sleep(0.1)
        bench.link.check()
        bench.speaking.say(1)
        bench.link.check()
    assert bench.link.is_up


async def test_it_beats(bench: Bench) -> None:
    bench = Bench(Pace(command=60.0, beat_every=0.01, silent_after=60.0))
    await bench.up()
    for _ in range(3):
        await asyncio.sleep(0.05)
        bench.link.check()
        await asyncio.sleep(0)
        bench.speaking.say(1)
    assert bench.speaking.writes == [[[b"PUBLISH", b"in", BEAT]]] * 3
