"""A TCP proxy that does to connections what bad networks do to them, controlled while bytes flow.

`Network` owns one thread with an event loop, so that a busy test does not slow what passes; `Proxy` is one listening
port in front of one or several targets. Its two ways, ``up`` (client to target) and ``down``, are shared by all of its
connections: setting a field of a `Way` holds for the bytes that come next. Methods may be called from any other thread
and return when they are in force.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self, TypeVar

from tests.support.ports import free_port

Target = tuple[str, int]
Tap = Callable[["Connection", "Way", bytes], bool]
"""Sees every piece before it is passed on. When it returns False the piece is dropped and the connection reset."""
Result = TypeVar("Result")

READ_BYTES = 64 * 1024
QUEUED_PIECES = 16
"""Pieces under way in one direction: with the reading size, all that a connection holds besides socket buffers."""
PIECE_S = 0.05
"""A limited rate passes pieces of this duration."""
BETWEEN_SEGMENTS_S = 0.0005
"""Written without a pause, the kernel would join them again."""
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: closing sends RST instead of FIN."""


@dataclass(eq=False, slots=True)
class Way:
    """What happens to bytes of one direction."""

    latency_s: float = 0.0
    bytes_per_s: float | None = None
    """Of each connection; None: as fast as it goes."""
    segment_bytes: int | None = None
    """Every write is at most this large."""
    limit_bytes: int | None = None
    """How many more bytes pass, over all connections; the connection that reaches it ends as ``at_limit`` says."""
    at_limit: Literal["close", "reset"] = "reset"
    passed_bytes: int = 0
    """Counted by the proxy."""
    flowing: asyncio.Event = field(default_factory=asyncio.Event)
    """Cleared by `Proxy.stall`: nothing is read and nothing written, the sockets stay."""


class Network:
    """The thread all proxies run in. Use as a context manager."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="network", daemon=True)
        self._proxies: list[Proxy] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for proxy in self._proxies:
            proxy.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def proxy(self, *targets: Target) -> Proxy:
        """A new proxy on a free loopback port. With several targets each connection goes to the next that accepts."""
        proxy = Proxy(self, targets)
        self._proxies.append(proxy)
        proxy.accept()
        return proxy

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run in the network's thread and wait for the result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


class Proxy:
    """See the module. Made by `Network.proxy`, which also closes it."""

    def __init__(self, network: Network, targets: Sequence[Target]) -> None:
        self.targets = list(targets)
        """May be changed at any time; holds for new connections."""
        self.tap: Tap | None = None
        self.port = free_port()
        self._network = network
        self._turn = 0
        self._listener: socket.socket | None = None
        self._connections: dict[Connection, asyncio.Task[None]] = {}
        self.up, self.down = Way(), Way()
        self.resume()

    @property
    def connections(self) -> int:
        """How many are open, both their ends."""
        return len(self._connections)

    def accept(self) -> None:
        """Listen; on the same port again after `refuse`."""
        self._network.run(self._accept())

    def refuse(self) -> None:
        """Stop listening: who connects is refused. What is open stays open."""
        self._network.run(self._refuse())

    def stall(self, *ways: Way) -> None:
        """Pass nothing on, in both ways unless told which; new connections are accepted and hang."""
        self._network.run(_clear(ways or (self.up, self.down)))

    def resume(self, *ways: Way) -> None:
        """Let it flow again."""
        self._network.run(_set(ways or (self.up, self.down)))

    def half_close(self, way: Way) -> None:
        """Send FIN to where ``way`` leads, on every connection; the other way goes on."""
        self._network.run(self._for_each(lambda connection: connection.half_close(way)))

    def reset(self) -> None:
        """End every connection with RST at both ends."""
        self._network.run(self._end_all(reset=True))

    def hang_up(self) -> None:
        """End every connection with FIN at both ends."""
        self._network.run(self._end_all(reset=False))

    def cut(self) -> None:
        """Refuse, and reset what is open: the target is gone."""
        self.refuse()
        self.reset()

    def heal(self) -> None:
        """As new: accepting, flowing, without delay or limit."""
        for way in (self.up, self.down):
            way.latency_s, way.bytes_per_s, way.segment_bytes, way.limit_bytes = 0.0, None, None, None
        self.tap = None
        self.resume()
        self.accept()

    def close(self) -> None:
        """End for good."""
        self.cut()

    async def _accept(self) -> None:
        if self._listener is not None:
            return
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(1024)
        self._listener = listener
        asyncio.get_running_loop().add_reader(listener, self._take_in, listener)

    async def _refuse(self) -> None:
        if self._listener is None:
            return
        self._take_in(self._listener)  # they were let in before
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.close()
        self._listener = None

    def _take_in(self, listener: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                client, _ = listener.accept()
                connection = Connection(self, client)
                task = asyncio.create_task(connection.run(), name=f"connection of proxy {self.port}")
                self._connections[connection] = task
                task.add_done_callback(functools.partial(self._forget, connection))

    def _forget(self, connection: Connection, _: asyncio.Task[None]) -> None:
        del self._connections[connection]
        connection.close()

    def in_turn(self) -> list[Target]:
        """The targets, beginning with the one whose turn it is."""
        self._turn += 1
        first = self._turn % max(1, len(self.targets))
        return self.targets[first:] + self.targets[:first]

    async def _for_each(self, act: Callable[[Connection], None]) -> None:
        for connection in list(self._connections):
            act(connection)

    async def _end_all(self, *, reset: bool) -> None:
        ending = dict(self._connections)
        for connection, task in ending.items():
            connection.reset = reset
            task.cancel()
        if ending:
            await asyncio.wait(ending.values())


class Connection:
    """A client's socket, the target's, and what is between them. ``notes`` is for taps."""

    def __init__(self, proxy: Proxy, client: socket.socket) -> None:
        self.notes: set[str] = set()
        self.reset = False
        self._proxy = proxy
        self._client = client
        self._target: socket.socket | None = None

    async def run(self) -> None:
        """Pass bytes until both ways are through, one end fails, or the proxy ends it."""
        try:
            self._client.setblocking(False)
            target = await self._connect()
            for one in (self._client, target):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass(self._proxy.up, self._client, target))
                both.create_task(self._pass(self._proxy.down, target, self._client))
        except* OSError:
            self.reset = True  # what one end did to us the other gets too
        except* _AtLimit:
            pass

    async def _connect(self) -> socket.socket:
        refused: OSError = ConnectionRefusedError("no target")
        for address in self._proxy.in_turn():
            self._target = socket.socket()
            self._target.setblocking(False)
            try:
                await asyncio.get_running_loop().sock_connect(self._target, address)
            except OSError as error:
                self._target.close()
                refused = error
            else:
                return self._target
        raise refused

    def close(self) -> None:
        """Close both sockets: in order, or with RST when ``reset`` is set."""
        for one in (self._client, self._target):
            if one is None:
                continue
            if self.reset:
                with contextlib.suppress(OSError):
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            one.close()

    def half_close(self, way: Way) -> None:
        """FIN to where ``way`` leads."""
        sink = self._target if way is self._proxy.up else self._client
        if sink is not None:
            with contextlib.suppress(OSError):
                sink.shutdown(socket.SHUT_WR)

    async def _pass(self, way: Way, source: socket.socket, sink: socket.socket) -> None:
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(QUEUED_PIECES)
        async with asyncio.TaskGroup() as both:
            both.create_task(self._read(way, source, queue))
            both.create_task(self._write(way, sink, queue))

    async def _read(self, way: Way, source: socket.socket, queue: asyncio.Queue[tuple[float, bytes]]) -> None:
        loop = asyncio.get_running_loop()
        data = b"first"
        while data:
            await way.flowing.wait()
            data = await loop.sock_recv(source, _piece_bytes(way))
            await queue.put((loop.time() + way.latency_s, data))

    async def _write(self, way: Way, sink: socket.socket, queue: asyncio.Queue[tuple[float, bytes]]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, data = await queue.get()
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            await way.flowing.wait()
            if not data:
                with contextlib.suppress(OSError):  # a half-closed one is shut already
                    sink.shutdown(socket.SHUT_WR)
                return
            if self._proxy.tap is not None and not self._proxy.tap(self, way, data):
                self.reset = True
                raise _AtLimit
            for piece in _pieces(way, data):
                with contextlib.suppress(BrokenPipeError):  # half-closed by us: what still comes has nowhere to go
                    await loop.sock_sendall(sink, piece)
                way.passed_bytes += len(piece)
                await asyncio.sleep(_pause_s(way, piece))
            if way.limit_bytes == 0:
                self.reset = way.at_limit == "reset"
                raise _AtLimit


class _AtLimit(Exception):
    """This connection is to end here."""


def _pieces(way: Way, data: bytes) -> Iterator[bytes]:
    if way.limit_bytes is not None:
        data = data[: way.limit_bytes]
        way.limit_bytes -= len(data)
    size = _piece_bytes(way)
    for at in range(0, len(data), size):
        yield data[at : at + size]


def _piece_bytes(way: Way) -> int:
    rate = READ_BYTES if way.bytes_per_s is None else int(way.bytes_per_s * PIECE_S)
    return max(1, min(rate, way.segment_bytes or READ_BYTES, READ_BYTES))


def _pause_s(way: Way, piece: bytes) -> float:
    if way.bytes_per_s is not None:
        return len(piece) / way.bytes_per_s
    return 0.0 if way.segment_bytes is None else BETWEEN_SEGMENTS_S


async def _set(ways: Sequence[Way]) -> None:
    for way in ways:
        way.flowing.set()


async def _clear(ways: Sequence[Way]) -> None:
    for way in ways:
        way.flowing.clear()
