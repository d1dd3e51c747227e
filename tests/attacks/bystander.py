"""Two honest clients in a room beside the attacked one, who write when asked: what an attack must not disturb.

Blocking, for tests of raw sockets and for fixtures of any. Where the longest pause counts, `control.ControlRoom` types
all the time instead.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from websockets.sync.client import ClientConnection, connect

from collab.protocol.yjs import scan_update
from tests.support import wire
from tests.unit.engine.histories import inserted

if TYPE_CHECKING:
    from tests.support.server import RunningServer

PATIENCE_SECONDS = 30.0
CLIENT = 4343
_TROUBLE = ("Traceback (most recent call last)", "panicked at", "[error", '"level": "error"')
"""What a log shows of a mistake of the server's."""


class Bystander:
    """An author and a reader of one document of a running server; a context manager."""

    def __init__(self, server: RunningServer, *, document: str = "beside", token: str | None = None) -> None:
        self._server = server
        self._pid = server.pid
        self._url = f"{server.ws_url}/{document}:{os.urandom(4).hex()}" + (f"?token={token}" if token else "")
        self._clock = 0
        self._looked_at = len(server.output)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._author, self._reader = self._enter(), self._enter()
        self._author.send(wire.step2(b"\x00\x00"))  # it brings nothing, so that it can be told that all is committed
        self.unharmed()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _enter(self) -> ClientConnection:
        # No pings: they draw random bytes in a thread, for as long as the run, and hypothesis takes that for its own.
        connecting = connect(self._url, max_size=None, compression=None, proxy=None, max_queue=None, ping_interval=None)
        socket = self._stack.enter_context(connecting)
        socket.send(wire.step1())
        return socket

    def unharmed(self, *, log_may_hold_trouble: bool = False) -> None:
        """Fail unless one more keystroke is shown and committed, by the process that was there at the beginning, and
        the log holds no traceback since the last call."""
        update = inserted("x", client=CLIENT, clock=self._clock)
        self._author.send(wire.update(update))
        # Who asks is told at once when it is committed; who does not is shown its own update a little later.
        self._author.send(wire.status(self._clock + 1))
        _until_seen(self._reader, self._clock)
        self._clock += 1
        _until_committed(self._author, self._clock)
        os.kill(self._pid, 0)
        assert self._server.pid == self._pid
        log = self._server.output
        said, self._looked_at = log[self._looked_at :], len(log)
        if not log_may_hold_trouble:
            assert not [trouble for trouble in _TROUBLE if trouble in said], said[-4000:]


def _until_committed(socket: ClientConnection, version: int) -> None:
    while True:
        for kind, _, payload in wire.messages(socket.recv(PATIENCE_SECONDS, decode=False)):
            if (kind, payload) == (wire.SYNC_STATUS, wire.varuint(version)):
                return


def _until_seen(socket: ClientConnection, clock: int) -> None:
    while True:
        for kind, sub, payload in wire.messages(socket.recv(PATIENCE_SECONDS, decode=False)):
            if kind == wire.SYNC and sub != wire.STEP1:
                ranges = scan_update(payload).ranges.get(CLIENT, ())
                if any(start <= clock < end for start, end in ranges):
                    return
