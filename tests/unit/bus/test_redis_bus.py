"""The Redis bus while Redis is killed, paused, overrun, cut off, strange or not there at all."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import uvloop
from structlog.testing import capture_logs

from collab.bus import EVERYWHERE, Envelope, Kind
from collab.bus.channels import Names
from collab.bus.envelope import pack
from collab.bus.outgoing import Bounds
from collab.bus.redis import RedisBus, RedisTimes, try_out
from collab.errors import Misuse, Unavailable
from tests.support.bus import Hearer, until
from tests.support.proxy import Network, Proxy
from tests.support.redis import PASSWORD, RedisServer, own_redis, redis_server

__all__ = ["own_redis", "redis_server"]

QUICK = RedisTimes(
    command=1.0, patience=0.5, beat_every=0.2, silent_after=2.0, retry_after=0.01, retry_after_at_most=0.1
)
CHANNEL = Names("test").document("d").decode()
Make = Callable[..., RedisBus]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """Makes buses that are closed at the end; the test starts them."""
    async with AsyncExitStack() as stack:

        def make(url: str, node: str, **options: Any) -> RedisBus:
            bus = RedisBus(url, node=node, rng=random.Random(), **{"prefix": "test", "times": QUICK, **options})
            stack.push_async_callback(bus.close)
            return bus

        yield make


@pytest.fixture
def proxy(own_redis: RedisServer) -> Iterator[Proxy]:
    """Between a node and Redis."""
    with Network() as network:
        yield network.proxy(("127.0.0.1", own_redis.port))


def through(proxy: Proxy, redis: RedisServer) -> str:
    return redis.url.replace(f":{redis.port}/", f":{proxy.port}/")


def envelope(node: str, sequence: int = 1, document: str = "d", payload: bytes = b"x") -> Envelope:
    return Envelope(document, node, 7, sequence, Kind.UPDATE, payload)


async def carries(bus: RedisBus, node: str, hearer: Hearer) -> None:
    """Wait until what ``bus`` publishes arrives; nothing is asked about what was published before."""
    sequence = 1_000_000
    while not any(heard.sequence > 1_000_000 for heard in hearer.envelopes):
        sequence += 1
        bus.publish(envelope(node, sequence))
        await asyncio.sleep(0.05)
    hearer.envelopes.clear()


async def two(make: Make, redis: RedisServer, **options: Any) -> tuple[RedisBus, RedisBus, Hearer]:
    """Two nodes, and what the second hears."""
    a, b = make(redis.url, "a", **options), make(redis.url, "b", **options)
    await a.start()
    await b.start()
    hearer = await Hearer.on(b)
    await until(lambda: a.connected and b.connected)
    return a, b, hearer


async def test_f08_a_restarted_redis_is_found_again_and_every_subscription_is_told(
    make: Make, own_redis: RedisServer
) -> None:
    with capture_logs() as logs:
        a, b, hearer = await two(make, own_redis)
        others = [await Hearer.on(b, f"d{number}") for number in range(20)]
        everywhere = await Hearer.on(b, EVERYWHERE)
        await asyncio.to_thread(own_redis.kill)
        await until(lambda: not a.connected and not b.connected)
        await asyncio.sleep(QUICK.retry_after_at_most * 3)  # several attempts fail
        assert hearer.losses == 0
        own_redis.start()
        for ear in (hearer, everywhere, *others):
            await ear.until(lambda ear: ear.losses == 1)
        await carries(a, "a", hearer)
        assert (a.connected, b.connected, b.trouble) == (True, True, None)
        assert (a.counters.reconnects, b.counters.reconnects) == (1, 1)
        assert {ear.losses for ear in (hearer, everywhere, *others)} == {1}
    events = [log["event"] for log in logs]
    assert sorted(events) == ["bus_lost", "bus_lost", "bus_recovered", "bus_recovered"]
    assert PASSWORD not in str(logs)


async def test_f09_a_paused_redis_is_noticed_blocks_nobody_and_is_found_again(
    make: Make, own_redis: RedisServer
) -> None:
    a, b, hearer = await two(make, own_redis, times=RedisTimes(), bounds=Bounds(commands=1000))
    tasks = len(asyncio.all_tasks())
    own_redis.pause()
    paused_at = time.monotonic()
    sequence = 0
    while a.connected or b.connected or time.monotonic() < paused_at + 8:
        assert time.monotonic() < paused_at + 15
        for _ in range(10):
            a.publish(envelope("a", sequence := sequence + 1))
        assert len(asyncio.all_tasks()) <= tasks + 4  # no more than one attempt to connect of each
        await asyncio.sleep(0.01)
    assert len(a._outgoing) <= 1000
    assert a.dropped > 0
    own_redis.resume()
    await hearer.until(lambda hearer: hearer.losses >= 1)
    await carries(a, "a", hearer)


@pytest.mark.parametrize("kind", ["pubsub", "normal"])
async def test_one_killed_connection_is_a_loss(make: Make, own_redis: RedisServer, kind: str) -> None:
    a, b, hearer = await two(make, own_redis)
    own_redis.run("CLIENT", "KILL", "TYPE", kind)
    await hearer.until(lambda hearer: hearer.losses == 1)
    assert b.counters.reconnects == 1
    await carries(a, "a", hearer)


async def test_f11_what_redis_threw_away_is_a_loss(make: Make, own_redis: RedisServer) -> None:
    a, b, hearer = await two(make, own_redis)
    own_redis.run("CONFIG", "SET", "client-output-buffer-limit", "pubsub 65536 65536 1")
    sent = pack(envelope("somebody", payload=b"." * 8_000_000))
    for _ in range(4):  # the event loop stands still meanwhile, so nobody reads
        own_redis.run("PUBLISH", CHANNEL, sent)
    await hearer.until(lambda hearer: hearer.losses >= 1)
    assert b.counters.reconnects >= 1
    await carries(a, "a", hearer)


@pytest.mark.parametrize("direction", ["up", "down", "both"])
async def test_f10_a_cut_in_either_direction_is_noticed_and_healed(
    make: Make, own_redis: RedisServer, proxy: Proxy, direction: str
) -> None:
    a, b = make(own_redis.url, "a"), make(through(proxy, own_redis), "b")
    await a.start()
    await b.start()
    hearer = await Hearer.on(b)
    await until(lambda: a.connected and b.connected)
    ways = {"up": (proxy.up,), "down": (proxy.down,), "both": (proxy.up, proxy.down)}[direction]
    with capture_logs() as logs:
        proxy.stall(*ways)
        await until(lambda: not b.connected)
        await asyncio.sleep(QUICK.command * 3)  # several attempts hang
        assert not b.connected
        assert a.connected
        proxy.resume(*ways)
        await hearer.until(lambda hearer: hearer.losses >= 1)
        await carries(a, "a", hearer)
    assert [log["event"] for log in logs] == ["bus_lost", "bus_recovered"]


async def test_f07_a_node_starts_without_redis(make: Make, own_redis: RedisServer) -> None:
    own_redis.kill()
    with capture_logs() as logs:
        bus = make(own_redis.url, "b")
        await bus.start()
        hearer = await Hearer.on(bus)  # returns although nothing answers
        bus.publish(envelope("b"))
        assert not bus.connected
        assert bus.trouble is not None
        assert hearer.losses == 0
        own_redis.start()
        await hearer.until(lambda hearer: hearer.losses == 1)
        other = make(own_redis.url, "a")
        await other.start()
        await carries(other, "a", hearer)
    assert hearer.losses == 1
    assert [log["event"] for log in logs] == ["bus_lost", "bus_recovered"]


async def test_a_subscription_that_was_waited_for_lost_nothing(make: Make, own_redis: RedisServer) -> None:
    own_redis.kill()
    bus = make(own_redis.url, "b", times=RedisTimes(patience=60.0, retry_after_at_most=0.1))
    await bus.start()
    subscribing = asyncio.create_task(Hearer.on(bus))
    own_redis.start()
    hearer = await subscribing
    assert (bus.connected, hearer.losses) == (True, 0)


async def test_f09_what_does_not_fit_or_grows_old_is_dropped_and_counted(make: Make, own_redis: RedisServer) -> None:
    a, b, hearer = await two(make, own_redis, bounds=Bounds(commands=100, seconds=0.5))
    own_redis.kill()
    await until(lambda: not a.connected)
    for number in range(1, 151):
        a.publish(envelope("a", number))
    assert (len(a._outgoing), a.dropped) == (100, 50)
    await asyncio.sleep(0.6)
    own_redis.start()
    await carries(a, "a", hearer)
    await until(lambda: len(a._outgoing) == 0)
    assert a.dropped >= 150
    assert b.dropped == 0


async def test_what_waited_through_a_short_outage_arrives_in_order(make: Make, own_redis: RedisServer) -> None:
    a, b, hearer = await two(make, own_redis, bounds=Bounds(seconds=60.0))
    own_redis.kill()
    await until(lambda: not a.connected and not b.connected)
    own_redis.start()
    await until(lambda: b.connected)
    await hearer.until(lambda hearer: hearer.losses == 1)
    own_redis.run("CLIENT", "PAUSE", "300", "ALL")
    for number in range(1, 51):
        a.publish(envelope("a", number))
    await hearer.until(lambda hearer: len(hearer.envelopes) >= 50)
    assert [heard.sequence for heard in hearer.envelopes] == list(range(1, 51))
    assert a.counters.published == 50


async def test_f12_g03_bad_envelopes_are_counted_dropped_and_logged_once(make: Make, own_redis: RedisServer) -> None:
    secret = b"0123456789abcdef"
    with capture_logs() as logs:
        a, b, hearer = await two(make, own_redis, secret=secret)
        good = pack(envelope("x"), secret)
        bad = [
            b"",
            b"\0beat",
            b"\x01",
            good[:-1],
            b"\x02" + good[1:],
            bytes((*good[:9], good[9] ^ 1, *good[10:])),
            pack(envelope("x")),
            pack(envelope("x"), b"another secret!!"),
        ]
        for data in bad:
            own_redis.run("PUBLISH", CHANNEL, data)
        await carries(a, "a", hearer)
        await until(lambda: b.counters.bad_envelopes == len(bad))
    assert [log["event"] for log in logs] == ["bad_envelope"]
    assert b.connected
    assert b.counters.received >= 1


async def test_a_signed_envelope_is_heard_by_who_knows_the_secret(make: Make, own_redis: RedisServer) -> None:
    _, b, hearer = await two(make, own_redis, secret=b"0123456789abcdef")
    own_redis.run("PUBLISH", CHANNEL, pack(envelope("x"), b"0123456789abcdef"))
    assert await hearer.next() == envelope("x")
    assert b.counters.bad_envelopes == 0


async def test_an_ear_that_raises_harms_nobody_else(make: Make, own_redis: RedisServer) -> None:
    a, b, hearer = await two(make, own_redis)

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    await b.subscribe("broken", broken, broken)
    with capture_logs() as logs:
        a.publish(envelope("a", document="broken"))
        a.publish(envelope("a"))
        assert await hearer.next() == envelope("a")
        own_redis.run("CLIENT", "KILL", "TYPE", "pubsub")
        await hearer.until(lambda hearer: hearer.losses == 1)
        await carries(a, "a", hearer)
    assert [log["event"] for log in logs].count("bus_callback_failed") == 2


async def test_many_subscriptions_cost_one_command(make: Make, own_redis: RedisServer) -> None:
    _, b, _ = await two(make, own_redis)
    own_redis.run("CONFIG", "RESETSTAT")
    ears = await asyncio.gather(*(b.subscribe(f"d{number}", print, print) for number in range(500)))
    for ear in ears:
        await ear.close()
    await until(lambda: b"cmdstat_unsubscribe" in _commands(own_redis))
    assert b"cmdstat_subscribe:calls=1," in _commands(own_redis)
    assert b"cmdstat_unsubscribe:calls=1," in _commands(own_redis)


def _commands(redis: RedisServer) -> bytes:
    stats = redis.run("INFO", "commandstats")
    assert isinstance(stats, bytes)
    return stats


async def test_a_document_has_one_ear_at_a_time_and_a_cancelled_subscription_leaves_none(
    make: Make, own_redis: RedisServer
) -> None:
    own_redis.pause()
    bus = make(own_redis.url, "b", times=RedisTimes(patience=60.0))
    starting = asyncio.create_task(bus.start())
    subscribing = asyncio.create_task(Hearer.on(bus))
    await asyncio.sleep(0.05)
    with pytest.raises(Misuse):
        await Hearer.on(bus)
    subscribing.cancel()
    await asyncio.wait((subscribing,))
    own_redis.resume()
    await starting
    assert (await Hearer.on(bus)).losses == 0


async def test_c7_close_leaves_no_connection_and_no_task(own_redis: RedisServer, make: Make) -> None:
    tasks = asyncio.all_tasks()
    buses = await two(make, own_redis)
    for bus in buses[:2]:
        await bus.close()
        await bus.close()
        bus.publish(envelope("a"))
        assert not bus.connected
    await until(lambda: own_redis.run("CLIENT", "LIST", "TYPE", "pubsub") == b"")
    await until(lambda: str(own_redis.run("CLIENT", "LIST")).count("id=") == 1)
    assert asyncio.all_tasks() == tasks


@pytest.mark.parametrize("state", ["paused", "gone", "never started"])
async def test_close_does_not_wait_for_a_redis_that_is_not_there(
    make: Make, own_redis: RedisServer, state: str
) -> None:
    bus = make(own_redis.url, "a", times=RedisTimes(command=60.0, silent_after=60.0, flush=0.2))
    if state != "never started":
        await bus.start()
        await until(lambda: bus.connected)
    if state == "paused":
        own_redis.pause()
    elif state == "gone":
        own_redis.kill()
    bus.publish(envelope("a"))
    async with asyncio.timeout(20):
        await bus.close()
    own_redis.resume()


def test_attempts_to_connect_come_ever_more_slowly_and_not_in_step() -> None:
    bus = RedisBus("redis://h", node="a", rng=random.Random(1))
    waits = [[bus._retry_after(attempts) for _ in range(100)] for attempts in (0, 1, 3, 10, 10_000)]
    assert all(0.1 <= wait <= 2.0 for some in waits for wait in some)
    assert [max(some) < limit for some, limit in zip(waits, (0.21, 0.41, 1.61, 2.01, 2.01), strict=True)] == [True] * 5
    assert max(waits[0]) < max(waits[1]) < max(waits[2]) < max(waits[3])
    assert min(len(set(some)) for some in waits) > 90


async def test_a_wrong_password_is_named_and_not_shown(make: Make, own_redis: RedisServer) -> None:
    with capture_logs() as logs:
        bus = make(f"redis://:hunter2@127.0.0.1:{own_redis.port}", "a")
        await bus.start()
        await asyncio.sleep(0.3)
        assert not bus.connected
        assert "Auth" in str(bus.trouble)
    assert [log["event"] for log in logs] == ["bus_lost"]
    assert "hunter2" not in f"{bus.trouble} {logs}"


@pytest.mark.parametrize("url", ["http://u:hunter2@h", "redis://:hunter2@h:port", "redis://:hunter2@h/0?colour=red"])
def test_an_unusable_url_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(Misuse) as caught:
        RedisBus(url, node="a", rng=random.Random())
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


async def test_deployments_with_different_prefixes_do_not_hear_each_other(
    make: Make, redis_server: RedisServer
) -> None:
    a, b = make(redis_server.url, "a", prefix="one"), make(redis_server.url, "b", prefix="two")
    c = make(redis_server.url, "c", prefix="two")
    for bus in (a, b, c):
        await bus.start()
    hearer = await Hearer.on(b)
    a.publish(envelope("a"))
    a.publish(envelope("a"), to="b")
    await until(lambda: a.counters.published == 2)
    c.publish(envelope("c"))
    assert await hearer.next() == envelope("c")
    assert len(hearer.envelopes) == 1


async def test_an_envelope_goes_around_for_the_doctor(own_redis: RedisServer) -> None:
    def doctor(url: str) -> Any:
        return try_out(
            url, node="doctor", rng=random.Random(), prefix="p", sharded=True, secret=b"s" * 16, patience=2.0
        )

    assert 0 < await doctor(own_redis.url) < 60
    with pytest.raises(Unavailable, match=r"(?i)auth"):
        await doctor(f"redis://127.0.0.1:{own_redis.port}")
    own_redis.kill()
    with pytest.raises(Unavailable, match="connecting to"):
        await doctor(own_redis.url)


def test_it_works_on_uvloop(redis_server: RedisServer) -> None:
    """The server's loop, whose transports are other ones."""

    async def main() -> None:
        async with AsyncExitStack() as stack:
            buses = [
                RedisBus(redis_server.url, node=node, rng=random.Random(), prefix="uvloop", times=QUICK)
                for node in "ab"
            ]
            for bus in buses:
                await bus.start()
                stack.push_async_callback(bus.close)
            hearer = await Hearer.on(buses[1])
            sent = [envelope("a", number, payload=random.randbytes(number * 10)) for number in range(1, 1001)]
            for one in sent:
                buses[0].publish(one)
            await hearer.until(lambda hearer: len(hearer.envelopes) == 1000)
            assert hearer.envelopes == sent

    uvloop.run(main())
