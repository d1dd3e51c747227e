"""Reads from the log what nobody told this node about: the way between nodes while the bus is away, and a safety net
while it is there.

Every few seconds it asks the store how far the logs of the live rooms have come. When a room does not know of all, it
looks again a second later, and reads and integrates what the room still does not know. A node that died between its
commit and its word of it, a deletion nobody announced: all of it is found here.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from collab.errors import CollabError, DocumentDeleted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from collab.bus.port import Bus
    from collab.node.cluster import ClusterTimes
    from collab.node.live_room import LiveRoom
    from collab.store.port import Tail, UpdateLog

ROOMS_PER_QUESTION = 1_000

log = structlog.get_logger(__name__)


class LogFollower:
    """Watches the logs of a node's live rooms. ``start`` it once, ``close`` it once."""

    def __init__(
        self, update_log: UpdateLog, bus: Bus, times: ClusterTimes, rooms: Callable[[], Iterable[LiveRoom]]
    ) -> None:
        """``rooms`` gives the rooms that are open now."""
        self._log = update_log
        self._bus = bus
        self._times = times
        self._rooms = rooms
        self._failing = False
        self._suspicious = False
        """Whether the last look found something unknown that word may have been on its way of."""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to work, where other nodes may write to the same log."""
        if self._bus.shared:
            self._task = asyncio.create_task(self._run(), name="log follower")

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._pause())
            try:
                await self.look()
            except CollabError as error:
                if not self._failing:
                    log.warning("log_not_followed", error=str(error))
                self._failing = True
            else:
                self._failing = False

    def _pause(self) -> float:
        patient = self._bus.connected and not self._suspicious
        return self._times.follow_every if patient else self._times.follow_every_when_cut

    async def look(self) -> None:
        """Look once at every room's log."""
        self._suspicious = False
        rooms = {room.name: room for room in self._rooms() if room.closed is None}
        names = sorted(rooms)
        for start in range(0, len(names), ROOMS_PER_QUESTION):
            await self._look_at({name: rooms[name] for name in names[start : start + ROOMS_PER_QUESTION]})

    async def _look_at(self, rooms: Mapping[str, LiveRoom]) -> None:
        patient = self._bus.connected  # then word of what is new is probably on its way
        wanted: dict[str, int] = {}
        for name, last_seq in (await self._log.last_seqs(rooms)).items():
            room = rooms[name]
            if last_seq is None:
                room.deleted()
                continue
            through = room.view.seen if patient else last_seq
            room.view.seen = last_seq
            self._suspicious = self._suspicious or room.view.position < last_seq
            if room.view.position < through:
                wanted[name] = room.view.position
        while wanted:
            tails = await self._log.tail(wanted)
            wanted = {name: after for name, after in wanted.items() if name in tails and tails[name].complete}
            for name, tail in tails.items():
                await self._take(rooms[name], tail)
                if name in wanted and (tail.through >= rooms[name].view.seen or tail.through <= wanted[name]):
                    del wanted[name]
                elif name in wanted:
                    wanted[name] = tail.through

    async def _take(self, room: LiveRoom, tail: Tail) -> None:
        if room.closed is not None:
            return
        if tail.complete:
            room.follow(tail.rows, tail.through)
            return
        try:
            stored = await self._log.load(room.name)
        except DocumentDeleted:
            room.deleted()
        else:
            room.read_whole(stored)
