"""A few of the kills that `python -m tests.faults.kill` does by the hundred: nothing acknowledged is ever lost."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest

from tests.faults.campaign import Campaign, Target
from tests.support.postgres import postgres_server, postgres_url
from tests.support.server import NO_RATES, RunningServer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.clients import StockClients

__all__ = ["postgres_server", "postgres_url"]
SEED = 20
TARGETS: list[Target] = ["gateway", "engine", "both"]


async def strike_each(server: RunningServer, oracle: StockClients) -> list[str]:
    """Every target once under load; all that is wrong."""
    load = Campaign(server, oracle, Random(SEED), rooms=3, writers=4)
    await load.begin()
    strikes = [await load.strike(target) for target in TARGETS]
    assert all(strike.acknowledged > 0 for strike in strikes)
    problems = [f"{strike.target}: {problem}" for strike in strikes for problem in strike.problems]
    return problems + await load.end()


async def test_k1_kills_lose_nothing_acknowledged_on_sqlite(tmp_path: Path, stock: StockClients) -> None:
    with RunningServer.start(database=f"sqlite:///{tmp_path / 'kill.db'}", env=NO_RATES) as server:
        assert await strike_each(server, stock) == []


@pytest.mark.postgres
async def test_k1_kills_lose_nothing_acknowledged_on_postgres(postgres_url: str, stock: StockClients) -> None:
    with RunningServer.start("--migrate", database=postgres_url, env=NO_RATES) as server:
        assert await strike_each(server, stock) == []
