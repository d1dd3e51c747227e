"""What travels together: a confirmation (SPEC R4) waits a moment for something to go with, presence (A5) never."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from collab.errors import CloseCode
from collab.node import HubLimits, RoomLimits, audience
from collab.protocol.messages import Awareness, AwarenessEntry, Update

from .conftest import Build, Client
from .support import Writer, text_of

LONG = 1000.0


@pytest.fixture
def for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing leaves by itself."""
    monkeypatch.setattr(audience, "CONFIRMED_WITHIN", LONG)


async def entered(build: Build, *names: str, fast: bool = False) -> list[Client]:
    hub = build(limits=HubLimits(room=RoomLimits(show_plain_at_once=fast)))
    return [await Client(hub, name).enter() for name in names]


async def saved(client: Client) -> None:
    assert client.room is not None
    await client.room.wait_saved()


@pytest.mark.usefixtures("for_ever")
async def test_r4_a_confirmation_goes_with_the_next_update_somebody_else_writes(build: Build) -> None:
    ann, ben = await entered(build, "ann", "ben")
    first, second = Writer().type("a"), Writer().type("b")
    ann.send(Update(first))
    await saved(ann)
    assert Update(first) not in ann.connection.messages
    ben.send(Update(second))
    await ann.connection.until(lambda: Update(second) in ann.connection.messages)
    assert ann.connection.writes[-1] == [Update(second), Update(first)]


async def test_r4_a_confirmation_without_company_goes_alone(build: Build) -> None:
    (ann,) = await entered(build, "ann")
    update = Writer().type("a")
    ann.send(Update(update))
    await ann.connection.until(lambda: Update(update) in ann.connection.messages)


async def room_ends(ann: Client) -> None:
    assert ann.room is not None
    ann.room.end(CloseCode.RESTART)


async def user_is_sent_away(ann: Client) -> None:
    ann.hub.close_user("ann", CloseCode.FORBIDDEN)


async def node_drains(ann: Client) -> None:
    await ann.hub.drain(10.0)


async def all_are_closed(ann: Client) -> None:
    ann.hub.connections.close_all(CloseCode.RESTART)


@pytest.mark.usefixtures("for_ever")
@pytest.mark.parametrize("goes", [room_ends, user_is_sent_away, node_drains, all_are_closed])
async def test_r4_who_is_sent_away_is_told_before_what_is_saved(
    build: Build, goes: Callable[[Client], Awaitable[None]]
) -> None:
    (ann,) = await entered(build, "ann")
    update = Writer().type("a")
    ann.send(Update(update))
    await saved(ann)
    assert Update(update) not in ann.connection.messages
    await goes(ann)
    assert ann.connection.closed_with is not None
    assert Update(update) in ann.connection.messages


@pytest.mark.usefixtures("for_ever")
async def test_r4_an_update_that_others_wrote_a_part_of_waits_for_nothing(build: Build) -> None:
    ann, ben = await entered(build, "ann", "ben")
    ann.send(Update(Writer().type("a")))
    ben.send(Update(Writer().type("b")))
    await ann.connection.until(lambda: "b" in text_of(*ann.connection.updates()))


async def test_a5_a_move_goes_with_an_update_of_its_turn(build: Build) -> None:
    ann, ben, cat = await entered(build, "ann", "ben", "cat", fast=True)
    writer = Writer()
    for letter in "ab":  # from the third on what is typed is plain
        ben.send(Update(writer.type(letter)))
        await saved(ben)
    move, update = Awareness((AwarenessEntry(1, 1, b"{}"),)), writer.type("c")
    ann.send(move)
    ben.send(Update(update))
    await cat.connection.receives(Awareness)
    assert cat.connection.writes[-1] == [Update(update), move]


async def test_a5_a_move_without_company_goes_alone(build: Build) -> None:
    ann, ben = await entered(build, "ann", "ben")
    ann.send(Awareness((AwarenessEntry(1, 1, b"{}"),)))
    await ben.connection.receives(Awareness)
