"""Tickets: what opens one WebSocket to one document, once, within 30 seconds, whatever node it is shown to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from collab.bus import MemoryBus
from collab.errors import CloseCode
from collab.server.auth import LEEWAY_S, open_access
from collab.store import MemoryStore
from tests.support.live import LiveNode, bearer, live_nodes, token

READ, WRITE = {"documents": {"d": "read"}}, {"documents": {"*": "write"}}
NOT_GOOD = CloseCode.UNAUTHENTICATED.code


class Clock:
    """The store's clock, moved by hand."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def nodes(clock: Clock) -> AsyncIterator[list[LiveNode]]:
    async with live_nodes(2, store=MemoryStore(clock=clock), bus=MemoryBus()) as made:
        for name in ("d", "e"):
            await made[0].ask("post", "/v1/documents", json={"name": name})
        yield made


async def ticket(node: LiveNode, headers: dict[str, str], **asked: Any) -> str:
    answer = await node.ask("post", "/v1/tickets", headers, json={"document": "d", **asked})
    assert answer.status_code == 201, answer.text
    left = datetime.fromisoformat(answer.json()["expires_at"]) - datetime.now(UTC)
    assert timedelta(0) < left <= timedelta(seconds=30)
    made: str = answer.json()["ticket"]
    assert made.startswith("ct_")
    assert len(made) == 46
    return made


async def role(node: LiveNode) -> str:
    (one,) = (await node.ask("get", "/v1/documents/d/presence")).json()["present"]
    assert one["subject"] == "ben"
    found: str = one["role"]
    return found


@pytest.mark.parametrize("where", ["subprotocol", "query"])
async def test_a_ticket_opens_a_websocket_on_any_node_in_the_name_of_who_asked(
    nodes: list[LiveNode], where: str
) -> None:
    here, there = nodes
    made = await ticket(here, bearer("ben", **WRITE))
    ben = await (await there.connect("d", **{where: made})).joined()
    assert await role(here) == "write"
    assert ben.subprotocol == ("yjs.v1" if where == "subprotocol" else None)


async def test_d14_a_ticket_used_twice_is_refused(nodes: list[LiveNode]) -> None:
    here, _ = nodes
    made = await ticket(here, bearer("ben", **WRITE))
    await (await here.connect("d", query=made)).joined()
    for node in nodes:
        assert await (await node.connect("d", query=made)).closed() == NOT_GOOD


async def test_g4_of_two_nodes_that_are_shown_a_ticket_at_once_one_takes_it(nodes: list[LiveNode]) -> None:
    for _ in range(10):
        made = await ticket(nodes[0], bearer("ben", **WRITE))
        sockets = await asyncio.gather(*(node.connect("d", query=made) for node in nodes * 3))
        refused = [socket for socket in sockets if socket.closed_with is not None]
        assert len(refused) == len(sockets) - 1
        assert {await socket.closed() for socket in refused} == {NOT_GOOD}


async def test_d14_a_ticket_is_late_after_30_seconds(nodes: list[LiveNode], clock: Clock) -> None:
    made = await ticket(nodes[0], bearer("ben", **WRITE))
    clock.ahead = timedelta(seconds=31)
    assert await (await nodes[0].connect("d", query=made)).closed() == NOT_GOOD


async def test_d14_a_ticket_for_another_document_opens_none_and_is_used_up(nodes: list[LiveNode]) -> None:
    made = await ticket(nodes[0], bearer("ben", **WRITE))
    assert await (await nodes[0].connect("e", query=made)).closed() == NOT_GOOD
    assert await (await nodes[0].connect("d", query=made)).closed() == NOT_GOOD


async def test_d10_a_ticket_is_no_token_and_a_token_no_ticket(nodes: list[LiveNode]) -> None:
    here, _ = nodes
    made = await ticket(here, bearer("ben", **WRITE))
    answer = await here.ask("get", "/v1/documents/d", {"Authorization": f"Bearer {made}"})
    assert (answer.status_code, answer.json()["detail"]) == (401, "A ticket opens a WebSocket, nothing else.")
    assert await (await here.connect("d", token("ben", **WRITE), query=made)).closed() == NOT_GOOD
    assert await (await here.connect("d", query="ct_" + token("ben", **WRITE))).closed() == NOT_GOOD
    await (await here.connect("d", query=made)).joined()  # none of this used it up


async def test_a_ticket_is_for_no_more_than_its_owner_has(nodes: list[LiveNode]) -> None:
    here, there = nodes
    for headers, asked in (
        (bearer("ben", **READ), {"role": "write"}),
        (bearer("ben", **WRITE), {"role": "admin"}),
        (bearer("ben", **READ), {"document": "e"}),
        (bearer("ben", **READ), {"document": "never"}),
    ):
        answer = await here.ask("post", "/v1/tickets", headers, json={"document": "d", **asked})
        assert answer.status_code == 403, asked
    less = await ticket(here, bearer("ben", **WRITE), role="read")
    await (await there.connect("d", query=less)).joined()
    assert await role(here) == "read"


async def test_a_session_by_ticket_never_rises_above_it_and_falls_with_its_owner(nodes: list[LiveNode]) -> None:
    here, there = nodes
    await here.ask("put", "/v1/documents/d/grants/ben", json={"role": "write"})
    ben = await (await there.connect("d", query=await ticket(here, bearer("ben"), role="read"))).joined()
    await here.ask("put", "/v1/documents/d/grants/ben", json={"role": "admin"})
    assert await role(there) == "read"
    await here.ask("delete", "/v1/documents/d/grants/ben")
    assert await ben.closed() == CloseCode.FORBIDDEN.code


async def test_a_session_by_ticket_ends_when_its_owners_tokens_are_revoked_or_expire(nodes: list[LiveNode]) -> None:
    here, there = nodes
    issued = datetime.now(UTC) - timedelta(minutes=1)
    ben = await (await there.connect("d", query=await ticket(here, bearer("ben", iat=issued, **WRITE)))).joined()
    await here.ask("post", "/v1/revocations", json={"subject": "ben"})
    assert await ben.closed() == NOT_GOOD
    soon = datetime.now(UTC) - timedelta(seconds=28)  # a leeway of 30 s
    eve = await (await there.connect("d", query=await ticket(here, bearer("eve", exp=soon, **WRITE)))).joined()
    assert await eve.closed() == NOT_GOOD


async def test_g10_a_ticket_does_not_outlive_the_token_it_was_made_with(nodes: list[LiveNode]) -> None:
    here, there = nodes
    ends = datetime.now(UTC) + timedelta(seconds=1)
    made = await ticket(here, bearer("ben", exp=ends - timedelta(seconds=LEEWAY_S), **WRITE))
    await asyncio.sleep((ends - datetime.now(UTC)).total_seconds() + 0.01)
    late = await there.connect("d", query=made)
    assert await late.closed() == NOT_GOOD
    assert late.messages == []


async def test_a_ticket_by_link_is_worth_what_the_link_is(nodes: list[LiveNode]) -> None:
    here, there = nodes
    link = (await here.ask("post", "/v1/documents/d/links", json={"role": "write"})).json()
    made = await ticket(here, {"Authorization": f"Bearer {link['secret']}"})
    visitor = await (await there.connect("d", query=made)).joined()
    await here.ask("delete", f"/v1/documents/d/links/{link['id']}")
    assert await visitor.closed() == CloseCode.FORBIDDEN.code


async def test_d15_where_tokens_are_not_taken_from_the_address_links_are_not_either_and_tickets_are() -> None:
    async with live_nodes(token_in_url=False) as (node,):
        await node.ask("post", "/v1/documents", json={"name": "d"})
        link = (await node.ask("post", "/v1/documents/d/links", json={"role": "read"})).json()["secret"]
        assert await (await node.connect("d", query=link)).closed() == NOT_GOOD
        assert (await node.ask("get", "/v1/documents/d", {}, params={"token": link})).status_code == 401
        await (await node.connect("d", subprotocol=link)).joined()
        await (await node.connect("d", query=await ticket(node, bearer("ben", **READ)))).joined()


async def test_where_nobody_is_asked_who_they_are_there_is_nothing_to_grant() -> None:
    async with live_nodes(authenticate=open_access) as (node,):
        await node.ask("post", "/v1/documents", {}, json={"name": "d"})
        for method, path, body in (
            ("get", "/v1/documents/d/grants", None),
            ("put", "/v1/documents/d/grants/ben", {"role": "read"}),
            ("post", "/v1/documents/d/links", {"role": "read"}),
            ("post", "/v1/tickets", {"document": "d"}),
            ("post", "/v1/revocations", {"subject": "ben"}),
        ):
            answer = await node.ask(method, path, {}, json=body)
            assert (answer.status_code, answer.json()["code"]) == (409, "conflict"), path
            assert "auth=open" in answer.json()["detail"]
        assert (await node.ask("get", "/v1/audit", {})).status_code == 403
