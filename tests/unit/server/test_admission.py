"""Rights of live sessions when something fails that never should: it costs one session its connection, nobody else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from collab.errors import CloseCode
from collab.node import LiveRoom
from collab.store import MemoryStore
from tests.support.live import live_nodes, token


def asking(store: MemoryStore) -> tuple[Any, str]:
    """Where it is asked what somebody may."""
    return store.grants, "role"


def acting(_: MemoryStore) -> tuple[Any, str]:
    """Where a session is told what it may."""
    return LiveRoom, "change_role"


def fail_once(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
    """Have a method raise what is no error of ours at its first call."""
    right, failed = getattr(owner, name), False

    def fails(*args: Any) -> Any:
        nonlocal failed
        if not failed:
            failed = True
            raise RuntimeError("a mistake of the driver")
        return right(*args)

    monkeypatch.setattr(owner, name, fails)


@pytest.mark.parametrize("where", [asking, acting])
async def test_g6_a_fault_closes_the_session_it_happened_with_and_others_are_looked_at(
    monkeypatch: pytest.MonkeyPatch, where: Callable[[MemoryStore], tuple[Any, str]]
) -> None:
    store = MemoryStore()
    async with live_nodes(store=store) as (node,):
        await node.ask("post", "/v1/documents", json={"name": "d"})
        for subject in ("ann", "ben"):
            await node.ask("put", f"/v1/documents/d/grants/{subject}", json={"role": "write"})
        ann, ben = [await (await node.connect("d", token(subject))).joined() for subject in ("ann", "ben")]
        fail_once(monkeypatch, *where(store))
        with capture_logs() as lines:
            await node.ask("put", "/v1/documents/d/grants/ann", json={"role": "read"})
            assert await ann.closed() == CloseCode.FAULT.code  # it may come back, and is asked anew
            await node.ask("delete", "/v1/documents/d/grants/ben")
            assert await ben.closed() == CloseCode.FORBIDDEN.code
        assert [line["exc_info"] for line in lines if line["event"] == "access_not_examined"] == [True]
        again = await (await node.connect("d", token("ann"))).joined()
        await node.ask("delete", "/v1/documents/d/grants/ann")
        assert await again.closed() == CloseCode.FORBIDDEN.code
