"""What the WebSocket endpoint and its two kinds of connection say to each other.

A connection (`direct.DirectProtocol` under our uvicorn protocol class, `asgi.AsgiConnection` under any other server)
is what the node writes to; the `Listener` is what it tells about frames, a slow reader and the end.
"""

from __future__ import annotations

from typing import Protocol

from collab.errors import CloseCode
from collab.node.outbox import Connection


class Listener(Protocol):
    """Hears what happens on one connection. Every method returns at once."""

    def on_frame(self, data: bytes) -> None:
        """A whole binary message."""
        ...

    def on_text(self) -> None:
        """A text message, which no dialect has."""
        ...

    def on_over_bound(self) -> None:
        """More waits to be sent than may."""
        ...

    def on_drained(self) -> None:
        """Little or nothing waits any more."""
        ...


class ServedConnection(Connection, Protocol):
    """A connection as the endpoint uses it: heard, then waited for."""

    @property
    def closed_with(self) -> CloseCode | None:
        """The code this side closed it with, if it did."""
        ...

    async def serve(self, listener: Listener) -> None:
        """Pass everything on to ``listener`` until the connection has ended."""
        ...
