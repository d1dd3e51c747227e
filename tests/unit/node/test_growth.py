"""A document that grows large is noted once, and refused nothing (SPEC N19)."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from collab.engine.inline import InlineEngine
from collab.node import HubLimits
from collab.node.surroundings import RoomLimits
from collab.protocol.messages import SyncStep1, SyncStep2, Update
from collab.store import MemoryStore

from .conftest import Build, Client
from .support import Writer

MAX_BYTES = 256 * 1024


async def test_b20_a_document_that_half_fills_its_bound_is_logged_once(build: Build) -> None:
    hub = build(engine=InlineEngine(max_document_bytes=MAX_BYTES))
    ann, writer = await Client(hub, "ann").enter(), Writer()
    with capture_logs() as logs:
        for confirmed in range(1, 19):
            ann.send(Update(writer.type("x" * 10_000)))
            await ann.connection.until(lambda: len(ann.connection.updates()) == confirmed)  # noqa: B023 - awaited here
    assert [line["document"] for line in logs if line["event"] == "document_half_full"] == ["d"]
    assert hub.counters.limits["document_size"] == 1
    assert ann.connection.closed_with is None


@pytest.mark.parametrize("loaded", [False, True], ids=["while people write", "when it is opened"])
async def test_b15_a_document_of_very_many_clients_is_logged_once(build: Build, *, loaded: bool) -> None:
    limits, store = HubLimits(room=RoomLimits(many_clients=10)), MemoryStore()
    hub = build(limits=HubLimits() if loaded else limits, store=store)
    ann = await Client(hub, "ann").enter()
    with capture_logs() as logs:
        for confirmed in range(1, 12):
            ann.send(Update(Writer().type("x")))
            await ann.connection.until(lambda: len(ann.connection.updates()) == confirmed)  # noqa: B023 - awaited here
        if loaded:
            hub = build(limits=limits, store=store)
            ann = await Client(hub, "ann").enter()
        for _ in range(2):
            ann.send(SyncStep1(b"\x00"))
            await ann.connection.receives(SyncStep2)
    found = [line for line in logs if line["event"] == "document_has_many_clients"]
    assert [(line["document"], line["clients"]) for line in found] == [("d", 11)]
    assert hub.counters.limits["clients"] == 1
