"""Rows of the matrix about clients and clocks: half open, slow, far away, cut in mid-frame, long away, out of order."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path

from pycrdt import Doc, Text
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.faults.load import Room, quantile
from tests.faults.matrix import NotRun, Run, fault
from tests.faults.raw import dependent, message, raw, saved
from tests.faults.rows_database import reading
from tests.faults.rows_rooms import OFTEN
from tests.support import wire
from tests.support.checker import Submitted, lost, text_of, unequal
from tests.support.cluster import Cluster, Node, until
from tests.support.proxy import Proxy

FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
"""Where Debian's package libfaketime puts it."""
HOUR, MINUTE = 3600, 60
BULK_BYTES = 300_000
"""Typed at once by the author of a busy room: soon enough to fill every buffer on the way to a reader."""
GUEST = 77
"""Number of clients that are not typists."""


@fault(
    "F32", "one node's clock jumps +1 h, -1 h; then 5 min of skew", "disconnects 0; presence stays; C1 (libfaketime)"
)
async def clock_jumps(run: Run) -> None:
    if not FAKETIME.exists():
        raise NotRun("libfaketime is not installed")
    clock = Path(f"/tmp/clock-{run.rng.getrandbits(40):x}")
    clock.write_text("+0s")
    faked = {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    try:
        async with run.loaded(cluster={"node_env": {0: faked}}) as (cluster, load):
            since = time.monotonic()
            await load.present()
            for offset in (HOUR, -HOUR, 5 * MINUTE):
                clock.write_text(f"{offset:+d}s")
                await until(partial(_runs_ahead, cluster, offset), "the node's clock does not jump")
                await load.editing_again()
                await asyncio.sleep(run.seconds(35.0, 5.0))
                run.measure(**{f"presence_right_at_{offset:+d}_s_after": await load.present()})
                run.done += 1
            run.require(not load.losses(since), f"the server ended connections: {load.losses(since)}")
    finally:
        clock.unlink()


async def _runs_ahead(cluster: Cluster, seconds: int) -> bool:
    response = await cluster.nodes[0].get("/livez")
    ahead = parsedate_to_datetime(response.headers["date"]).timestamp() - time.time()
    return abs(ahead - seconds) < MINUTE


@contextlib.asynccontextmanager
async def guest(proxy: Proxy, document: str) -> AsyncIterator[ClientConnection]:
    """A raw client that is in the room and seen by everybody."""
    url = f"ws://127.0.0.1:{proxy.port}/yjs/{document}"
    async with connect(url, compression=None, ping_interval=None, proxy=None, close_timeout=1) as socket:
        await socket.send(wire.step1())
        await socket.send(wire.awareness((GUEST, 1, '{"user":{"name":"guest"}}')))
        yield socket


@fault("F49", "one stock client alone in a room, idle", "disconnects 0; it hears something at least every 20 s")
async def idle_client(run: Run) -> None:
    async with run.cluster() as cluster:
        client = await run.oracle.open(cluster.front_url, "alone", presence={"user": {"name": "alone"}})
        await client.synced()
        heard, heard_at = 0, time.monotonic()
        silences: list[float] = []
        ends = heard_at + run.seconds(600.0, 45.0)
        while time.monotonic() < ends:
            await asyncio.sleep(0.5)
            count = await client.get("log.received.length")
            if count > heard:
                silences.append(time.monotonic() - heard_at)
                heard, heard_at = count, time.monotonic()
        closes = await client.get("log.closes")
        run.require(not closes, f"it was closed: {closes}")
        run.measure(silences=silences)
        run.within(max(silences), 20.0, "silence")
        await client.close()
        run.done += 1


@fault(
    "F33", "a client vanishes without a word (half-open TCP)", "presence gone <= 45 s; socket freed <= 60 s", rounds=2
)
async def half_open(run: Run) -> None:
    unseen: list[float] = []
    freed: list[float] = []
    async with run.loaded(rooms=4) as (cluster, load):
        for number in range(run.rounds):
            node, room = cluster.nodes[number % len(cluster.nodes)], load.rooms[0]
            path = cluster.network.proxy(("127.0.0.1", node.server.port))
            before = await node.metric("collab_connections")
            async with guest(path, room.document):
                await until(partial(_guest_seen, room), "nobody sees the guest")
                path.stall()
                since = time.monotonic()
                await until(partial(_guest_gone, room), "a ghost stays")
                unseen.append(time.monotonic() - since)
                await until(partial(_connections, node, before), "the socket stays open")
                freed.append(time.monotonic() - since)
                path.reset()
            run.done += 1
    run.measure(presence_gone_after=unseen, socket_freed_after=freed)
    run.within(max(unseen), 45.0, "presence gone")
    run.within(max(freed), 60.0, "socket freed")


def _guest_seen(room: Room) -> bool:
    return all(GUEST in typist.sees for typist in room.typists)


def _guest_gone(room: Room) -> bool:
    return all(GUEST not in typist.sees for typist in room.typists)


async def _connections(node: Node, most: float) -> bool:
    return await node.metric("collab_connections") <= most


@fault("F36", "five readers of a busy room read nothing", "memory <= 2 MiB each; others' p99 <= 2x; they catch up")
async def slow_readers(run: Run) -> None:
    count, seconds = 5, run.seconds(15.0, 8.0)  # the server's ping after 20 s is answered before its 40 s are over
    async with run.loaded() as (cluster, load):
        node = cluster.nodes[0]
        document = f"busy:{run.rng.getrandbits(40):x}"
        await node.create(document, reading("start;"))
        async with contextlib.AsyncExitStack() as stay:
            path = cluster.network.proxy(("127.0.0.1", node.server.port))
            readers = [await stay.enter_async_context(_reader(path, document)) for _ in range(count)]
            # What a busy room costs by itself, first. Its memory rises and falls by tens of MiB: peaks are compared.
            usual_from = time.monotonic()
            _, usual_peak = await _busy(cluster, document, seconds)
            diffs = await node.metric("collab_slow_reader_diffs_total")
            path.stall(path.down)
            since = time.monotonic()
            written, peak = await _busy(cluster, document, seconds)
            ended = time.monotonic()
            grown = max(0, peak - usual_peak)
            usual, meanwhile = load.latencies(usual_from, since), load.latencies(since, ended)
            path.resume()
            wanted = text_of(await node.replica(document))
            await until(lambda: all(reader.text == wanted for reader in readers), "a slow reader does not catch up")
            caught_up = await node.metric("collab_slow_reader_diffs_total") - diffs
            run.require(caught_up >= count, f"only {caught_up:.0f} readers were behind: the room was not busy enough")
            run.measure(written=f"{written >> 20} MiB", grown=f"{grown >> 20} MiB for {count} readers")
            run.measure(others_usually=usual, others_meanwhile=meanwhile)
            run.require(grown <= count * (2 << 20) + (8 << 20), f"{grown >> 20} MiB for {count} slow readers")
            run.within(quantile(meanwhile, 0.99), max(0.2, 2 * quantile(usual, 0.99)), "others' edit to saved, p99")
            run.done += 1


class _Reader:
    def __init__(self) -> None:
        self._document: Doc[Text] = Doc()
        self._text = self._document.get("t", type=Text)

    @property
    def text(self) -> str:
        return str(self._text)

    async def read(self, socket: ClientConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for frame in socket:
                assert isinstance(frame, bytes)
                for kind, sub, payload in wire.messages(frame):
                    if kind == wire.SYNC and sub != wire.STEP1:
                        self._document.apply_update(payload)


@contextlib.asynccontextmanager
async def _reader(path: Proxy, document: str) -> AsyncIterator[_Reader]:
    url = f"ws://127.0.0.1:{path.port}/yjs/{document}"
    async with connect(url, compression=None, ping_interval=None, proxy=None, max_size=None, max_queue=4) as socket:
        await socket.send(wire.step1())
        reader = _Reader()
        task = asyncio.create_task(reader.read(socket), name="slow reader")
        try:
            yield reader
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _busy(cluster: Cluster, document: str, seconds: float) -> tuple[int, int]:
    """Type and delete `BULK_BYTES` ten times a second; how many bytes that was, and the most memory the node took."""
    made: Doc[Text] = Doc()
    text = made.get("t", type=Text)
    written: list[bytes] = []
    subscription = made.observe(lambda event: written.append(event.update))
    url = f"{cluster.nodes[0].server.ws_url}/{document}"
    total = peak = 0
    async with connect(url, compression=None, proxy=None, max_size=None) as socket:
        reading_on = asyncio.create_task(_discard(socket), name="author")
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            text.insert(0, "x" * BULK_BYTES)
            del text[0:BULK_BYTES]
            for update in written:
                await socket.send(wire.update(update))
                total += len(update)
            written.clear()
            await asyncio.sleep(0.1)
            peak = max(peak, cluster.nodes[0].rss_bytes())
        reading_on.cancel()
        await asyncio.gather(reading_on, return_exceptions=True)
    made.unobserve(subscription)
    return total, peak


async def _discard(socket: ClientConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        while True:
            await socket.recv()


@fault("F37", "clients far away: 300 ms, 64 kbit/s, 5 % of the time nothing", "disconnects 0; C2")
async def far_away(run: Run) -> None:
    async with run.loaded(within_s=15.0, typists=2, rate=2.0) as (cluster, load):
        since = time.monotonic()
        for path in (cluster.front, cluster.nodes[0].door):
            for way in (path.up, path.down):
                way.latency_s, way.bytes_per_s = 0.3, 8000
        ends = time.monotonic() + run.seconds(600.0, 20.0)
        while time.monotonic() < ends:
            await asyncio.sleep(9.5)
            for path in (cluster.front, cluster.nodes[0].door):
                path.stall()
            await asyncio.sleep(0.5)
            for path in (cluster.front, cluster.nodes[0].door):
                path.resume()
        run.require(not load.losses(since), f"connections ended: {load.losses(since)}")
        closes = [await client.get("log.closes") for room in load.rooms for client in room.stock]
        run.require(not any(closes), f"stock clients were closed: {closes}")
        run.done += 1


@fault(
    "F38",
    "frames in segments of one byte; frames cut in the middle",
    "all or nothing of each; sockets freed",
    rounds=20,
)
async def torn_frames(run: Run) -> None:
    async with run.loaded(rooms=4) as (cluster, load):
        node, room = cluster.nodes[0], load.rooms[0]
        before = await node.metric("collab_connections")
        whole = 0
        for number in range(run.rounds):
            path = cluster.network.proxy(("127.0.0.1", node.server.port))
            token = f"c{GUEST}.{number};"
            update = _typed(GUEST + number, token)
            async with raw(f"ws://127.0.0.1:{path.port}/yjs", room.document) as socket:
                path.up.segment_bytes = 1
                torn = number % 4 != 0
                if torn:
                    path.up.limit_bytes = run.rng.randrange(1, len(update) + 3)
                    path.up.at_limit = "reset" if number % 2 else "close"
                with contextlib.suppress(ConnectionClosed):
                    await socket.send(wire.update(update) + wire.status(1))
                    await saved(socket)
                    whole += 1
                    run.require(not torn, "a torn frame was acknowledged")
                    # A torn one is not noted: nothing of it may ever come, and a trace of it would be an invention.
                    room.history.submitted.append(Submitted(update, inserted=token, acknowledged="status"))
            path.close()
            run.done += 1
        await until(lambda: _connections(node, before), "a torn connection stays open")
        run.require(whole == (run.rounds + 3) // 4, f"{whole} of {(run.rounds + 3) // 4} sliced frames were taken")
        run.measure(torn=run.rounds - whole, sliced_and_saved=whole)


def _typed(client: int, token: str) -> bytes:
    made: Doc[Text] = Doc(client_id=client)
    made.get("t", type=Text).insert(0, token)
    return made.get_update()


@fault("F44", "a client returns with 5 MB typed offline; the document was folded meanwhile", "C1 for its edits")
async def offline_client_returns(run: Run) -> None:
    # Comparing megabytes takes a while by itself.
    async with run.loaded(within_s=15.0, rooms=2, rate=15.0, env=OFTEN) as (cluster, load):
        room = load.rooms[0]
        away: Doc[Text] = Doc(client_id=GUEST)
        away.apply_update(await cluster.nodes[0].replica(room.document))
        known = away.get_state()
        notes = away.get("offline", type=Text)
        for number in range(5000):
            notes.insert(0, f"{number};" + "x" * 1000)
        edits = away.get_update(known)
        folds = [await node.metric("collab_compactions_total") for node in cluster.nodes]
        await until(lambda: _folded_since(cluster, folds), "the document is not folded meanwhile")
        since = time.monotonic()
        url = f"{cluster.nodes[1].server.ws_url}/{room.document}"
        async with connect(url, compression=None, proxy=None, max_size=None) as socket:
            await socket.send(wire.step1(away.get_state()))
            await socket.send(wire.status(1))
            await _answer_and_await_status(socket, away)
        took = time.monotonic() - since
        entry = Submitted(edits, acknowledged="status")
        room.history.submitted.append(entry)
        missing = lost(await cluster.nodes[0].committed(room.document), [entry])
        run.require(not missing, f"what was typed offline is not all there: {missing}")
        run.measure(returned_with=f"{len(edits) / 1e6:.1f} MB", saved_after=took)
        run.done += 1


async def _folded_since(cluster: Cluster, folds: list[float]) -> bool:
    return sum([await node.metric("collab_compactions_total") for node in cluster.nodes]) > sum(folds) + 2


async def _answer_and_await_status(socket: ClientConnection, document: Doc[Text]) -> None:
    answered = False
    async with asyncio.timeout(60.0):
        while True:
            for kind, sub, payload in wire.messages(await socket.recv(decode=False)):
                if (kind, sub) == (wire.SYNC, wire.STEP1) and not answered:
                    await socket.send(wire.step2(document.get_update(payload)))
                    answered = True
                elif kind == wire.SYNC_STATUS and answered:
                    return


@fault(
    "F45",
    "an edit reaches one node before the edit it builds on reaches the other",
    "whole <= 2 s after; C1, C4",
    rounds=20,
)
async def out_of_order(run: Run) -> None:
    whole: list[float] = []
    async with run.cluster() as cluster:
        for number in range(run.rounds):
            document = f"tabs:{run.rng.getrandbits(40):x}"
            first, second = dependent(run.rng)
            one, other = cluster.nodes[number % 2], cluster.nodes[(number + 1) % 2]
            async with raw(other.server.ws_url, document) as late, raw(one.server.ws_url, document) as early:
                await late.send(wire.update(second) + wire.status(1))
                await message(late, wire.SYNC, wire.STEP1)  # it is asked for what is missing
                await early.send(wire.update(first) + wire.status(1))
                since = time.monotonic()
                await saved(early)
                await late.send(wire.step2(second))  # its answer, without which nothing is proved (SPEC K6)
                await saved(late)
                await until(partial(_both_read, cluster, document), "the edits do not come together")
                whole.append(time.monotonic() - since)
            kept = await cluster.nodes[0].committed(document)
            run.problems += lost(kept, [Submitted(update, acknowledged="status") for update in (first, second)])
            run.done += 1
    run.measure(whole_after=whole)
    run.within(max(whole), 2.0, "whole after the first edit came")


async def _both_read(cluster: Cluster, document: str) -> bool:
    copies = {str(node.number): await node.replica(document) for node in cluster.nodes}
    return all(text_of(copy) == "first second" for copy in copies.values()) and not unequal(copies)
