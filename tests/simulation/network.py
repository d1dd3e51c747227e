"""Connections between clients and nodes: in order per direction, delayed, and breakable in every way TCP is.

A `Link` is one WebSocket. The node's side is what `collab.server.websocket.Visit` serves; the client's side calls back
into `tests.simulation.client.Client`. Neither side learns of a break before its packets, or its patience, tell it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from collab.errors import CloseCode
from collab.room import Identity, Role
from collab.server.allowance import UNLIMITED
from collab.server.auth import Access, open_access
from collab.server.rights import Rights, Standing
from collab.server.websocket import Visit

if TYPE_CHECKING:
    from collab.node import Frame
    from collab.server.connection import Listener
    from tests.simulation.client import Client
    from tests.simulation.node import Life
    from tests.simulation.world import World

CLOSE_TIMEOUT = 5.0
"""Seconds a server waits for the answer to its close frame, as `collab.server.direct` does."""
PING_PATIENCE = (4.0, 8.0)
"""Seconds until a server finds out that nobody is there any more; uvicorn's 40 are too long for a history."""
OUTBOX_BYTES = 600
"""What may wait for a slow reader here: a few frames."""

ABNORMAL = 1006
REFUSED = 1013


class Pipe:
    """One direction. What goes in comes out in order, later, or never once ``broken``."""

    def __init__(self, world: World, deliver: Callable[[Any], None]) -> None:
        self._world = world
        self._deliver = deliver
        self._queue: deque[tuple[float, Any, int]] = deque()
        self._number = 0
        self._bytes_per_s: float | None = None
        self.waiting_bytes = 0
        """Bytes that a slow reader has not taken yet."""
        self.broken = False

    def put(self, item: Any, size: int = 0) -> None:
        """Send ``item`` on its way."""
        counted = size if self._bytes_per_s is not None else 0
        self.waiting_bytes += counted
        self._queue.append((self._world.now + self._world.network_delay(), item, counted))
        if len(self._queue) == 1:
            self._schedule()

    def slow_down(self, bytes_per_s: float | None) -> None:
        """The other side reads so slowly from now on; None: as fast as it comes."""
        self._bytes_per_s = bytes_per_s
        if self._queue:
            self._schedule()

    def _schedule(self) -> None:
        ready_at, _, size = self._queue[0]
        when = max(ready_at, self._world.now)
        if self._bytes_per_s is not None:
            when += size / self._bytes_per_s
        self._number += 1
        self._world.at(when, self._out, self._number)

    def _out(self, number: int) -> None:
        if number != self._number:
            return
        _, item, size = self._queue.popleft()
        self.waiting_bytes -= size
        if self._queue:
            self._schedule()
        if not self.broken:
            self._deliver(item)


class Link:
    """One WebSocket, from the first packet to the end of both sides."""

    def __init__(self, world: World, client: Client, life: Life, number: int) -> None:
        self.world = world
        self.client = client
        self.life = life
        self.number = number
        self.up = Pipe(world, self._arrived)
        self.down = Pipe(world, self._received)
        self.server = ServerEnd(self)
        self.opened = False
        self.frozen = False

    # the client's side

    def send(self, data: bytes) -> None:
        """A frame from the client."""
        self.up.put(data)

    def hang_up(self) -> None:
        """The client leaves and listens to nothing any more."""
        self.down.broken = True
        self.up.put(None)

    def _received(self, item: bytes | int | bool) -> None:
        if item is True:
            self.opened = True
            self.client.opened(self)
        elif isinstance(item, bytes):
            self.client.received(self, item)
            self.server.read()
        else:
            self.client.closed(self, item)
            self.up.put(None)

    # the server's side

    def _arrived(self, item: bytes | None) -> None:
        self.life.call(self.server.frame if item is not None else self.server.over, *([] if item is None else [item]))

    def accept(self) -> None:
        """The node answers the upgrade; runs as the node."""
        if self.life.hub.draining:
            self.down.put(REFUSED)
            return
        self.down.put(True)
        self.life.links[self] = None
        self.world.loop.create_task(self._serve(), name=f"link {self.number}")

    async def _serve(self) -> None:
        client, hub = self.client, self.life.hub
        rights = Rights(hub, open_access)
        visit = Visit(hub, self.server, rights, UNLIMITED)
        role = Role.READ if client.reads_only else Role.WRITE
        access = Access(Identity(client.name), {"*": role})
        standing = Standing(role, hub.access.heard)
        await visit.enter(client.document, access, standing, f"{hub.node}-{self.number}", None)
        try:
            await self.server.serve(visit)
        finally:
            visit.on_ended()
            self.life.links.pop(self, None)

    # what may happen to it

    def cut(self) -> None:
        """The connection is reset: each side learns so in its own time, and what was on its way is lost."""
        self.up.broken = self.down.broken = True
        self.world.later(self.world.delay(0.0, 0.3), self.client.closed, self, ABNORMAL)
        self.world.later(self.world.delay(0.0, 0.3), self.life.call, self.server.over)

    def freeze(self) -> None:
        """No packet gets through any more, and nobody is told."""
        self.frozen = self.up.broken = self.down.broken = True
        self.world.later(self.world.delay(*PING_PATIENCE), self.life.call, self.server.over)

    def server_died(self) -> None:
        """The kernel closes the sockets of a process that is gone, after what was written."""
        self.up.broken = True
        if self.world.chance(0.3):
            self.down.broken = True
            self.world.later(self.world.delay(0.0, 0.3), self.client.closed, self, ABNORMAL)
        else:
            self.down.put(ABNORMAL)


class ServerEnd:
    """`collab.server.connection.ServedConnection`, with the close handshake of `collab.server.direct`."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._listener: Listener | None = None
        self._held = False
        self._kept: deque[bytes] = deque()
        self._ended: asyncio.Future[None] | None = None
        self._is_over = False
        self._over_bound = False
        self.closed_with: CloseCode | None = None

    @property
    def waiting_bytes(self) -> int:
        return self._link.down.waiting_bytes

    def write(self, frame: Frame) -> None:
        if self.closed_with is not None or self._is_over:
            return
        down = self._link.down
        for payload in frame.payloads:
            down.put(payload, len(payload))
        if down.waiting_bytes > OUTBOX_BYTES and not self._over_bound:
            self._over_bound = True
            if self._listener is not None:
                self._listener.on_over_bound()

    def close(self, code: CloseCode) -> None:
        if self.closed_with is not None or self._is_over:
            return
        self.closed_with = code
        self._link.down.put(code.code)
        self.resume_reading()
        self._link.world.loop.call_later(CLOSE_TIMEOUT, self.over)

    def pause_reading(self) -> None:
        self._held = True

    def resume_reading(self) -> None:
        if self._held:
            self._held = False
            self._link.world.loop.call_soon(self._take_kept)

    async def serve(self, listener: Listener) -> None:
        """Pass everything on to ``listener`` until the connection has ended."""
        if self._is_over:
            return
        self._listener = listener
        self._ended = asyncio.get_running_loop().create_future()
        if self._over_bound:
            listener.on_over_bound()
        self._take_kept()
        await self._ended

    def frame(self, data: bytes) -> None:
        """A frame has arrived; runs as the node."""
        self._kept.append(data)
        self._take_kept()

    def _take_kept(self) -> None:
        while self._kept and self._listener is not None and not self._held and not self._is_over:
            data = self._kept.popleft()
            if self.closed_with is None:
                self._listener.on_frame(data)

    def over(self) -> None:
        """The connection is gone; runs as the node."""
        if self._is_over:
            return
        self._is_over = True
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    def read(self) -> None:
        """The client took a frame."""
        if self._over_bound and self._link.down.waiting_bytes <= OUTBOX_BYTES // 8:
            self._over_bound = False
            if self._listener is not None:
                self._link.life.call(self._listener.on_drained)
