"""A blocking client with a replica of its own: says what it is told, keeps what it hears.

It is honest as long as the test is. What it hears it applies to a pycrdt document, so that two of them can be compared;
a test that lets in what native readers do not survive asks for one without.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from pycrdt import Doc, Text
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.support import wire
from tests.support.checker import decode_state_vector

if TYPE_CHECKING:
    from tests.support.door import Door
    from tests.support.wire import Message

PATIENCE_SECONDS = 30.0


class Peer:
    """One connection to the document of ``door``; a context manager."""

    def __init__(self, door: Door, *, token: str | None = None, replica: bool = True) -> None:
        query = f"?token={token}" if token else ""
        self._url = f"{door.ws}/{door.document}{query}"
        self._keeps = replica
        self._stack = ExitStack()
        self.doc: Doc[Text] = Doc()
        self.seen: list[Message] = []
        """Everything heard, in order."""

    def __enter__(self) -> Self:
        connecting = connect(self._url, max_size=None, compression=None, proxy=None, max_queue=None)
        self._socket = self._stack.enter_context(connecting)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def send(self, *frames: bytes | str) -> None:
        """One frame after another; what is sent after the server's goodbye is lost, as on any network."""
        try:
            for frame in frames:
                self._socket.send(frame)
        except ConnectionClosed:
            return

    def write(self, *updates: bytes) -> None:
        """Send updates that are this replica's too."""
        for update in updates:
            self.doc.apply_update(update)
        self.send(*map(wire.update, updates))

    def hear(self, kind: int, sub: int | None = None) -> bytes:
        """The payload of the next message of this kind."""
        while True:
            heard = [*wire.messages(self._socket.recv(PATIENCE_SECONDS, decode=False))]
            self.seen += heard
            for is_kind, is_sub, payload in heard:
                if self._keeps and is_kind == wire.SYNC and is_sub != wire.STEP1:
                    self.doc.apply_update(payload)
            for is_kind, is_sub, payload in heard:
                if (is_kind, is_sub) == (kind, sub):
                    return payload

    def catch_up(self) -> bytes:
        """Ask for everything that is lacking and wait for the answer, which holds all that was sent here before."""
        self.send(wire.step1(self.doc.get_state() if self._keeps else b"\x00"))
        return self.hear(wire.SYNC, wire.STEP2)

    def confirmed(self) -> None:
        """Say that nothing more comes of the past, and wait until all that was sent here is committed."""
        self.send(wire.step2(b"\x00\x00"), wire.status(len(self.seen) + 1))
        self.hear(wire.SYNC_STATUS)

    def closing(self) -> tuple[int | None, str | None]:
        """Code and reason of the server's goodbye."""
        try:
            while True:
                self.seen += wire.messages(self._socket.recv(PATIENCE_SECONDS, decode=False))
        except ConnectionClosed:
            return self._socket.close_code, self._socket.close_reason

    @property
    def text(self) -> str:
        """The text "t" of this replica."""
        return str(self.doc.get("t", type=Text))

    @property
    def clocks(self) -> dict[int, int]:
        """Client -> next clock, of this replica."""
        return decode_state_vector(self.doc.get_state())
