"""What orchestrators ask: alive, ready, metrics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.applications import Starlette

from collab.node.counters import Counters
from collab.server.health import CHECK_EVERY_S, Health
from collab.server.metrics import Metrics
from collab.store import MemoryStore
from collab.store.port import StoreStatus


class World:
    """A store that can be away, a clock that stands still, and the routes over them."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.checks = 0
        self.now = 100.0
        self.draining = False
        check = self.store.check

        async def counted() -> StoreStatus:
            self.checks += 1
            await asyncio.sleep(0)
            return await check()

        self.store.check = counted  # type: ignore[method-assign]
        self.health = Health(
            self.store, draining=lambda: self.draining, clock=lambda: self.now, metrics=Metrics(Counters())
        )

    async def get(self, path: str) -> httpx.Response:
        return await self.client.get(path)

    client: httpx.AsyncClient


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    transport = httpx.ASGITransport(Starlette(routes=made.health.routes()))
    async with httpx.AsyncClient(transport=transport, base_url="http://collab.test") as made.client:
        yield made


async def test_alive_needs_no_database(world: World) -> None:
    await world.store.close()
    world.draining = True
    assert (await world.get("/livez")).status_code == 200
    assert world.checks == 0


async def test_ready_follows_the_database_without_its_words(world: World) -> None:
    assert (await world.get("/readyz")).status_code == 200
    await world.store.close()
    world.now += CHECK_EVERY_S
    answer = await world.get("/readyz")
    assert (answer.status_code, answer.json()["reason"]) == (503, "the database does not answer")
    assert int(answer.headers["retry-after"]) > 0
    await world.store.open()
    world.now += CHECK_EVERY_S
    assert (await world.get("/readyz")).status_code == 200


async def test_a_draining_node_is_not_ready(world: World) -> None:
    world.draining = True
    answer = await world.get("/readyz")
    assert (answer.status_code, answer.json()["reason"]) == (503, "this node is shutting down")


async def test_k02_a_flood_of_questions_costs_the_database_one(world: World) -> None:
    answers = await asyncio.gather(*(world.get("/readyz") for _ in range(50)))
    assert {answer.status_code for answer in answers} == {200}
    assert world.checks == 1
    world.now += CHECK_EVERY_S
    await world.get("/readyz")
    assert world.checks == 2


async def test_a_database_that_never_answers_is_not_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collab.server.health.CHECK_TIMEOUT_S", 0.01)
    monkeypatch.setattr(world.store, "check", asyncio.Event().wait)
    assert (await world.get("/readyz")).status_code == 503


async def test_metrics_are_prometheus_text(world: World) -> None:
    answer = await world.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert "# TYPE collab_rooms gauge" in answer.text


def test_without_metrics_there_is_no_such_route() -> None:
    health = Health(MemoryStore(), draining=lambda: False, clock=lambda: 0.0)
    assert [route.path for route in health.routes()] == ["/livez", "/readyz"]
