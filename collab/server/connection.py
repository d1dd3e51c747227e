"""What the WebSocket endpoint and its two kinds of connection say to each other.

A connection (`direct.DirectProtocol` under `collab serve`, `asgi.AsgiConnection` under any other server) is accepted
or refused, then it is what the node writes to; the `Listener` is told about frames, a slow reader and the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from collab.errors import CloseCode
from collab.node.outbox import Connection

if TYPE_CHECKING:
    from starlette.responses import Response


class Listener(Protocol):
    """Hears what happens on one connection. Every method returns at once."""

    def on_frame(self, data: bytes) -> None:
        """A whole binary message."""
        ...

    def on_short(self) -> None:
        """A short frame that is no message: a ping, a pong, a small piece of a message."""
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

    def on_ended(self) -> None:
        """The connection is gone. Nothing is heard of it any more."""
        ...


class ServedConnection(Connection, Protocol):
    """A connection whose handshake is done."""

    @property
    def closed_with(self) -> CloseCode | None:
        """The code this side closed it with, if it did."""
        ...

    def rest(self, seconds: float) -> None:
        """Read nothing for so long; `pause_reading` and `resume_reading` go their own way meanwhile."""
        ...

    async def serve(self, listener: Listener) -> None:
        """Pass everything on to ``listener``, the end as well; may return before that."""
        ...


class Newcomer(ServedConnection, Protocol):
    """A connection whose upgrade request nobody has answered yet: `accept` or `refuse` it, once."""

    async def accept(self, subprotocol: str | None) -> None:
        """Switch protocols."""
        ...

    async def refuse(self, response: Response) -> None:
        """Answer with an HTTP response instead; it is not to be served then."""
        ...
