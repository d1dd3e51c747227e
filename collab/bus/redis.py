"""The bus over Redis pub/sub: nodes on many machines, one Redis between them.

Best effort, as the port says: Redis keeps nothing for who is not there. Whatever may have been missed (a lost
connection, a full output buffer in Redis, a subscription that came late) ends in ``lost`` for each subscription, and
whoever called decides what to do. Redis is never waited for: it may be down at the start and for as long as it likes.

The only module that imports redis-py: it reads the URL, opens connections and lets itself in; what follows is `Link`'s.
redis-py's own PubSub reconnects and resubscribes without a word, and what was published meanwhile is gone unnoticed.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError

from collab.bus import envelope as envelopes
from collab.bus.channels import Names
from collab.bus.link import PLAIN, SHARDED, Link, Pace
from collab.bus.outgoing import Bounds, Outgoing
from collab.bus.port import Envelope, Kind
from collab.bus.wire import command
from collab.errors import MalformedMessage, Misuse, Unavailable

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator, Callable

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class BusCounters:
    """What the bus has done so far; metrics read it."""

    published: int = 0
    """Envelopes that Redis took."""
    received: int = 0
    """Good envelopes of other nodes."""
    bad_envelopes: int = 0
    reconnects: int = 0


@dataclass(frozen=True, slots=True)
class RedisTimes:
    """Seconds."""

    command: float = 2.0
    """Longest wait for an answer of Redis, while connecting and after."""
    patience: float = 1.0
    """Longest wait of `RedisBus.start` and `RedisBus.subscribe`."""
    beat_every: float = 2.0
    silent_after: float = 6.0
    """A heartbeat that has not come round by then means that Redis hears us or we hear Redis, but not both."""
    retry_after: float = 0.1
    """First wait between attempts to connect; doubles, with jitter."""
    retry_after_at_most: float = 2.0
    settled_after: float = 10.0
    """A link that lasted longer has earned a quick first attempt; otherwise the waits go on growing."""
    flush: float = 2.0
    """Longest wait of `RedisBus.close` for what was published."""


class RedisBus:
    """`collab.bus.port.Bus` for one node. Await `start` first and `close` last, in one event loop.

    ``url`` is redis://, rediss:// or unix://; raises `Misuse` when it cannot be used. ``node`` is unlike every other
    node's. All nodes of a deployment use the same ``prefix``, ``sharded`` and ``secret``, and no other deployment on
    that Redis the same prefix. ``sharded`` speaks SPUBLISH and SSUBSCRIBE (Redis 7) to this one server.
    """

    shared = True

    def __init__(
        self,
        url: str,
        *,
        node: str,
        rng: random.Random,
        prefix: str = "collab",
        sharded: bool = False,
        secret: bytes | None = None,
        bounds: Bounds = Bounds(),  # noqa: B008
        times: RedisTimes = RedisTimes(),
        quiet: bool = False,
    ) -> None:
        """With ``quiet`` outages are not logged; `trouble` tells of them all the same."""
        self.counters = BusCounters()
        self.trouble: str | None = None
        """Why it is not connected, as far as is known; never holds the password."""
        self._pool: Any = _pool(url, times.command)
        self._names = Names(prefix)
        self._words = SHARDED if sharded else PLAIN
        self._secret = secret
        self._times = times
        self._quiet = quiet
        self._rng = rng
        self._own = envelopes.head(node)
        self._node = node
        self._inbox = self._names.inbox(node)
        self._outgoing = Outgoing(bounds)
        self._ears: dict[str, _Ear] = {}
        self._channels: dict[bytes, _Ear] = {}
        self._link: Link | None = None
        self._task: asyncio.Task[None] | None = None
        self._decided = asyncio.Event()
        self._open = False
        self._has_been_up = False
        self._down_since: float | None = None
        self._bad_logged_at = float("-inf")

    @property
    def connected(self) -> bool:
        """See `Bus.connected`."""
        return self._link is not None and self._link.is_up

    @property
    def dropped(self) -> int:
        """Envelopes given up because too many waited, or because they waited too long."""
        return self._outgoing.dropped

    async def start(self) -> None:
        """See `Bus.start`. Returns when the first attempt has succeeded or failed, or after a short wait."""
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._run(), name="bus")
        self._open = True
        await _patiently(self._decided, self._times.patience)

    async def subscribe(self, document: str, receive: Callable[[Envelope], None], lost: Callable[[], None]) -> _Ear:
        """See `Bus.subscribe`. ``receive`` may be called before this returns."""
        if document in self._ears:
            raise Misuse(f"{document} is subscribed to already")
        ear = _Ear(self, document, self._names.document(document), receive, lost)
        self._ears[document] = self._channels[ear.channel] = ear
        if self._link is not None and self._link.is_up:
            self._link.want(ear.channel)
            if self._link.channels.hears(ear.channel):
                ear.heard.set()
        try:
            await _patiently(ear.heard, self._times.patience)
        except BaseException:
            self.forget(ear)
            raise
        ear.waiting = False
        return ear

    def publish(self, envelope: Envelope, *, to: str | None = None) -> None:
        """See `Bus.publish`."""
        if not self._open or to == self._node:
            return
        if to is None:
            ear = self._ears.get(envelope.document)
            channel = ear.channel if ear is not None else self._names.document(envelope.document)
        else:
            channel = self._names.inbox(to)
        data = envelopes.pack(envelope, self._secret)
        self._outgoing.add(command(self._words.publish, channel, data), self._loop.time())
        if self._link is not None:
            self._link.nudge()

    async def close(self) -> None:
        """See `Bus.close`. Safe to call twice."""
        self._open = False
        if self._link is not None and self._link.is_up:
            waits = (self._link.idle(), self._link.over)
            await asyncio.wait(waits, timeout=self._times.flush, return_when=asyncio.FIRST_COMPLETED)
        self._ears.clear()
        self._channels.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    # what a link tells, see `collab.bus.link.Listener`

    def link_up(self) -> None:
        """Subscribe to everything anew."""
        assert self._link is not None  # noqa: S101 - it is the link that calls
        for channel in self._channels:
            self._link.want(channel)
        self.counters.reconnects += self._has_been_up
        self._has_been_up = True
        if self._down_since is not None and not self._quiet:
            log.info("bus_recovered", after_s=round(self._loop.time() - self._down_since, 3))
        self._down_since = self.trouble = None
        self._decided.set()

    def heard(self, data: bytes) -> None:
        """Hand an envelope to whoever listens. Hot path; what this node said itself comes back too."""
        if data.startswith(self._own):
            return
        try:
            envelope = envelopes.unpack(data, self._secret)
        except MalformedMessage as error:
            self._refuse(error)
            return
        self.counters.received += 1
        ear = self._ears.get(envelope.document)
        if ear is not None:
            _call(ear.receive, envelope)

    def in_force(self, channel: bytes) -> None:
        """Whoever did not wait for this moment may have missed something."""
        ear = self._channels.get(channel)
        if ear is None:
            return
        if ear.waiting:
            ear.heard.set()
        else:
            _call(ear.lost)

    def published(self, count: int) -> None:
        """Count."""
        self.counters.published += count

    def _refuse(self, error: MalformedMessage) -> None:
        self.counters.bad_envelopes += 1
        if self._loop.time() - self._bad_logged_at > 60.0:  # a stranger on the bus must not fill the log
            self._bad_logged_at = self._loop.time()
            log.warning("bad_envelope", error=str(error), so_far=self.counters.bad_envelopes)

    # keeping a link

    async def _run(self) -> None:
        attempts = 0
        while True:
            began = self._loop.time()
            try:
                reason = await self._live()
            except (RedisError, OSError) as error:
                reason = f"{type(error).__name__}: {error}"
            except Exception as error:  # a mistake of our own, or of redis-py: even so, never give up
                log.exception("bus_failed")
                reason = f"{type(error).__name__}: {error}"
            attempts = 0 if self._loop.time() - began > self._times.settled_after else attempts + 1
            self._note_outage(reason)
            await asyncio.sleep(self._retry_after(attempts))

    async def _live(self) -> str:
        """Connect, and return why it ended."""
        async with self._connection() as hearing, self._connection() as speaking:
            pace = Pace(self._times.command, self._times.beat_every, self._times.silent_after)
            beat = b"\0" + self._rng.randbytes(8)
            link = Link(self, self._outgoing, words=self._words, inbox=self._inbox, beat=beat, pace=pace)
            self._link = link
            try:
                link.start(hearing, speaking)
                while not link.over.done():
                    await asyncio.wait((link.over,), timeout=self._times.beat_every / 4)
                    link.check()
                return link.over.result()
            finally:
                link.fail("closed")

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[asyncio.Transport]:
        """The transport of an authenticated connection that nobody reads."""
        connection = self._pool.make_connection()
        try:
            try:
                await connection.connect()
            except RuntimeError as error:  # uvloop's word for a transport that was closed between two steps of it
                raise ConnectionError(str(error)) from error
            # Not public, but called so in every redis-py from 5.2 to 8.1 (tried); where it is not, every test fails.
            yield connection._writer.transport
        finally:
            await connection.disconnect(nowait=True)

    def _retry_after(self, attempts: int) -> float:
        most = min(self._times.retry_after_at_most, self._times.retry_after * 2 ** min(attempts + 1, 16))
        return self._rng.uniform(self._times.retry_after, most)

    def _note_outage(self, reason: str) -> None:
        self.trouble = reason
        self._decided.set()
        if self._down_since is None:
            self._down_since = self._loop.time()
            if not self._quiet:
                log.warning("bus_lost", error=reason)

    def forget(self, ear: _Ear) -> None:
        """Hear nothing more through ``ear``."""
        if self._ears.get(ear.document) is ear:
            del self._ears[ear.document], self._channels[ear.channel]
            if self._link is not None:
                self._link.release(ear.channel)


class _Ear:
    """A `collab.bus.port.Subscription`."""

    __slots__ = ("_bus", "channel", "document", "heard", "lost", "receive", "waiting")

    def __init__(
        self,
        bus: RedisBus,
        document: str,
        channel: bytes,
        receive: Callable[[Envelope], None],
        lost: Callable[[], None],
    ) -> None:
        self._bus = bus
        self.document = document
        self.channel = channel
        self.receive = receive
        self.lost = lost
        self.heard = asyncio.Event()
        """Set when it is in force, for whoever waits."""
        self.waiting = True
        """Whether somebody waits for it to be in force for the first time; then nothing was missed before."""

    async def close(self) -> None:
        """See `Subscription.close`."""
        self._bus.forget(self)


async def try_out(
    url: str, *, node: str, rng: random.Random, prefix: str, sharded: bool, secret: bytes | None, patience: float = 5.0
) -> float:
    """Send an envelope from one node to another and return how many seconds it took, for `collab doctor`.

    ``node`` begins the names of both nodes. Raises `Misuse` and `Unavailable`.
    """
    options: dict[str, Any] = {"rng": rng, "prefix": prefix, "sharded": sharded, "secret": secret}
    options |= {"times": RedisTimes(patience=patience), "quiet": True}
    ours, theirs = (RedisBus(url, node=f"{node}-{which}", **options) for which in (1, 2))
    came = asyncio.Event()
    try:
        for bus in (ours, theirs):
            await bus.start()
            if not bus.connected:
                raise Unavailable(bus.trouble or "Redis does not answer")
        await theirs.subscribe(node, lambda _: came.set(), lambda: None)
        began = time.perf_counter()
        ours.publish(Envelope(node, f"{node}-1", 1, 1, Kind.ALIVE, b""))
        await _patiently(came, patience)
        if not came.is_set():
            raise Unavailable(theirs.trouble or ours.trouble or "what one node publishes does not reach another")
        return time.perf_counter() - began
    finally:
        await ours.close()
        await theirs.close()


def _pool(url: str, timeout: float) -> Any:
    try:
        pool: Any = ConnectionPool.from_url(url, protocol=2, socket_timeout=timeout, socket_connect_timeout=timeout)
        pool.make_connection()
    except (ValueError, TypeError, RedisError):
        # What redis-py says may quote the URL, and with it the password.
        raise Misuse("a Redis URL is redis://, rediss:// or unix:// with options that redis-py knows") from None
    return pool


def _call(callback: Callable[..., None], *arguments: object) -> None:
    try:
        callback(*arguments)
    except Exception:  # it must not raise; if it does all the same, the bus works on for everybody else
        log.exception("bus_callback_failed")


async def _patiently(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
