"""Runs one node under uvicorn, with our protocol classes and a shutdown that saves first.

By itself uvicorn closes every socket before the application hears of a SIGTERM. Here the node first stops taking
sessions, saves what it has, tells its clients to come back, and only then lets uvicorn close what is left.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from collab.server.app import Collab
from collab.server.direct import Terms
from collab.server.front import Deadlines, front
from collab.server.logs import set_up

if TYPE_CHECKING:
    from collab.settings import Settings

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of glibc's ``mallopt``."""
LARGE_BUFFER_BYTES = 256 * 1024


class DrainingServer(uvicorn.Server):
    """A uvicorn server that drains its node before it closes anything, and answers machines meanwhile."""

    def __init__(self, config: uvicorn.Config, node: Collab) -> None:
        super().__init__(config)
        self._node = node
        self.saved = True
        self.machine_port: int | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Take `metrics_port` first, so that a port in use is found before anything is opened."""
        port = self._node.settings.metrics_port
        if port is None:
            await super().startup(sockets)
            return
        config = _machine_config(self._node, port)
        listening = config.bind_socket()
        self.machine_port = listening.getsockname()[1]
        await super().startup(sockets)
        loop = asyncio.get_running_loop()
        self.servers.append(await loop.create_server(lambda: self._for_machines(config), sock=listening))

    def _for_machines(self, config: uvicorn.Config) -> HttpToolsProtocol:
        return HttpToolsProtocol(config=config, server_state=self.server_state, app_state={})

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Save, say goodbye, then do what uvicorn does. A second signal cuts the waiting short."""
        drain = asyncio.create_task(self._node.drain(), name="drain")
        while not drain.done() and not self.force_exit:
            await asyncio.wait((drain,), timeout=0.1)
        if drain.done():
            self.saved = drain.result()
        else:
            self.saved = False
            drain.cancel()
        await super().shutdown(sockets)
        # uvicorn would raise the signal again, and the status would say "killed" of a node that saved everything.
        self._captured_signals.clear()


def _spare_the_garbage_collector() -> None:
    """Look for cycles rarely, and never in what start-up made: rooms and sessions live long and hold few of them.

    So rarely that a look at the young, half a millisecond, or the middle-aged, some ten, comes only with thousands of
    new objects that stay; often enough that a closed room, a cycle of 11 KiB, is not kept with ten thousand others:
    an hour in which 54,200 came and went took 202 MiB (`python -m benchmarks.soak`).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 5, 2)


def _take_all_descriptors() -> None:
    """Raise the soft limit of open files to the hard one: it is 1,024 in most shells, and a session is a file."""
    try:
        import resource
    except ImportError:  # not on Windows
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _give_large_buffers_back() -> None:
    """Keep glibc from what it does when the first large buffer is freed: raise the size from which a buffer is given
    back, to that of the one freed. A node that once took a 16 MiB frame would stay that much larger."""
    with suppress(OSError, AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, LARGE_BUFFER_BYTES)
        mallopt(M_TRIM_THRESHOLD, 16 * LARGE_BUFFER_BYTES)


def _config(node: Collab) -> uvicorn.Config:
    settings = node.settings
    config = uvicorn.Config(
        node.app,
        host=settings.host,
        port=settings.port,
        ws="websockets-sansio",
        ws_max_size=settings.max_frame_bytes_before_auth,
        ws_per_message_deflate=False,
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=5,
        forwarded_allow_ips=list(settings.trusted_proxies),
    )
    config.http = front(
        node.endpoint,
        somebody_came=node.hub.door.somebody_came,
        timed_out=lambda: node.hub.counters.limits.add("request"),
        terms=Terms(
            max_frame_bytes=settings.max_frame_bytes,
            outbox_bytes=settings.outbox_bytes,
            bytes_before_served=settings.max_frame_bytes_before_auth,
        ),
        deadlines=Deadlines(head=settings.request_head_s, body=settings.request_body_s),
        trusted=list(settings.trusted_proxies),
    )
    return config


def _machine_config(node: Collab, port: int) -> uvicorn.Config:
    config = uvicorn.Config(
        node.machine_app(), host=node.settings.host, port=port, access_log=False, log_config=None, server_header=False
    )
    config.load()
    return config


def serve(settings: Settings) -> bool:
    """Run until a signal comes; True when everything was saved by the end."""
    set_up(settings.log_level, settings.log_format)
    node = Collab(settings)
    server = DrainingServer(_config(node), node)
    _take_all_descriptors()
    _spare_the_garbage_collector()
    _give_large_buffers_back()
    server.run()
    return server.started and server.saved
