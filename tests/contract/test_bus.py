"""The bus's contract, on every adapter: who hears what, in which order, and until when."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from collab.bus import EVERYWHERE, Bus, Envelope, Kind, MemoryBus, alone
from collab.bus.redis import RedisBus
from tests.support.bus import Hearer
from tests.support.redis import redis_server

__all__ = ["redis_server"]

Join = Callable[[str], Awaitable[Bus]]


@pytest.fixture(params=["memory", "redis", "redis-sharded", "redis-signed"])
async def join(request: pytest.FixtureRequest) -> AsyncIterator[Join]:
    """Makes a node's end of a bus that all nodes of this test share."""
    medium = MemoryBus()
    prefix = f"contract-{random.randbytes(6).hex()}"
    joined: list[Bus] = []

    async def join(node: str) -> Bus:
        if request.param == "memory":
            bus: Bus = medium.end(node)
        else:
            bus = RedisBus(
                request.getfixturevalue("redis_server").url,
                node=node,
                rng=random.Random(),
                prefix=prefix,
                sharded=request.param == "redis-sharded",
                secret=b"0123456789abcdef" if request.param == "redis-signed" else None,
            )
        await bus.start()
        joined.append(bus)
        return bus

    yield join
    for bus in joined:
        await bus.close()


def envelope(node: str, sequence: int = 1, document: str = "d", payload: bytes = b"x") -> Envelope:
    return Envelope(document, node, 7, sequence, Kind.UPDATE, payload)


async def listen(bus: Bus, document: str = "d") -> Hearer:
    return await Hearer.on(bus, document)


async def test_b1_what_is_published_after_subscribe_returned_is_heard_by_every_other_node(join: Join) -> None:
    a, b, c = await join("a"), await join("b"), await join("c")
    hearers = [await listen(bus) for bus in (a, b, c)]
    sent = Envelope("d", "a", (1 << 62) + 1, 12345, Kind.AWARENESS, bytes(range(256)))
    a.publish(sent)
    for hearer in hearers[1:]:
        assert await hearer.next() == sent
    await settled(b, "b", hearers[0])
    assert hearers[0].envelopes == [envelope("b", 999)]


async def settled(bus: Bus, node: str, *hearers: Hearer) -> None:
    """Wait until something that ``bus`` publishes now has arrived, and so all that it would hear before."""
    last = envelope(node, 999)
    bus.publish(last)
    for hearer in hearers:
        await hearer.until(lambda hearer: last in hearer.envelopes)


async def test_envelopes_of_one_node_arrive_in_order_and_once(join: Join) -> None:
    a, b = await join("a"), await join("b")
    hearer = await listen(b)
    for number in range(1, 3001):
        a.publish(envelope("a", number, payload=b"." * (number % 300)))
        if number % 700 == 0:
            await asyncio.sleep(0)
    await hearer.until(lambda hearer: len(hearer.envelopes) >= 3000)
    assert [heard.sequence for heard in hearer.envelopes] == list(range(1, 3001))


async def test_a_large_envelope_arrives_whole(join: Join) -> None:
    a, b = await join("a"), await join("b")
    hearer = await listen(b)
    sent = envelope("a", payload=random.randbytes(5_000_000))
    a.publish(sent)
    assert await hearer.next() == sent


async def test_a_node_does_not_hear_itself(join: Join) -> None:
    a, b = await join("a"), await join("b")
    mine, other = await listen(a), await listen(b)
    everywhere = await listen(a, EVERYWHERE)
    a.publish(envelope("a"))
    a.publish(envelope("a", document=EVERYWHERE))
    a.publish(envelope("a"), to="a")
    await settled(b, "b", mine)
    assert await other.next() == envelope("a")
    assert mine.envelopes == [envelope("b", 999)]
    assert everywhere.envelopes == []


async def test_what_is_for_one_node_is_heard_by_that_one_only_by_its_ear_for_the_document(join: Join) -> None:
    a, b, c = await join("a"), await join("b"), await join("c")
    here, elsewhere, bystander = await listen(b), await listen(b, "other"), await listen(c)
    a.publish(envelope("a"), to="b")
    a.publish(envelope("a", 2, "nobody-listens"), to="b")
    a.publish(envelope("a", 3), to="nobody")
    await settled(a, "a", here, bystander)
    assert here.envelopes == [envelope("a"), envelope("a", 999)]
    assert bystander.envelopes == [envelope("a", 999)]
    assert elsewhere.envelopes == []


async def test_everywhere_reaches_every_node_that_listens_there(join: Join) -> None:
    a, b, c = await join("a"), await join("b"), await join("c")
    ears = [await listen(bus, EVERYWHERE) for bus in (b, c)]
    document = await listen(b)
    a.publish(envelope("a", document=EVERYWHERE))
    for ear in ears:
        assert await ear.next() == envelope("a", document=EVERYWHERE)
    await settled(a, "a", document)
    assert document.envelopes == [envelope("a", 999)]


async def test_after_close_nothing_is_heard_and_closing_twice_is_no_mistake(join: Join) -> None:
    a, b = await join("a"), await join("b")
    closed, open_ = await listen(b), await listen(b, "e")
    await closed.subscription.close()
    await closed.subscription.close()
    a.publish(envelope("a"))
    a.publish(envelope("a", document="e"))
    await open_.next()
    assert closed.envelopes == []


async def test_a_document_is_heard_again_right_after_its_ear_was_closed(join: Join) -> None:
    a, b = await join("a"), await join("b")
    first = await listen(b)
    hearer = first
    for number in range(1, 51):
        await hearer.subscription.close()
        if number % 3 == 0:
            await asyncio.sleep(0)  # sometimes the old one is given back before the new one is asked for
        hearer = await listen(b)
        a.publish(envelope("a", number))
        assert (await hearer.next()).sequence == number
    await first.subscription.close()  # an old ear's close does nothing to its successor
    await settled(a, "a", hearer)
    assert first.envelopes == []


async def test_many_documents_are_subscribed_to_at_once_and_kept_apart(join: Join) -> None:
    a, b = await join("a"), await join("b")
    names = [f"document-{number}" for number in range(1000)]
    hearers = await asyncio.gather(*(listen(b, name) for name in names))
    for number, name in enumerate(names, 1):
        a.publish(envelope("a", number, name))
    for number, (name, hearer) in enumerate(zip(names, hearers, strict=True), 1):
        assert await hearer.next() == envelope("a", number, name)
    assert {len(hearer.envelopes) for hearer in hearers} == {1}
    await asyncio.gather(*(hearer.subscription.close() for hearer in hearers[1:]))
    for number, name in enumerate(names, 2001):
        a.publish(envelope("a", number, name))
    a.publish(envelope("a", 4000, names[0]))
    await hearers[0].until(lambda hearer: len(hearer.envelopes) == 3)
    assert {len(hearer.envelopes) for hearer in hearers[1:]} == {1}


@pytest.mark.parametrize("awkward", ["*", "d*", "a:b", "~", "x" * 200, "é\r\n\0'"])
async def test_g02_a_name_reaches_no_other_document(join: Join, awkward: str) -> None:
    a, b = await join("a"), await join("b")
    plain, ear = await listen(b, "d"), await listen(b, awkward)
    a.publish(envelope("a", 1, awkward))
    assert await ear.next() == envelope("a", 1, awkward)
    await settled(a, "a", plain)
    assert plain.envelopes == [envelope("a", 999)]
    assert len(ear.envelopes) == 1


async def test_nothing_was_lost_and_the_bus_is_connected(join: Join) -> None:
    a, b = await join("a"), await join("b")
    hearer = await listen(b)
    await settled(a, "a", hearer)
    assert (a.connected, b.connected, a.shared, hearer.losses) == (True, True, True, 0)


async def test_what_was_published_before_close_arrives_and_nothing_after(join: Join) -> None:
    a, b = await join("a"), await join("b")
    hearer, dead = await listen(b), await listen(a)
    for number in range(1, 2001):
        a.publish(envelope("a", number))
    await a.close()
    await hearer.until(lambda hearer: len(hearer.envelopes) >= 2000)
    b.publish(envelope("b"))
    c = await join("c")
    await settled(c, "c", hearer)
    assert len(hearer.envelopes) == 2001
    assert dead.envelopes == []


async def test_a_node_alone_shares_nothing() -> None:
    bus = alone()
    await bus.start()
    hearer = await listen(bus)
    bus.publish(envelope("alone"))
    assert (bus.shared, bus.connected, hearer.envelopes) == (False, True, [])
    await bus.close()
