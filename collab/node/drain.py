"""Sends the sessions of a node that shuts down away a few at a time, so that they do not all come back elsewhere at one
instant, and so that each is served until its own turn comes (SPEC N7)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from collab.errors import CloseCode, CollabError

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Sequence

    from collab.node.connections import ConnectionManager
    from collab.node.live_room import LiveRoom
    from collab.node.outbox import Outbox

GROUP = 50
"""Sessions of one document that go together; those of a small document all at once, so that they meet again soon."""

SESSIONS_PER_SECOND = 200
"""Guessed: what the other nodes take without a pause anybody notices."""


async def see_off(
    rooms: Iterable[LiveRoom], connections: ConnectionManager, rng: random.Random, *, within: float
) -> None:
    """Save what every session sent and tell it to come back; spread over at most ``within`` seconds."""
    groups = [
        (room, outboxes[start : start + GROUP])
        for room in rooms
        for outboxes in [list(connections.in_room(room.name).values())]
        for start in range(0, len(outboxes), GROUP)
    ]
    if not groups:
        return
    rng.shuffle(groups)
    sessions = sum(len(outboxes) for _, outboxes in groups)
    pause = min(within, sessions / SESSIONS_PER_SECOND) / len(groups)
    async with asyncio.TaskGroup() as leaving:
        for room, outboxes in groups:
            leaving.create_task(_see_off(room, outboxes))
            await asyncio.sleep(pause)


async def _see_off(room: LiveRoom, outboxes: Sequence[Outbox]) -> None:
    for outbox in outboxes:
        outbox.connection.pause_reading()
    try:
        await room.settle()
    except CollabError:
        return  # the room has ended, and they were told why
    for outbox in outboxes:
        outbox.close(CloseCode.RESTART)
