"""Refused requests have one budget per address, over REST and WebSocket (attack D18; the count itself: test_addresses).

With real sockets on both kinds of connection; whether anything was looked at is asked of whom it would be looked at by.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from starlette.requests import HTTPConnection

from collab.errors import Forbidden
from collab.server.auth import Access
from collab.settings import Settings
from tests.attacks.routes import Route, routes
from tests.support.plain import PLAIN
from tests.unit.server.test_direct import Server, running
from tests.unit.server.test_limits import both, by_query

PATH = "/v1/documents/d"
REFUSALS = 3


class Asked:
    """Knows whoever says `?user=`, and counts how often it was asked."""

    def __init__(self) -> None:
        self.times = 0

    async def __call__(self, request: HTTPConnection, document: str | None) -> Access:
        self.times += 1
        if request.query_params.get("user") == "ben":
            raise Forbidden("Not you.")
        return await by_query(request, document)


class Knocking:
    """A server that asks ``asked``, and a client of its REST side."""

    def __init__(self, server: Server, rest: httpx.AsyncClient, asked: Asked) -> None:
        self.server, self.rest, self.asked = server, rest, asked

    async def status(self, path: str = PATH, **headers: str) -> int:
        return (await self.rest.get(path, headers=headers)).status_code

    async def opened(self, path: str, *headers: str) -> int:
        """The status of an upgrade, or the code it was closed with."""
        status, client = await self.server.upgrade(path, *headers)
        return await client.close_code() if status == 101 else status


@asynccontextmanager
async def knocking(
    *, direct: bool = True, proxies: tuple[str, ...] = (), budget: int = REFUSALS
) -> AsyncIterator[Knocking]:
    settings = Settings(serve_page=False, max_refusals_per_address=budget, trusted_proxies=proxies)
    asked = Asked()
    async with (
        running(settings, direct=direct, authenticate=asked) as server,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", **PLAIN) as rest,
    ):
        yield Knocking(server, rest, asked)


@both
async def test_d18_refusals_of_both_ways_are_counted_together(direct: bool) -> None:
    async with knocking(direct=direct) as node:
        assert [await node.status(), await node.opened("/yjs/d"), await node.status()] == [401, 4401, 401]
        asked = node.asked.times
        answer = await node.rest.get(f"{PATH}?user=ann")
        assert (answer.status_code, answer.json()["code"]) == (429, "too_many_refusals")
        assert answer.headers["content-type"] == "application/problem+json"
        assert 0 < int(answer.headers["retry-after"]) <= 20
        assert await node.opened("/yjs/d?user=ann") == 429
        assert node.asked.times == asked
        assert node.server.node.hub.counters.limits["refusals"] == 2


async def test_d18_a_link_that_was_made_up_counts_and_is_looked_for_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    async with knocking() as node:
        links = node.server.node.store.links
        find, looked_for = links.find, []

        async def noted(secret_hash: bytes) -> object:
            looked_for.append(secret_hash)
            return await find(secret_hash)

        monkeypatch.setattr(links, "find", noted)
        for number in range(REFUSALS + 2):
            expected = 401 if number < REFUSALS else 429
            assert await node.status(Authorization=f"Bearer cl_made-up-{number}") == expected
        assert len(looked_for) == REFUSALS


async def test_d18_who_is_known_and_may_not_is_not_counted_over_rest() -> None:
    async with knocking() as node:
        for _ in range(REFUSALS + 2):
            assert await node.status(f"{PATH}?user=ben") == 403
            assert await node.status(f"{PATH}/nothing") == 404
        assert await node.status() == 401


async def test_d18_every_route_stays_shut_and_machines_are_still_answered() -> None:
    async with knocking() as node:
        for _ in range(REFUSALS):
            await node.status()
        asked = node.asked.times

        async def status(route: Route) -> int:
            told = route.request("d")
            told["params"] = {**told.get("params", {}), "user": "ann"}
            return (await node.rest.request(**told)).status_code

        assert {str(route): await status(route) for route in routes()} == {str(route): 429 for route in routes()}
        assert node.asked.times == asked
        for path in ("/livez", "/readyz", "/metrics", "/openapi.json"):
            assert await node.status(path) == 200
        assert await node.status("/v1/nothing") == 404


async def test_a19_over_rest_too_a_forwarded_address_is_believed_of_a_trusted_proxy_only() -> None:
    async with knocking(proxies=("127.0.0.1",), budget=1) as node:
        for _ in range(3):  # the proxy itself, which names nobody
            assert await node.status() == 401
        assert await node.status(**{"X-Forwarded-For": "192.0.2.1"}) == 401
        assert await node.status(**{"X-Forwarded-For": "192.0.2.77, 192.0.2.1"}) == 429
        assert await node.opened("/yjs/d", "X-Forwarded-For: 192.0.2.1") == 429
        assert await node.status(**{"X-Forwarded-For": "192.0.2.2"}) == 401
    async with knocking(proxies=("192.0.2.200",), budget=1) as node:
        assert await node.status(**{"X-Forwarded-For": "192.0.2.1"}) == 401
        assert await node.status(**{"X-Forwarded-For": "192.0.2.2"}) == 429


async def test_d18_0_is_no_limit() -> None:
    async with knocking(budget=0) as node:
        assert {await node.status() for _ in range(60)} == {401}


def test_every_route_that_asks_who_is_there_says_that_it_may_not_ask() -> None:
    for route in routes():
        told = route.operation["responses"]["429"]
        assert "Retry-After" in told["headers"], str(route)
        assert "application/problem+json" in told["content"]


async def test_nodes_in_one_process_have_budgets_of_their_own() -> None:
    async with knocking() as one, knocking() as other:
        for _ in range(REFUSALS):
            await one.status()
        assert (await one.status(), await other.status()) == (429, 401)
