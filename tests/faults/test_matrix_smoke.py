"""Ten rows of the fault matrix, with short outages: what `python -m tests.faults` does at length, in a few minutes."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.faults import rows_clients, rows_database, rows_nodes, rows_redis, rows_rooms
from tests.faults.matrix import ROWS, run_row, table
from tests.support.postgres import find_binaries

if TYPE_CHECKING:
    from tests.support.clients import StockClients

__all__ = ["rows_clients", "rows_database", "rows_nodes", "rows_redis", "rows_rooms"]
SEED = 3
PATIENCE = 6.0
"""Bounds of time are this much wider here: the machine may be busy with other work."""
ROUNDS = {"F01": 2, "F04": 1, "F07": 1, "F10": 1, "F14": 1, "F20": 4, "F22": 2, "F30": 2, "F38": 8, "F45": 6}


@pytest.mark.postgres
@pytest.mark.parametrize("name", ROUNDS)
async def test_a_fault_of_the_matrix_ends_as_promised(name: str, stock: StockClients) -> None:
    if find_binaries() is None or shutil.which("redis-server") is None:
        pytest.skip("no PostgreSQL or no Redis on this machine")
    outcome = await run_row(ROWS[name], stock, seed=SEED, rounds=ROUNDS[name], short=True, patience=PATIENCE)
    print(table([outcome]))
    assert outcome.problems == []
    assert outcome.state == "passed"
