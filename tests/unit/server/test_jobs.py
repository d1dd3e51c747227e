"""Documents that kill engines are left alone for a while, also when nobody has them open."""

from __future__ import annotations

from typing import Any

import pytest

from collab.engine.inline import InlineEngine
from collab.engine.port import Render
from collab.errors import DocumentQuarantined, EngineDied, InvalidContent
from collab.server import jobs
from collab.server.jobs import Jobs

JOB = Render((), "text")


class Engine(InlineEngine):
    """An engine that dies of some jobs, and counts them."""

    def __init__(self) -> None:
        super().__init__()
        self.error: Exception | None = None
        self.calls = 0

    async def run(self, job: Any) -> Any:
        self.calls += 1
        if self.error is not None:
            raise self.error
        return await super().run(job)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def runner(engine: Engine, clock: Clock) -> Jobs:
    return Jobs(engine, clock=clock)


async def kill(runner: Jobs, engine: Engine, document: str) -> None:
    engine.error = EngineDied("signal 11")
    with pytest.raises(EngineDied):
        await runner.run(document, JOB)
    engine.error = None


async def test_f29_a_document_that_killed_two_engines_costs_no_third(
    runner: Jobs, engine: Engine, clock: Clock
) -> None:
    await kill(runner, engine, "poison")
    await kill(runner, engine, "poison")
    with pytest.raises(DocumentQuarantined):
        await runner.run("poison", JOB)
    assert engine.calls == 2
    assert await runner.run("other", JOB) == b""
    clock.now += jobs.REST_S
    assert await runner.run("poison", JOB) == b""


async def test_a_second_death_after_a_rest_rests_again(runner: Jobs, engine: Engine, clock: Clock) -> None:
    await kill(runner, engine, "poison")
    await kill(runner, engine, "poison")
    clock.now += jobs.REST_S
    await kill(runner, engine, "poison")
    with pytest.raises(DocumentQuarantined):
        await runner.run("poison", JOB)


async def test_deaths_long_ago_are_forgotten(runner: Jobs, engine: Engine, clock: Clock) -> None:
    await kill(runner, engine, "d")
    clock.now += jobs.WITHIN_S
    await kill(runner, engine, "d")
    assert await runner.run("d", JOB) == b""


async def test_content_at_fault_is_no_death(runner: Jobs, engine: Engine) -> None:
    for _ in range(5):
        engine.error = InvalidContent("no")
        with pytest.raises(InvalidContent):
            await runner.run("d", JOB)
    engine.error = None
    assert await runner.run("d", JOB) == b""
