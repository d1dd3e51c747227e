"""`Collab.lifespan` and `Collab.drain`: what a server, or the application around, starts and ends a node with."""

from __future__ import annotations

from collab.engine.inline import InlineEngine
from collab.server.app import Collab
from collab.settings import Settings
from collab.store import MemoryStore


async def test_n7_a_node_that_was_drained_is_not_drained_again_when_its_lifespan_ends() -> None:
    """With the database away each time would take all of COLLAB_DRAIN_TIMEOUT_S."""
    node = Collab(Settings(serve_page=False), store=MemoryStore(), engine=InlineEngine())
    drain, timeouts = node.hub.drain, []

    async def counted(timeout: float) -> bool:
        timeouts.append(timeout)
        await drain(timeout)
        return False

    node.hub.drain = counted  # type: ignore[method-assign]
    async with node.lifespan():
        assert [await node.drain(), await node.drain()] == [False, False]
    assert timeouts == [node.settings.drain_timeout_s]
