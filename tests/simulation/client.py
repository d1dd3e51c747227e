"""One editor: a document, a cursor and a connection, behaving like a stock client down to its timers.

"echo" clients behave like y-websocket 3.1 and take the echo of what they wrote as its confirmation; "status" clients
behave like y-sweet's and count versions (message 102). Both keep what is unconfirmed in their document while they are
offline and bring it back in their SyncStep2. What a client believes to be saved goes to the checker at that moment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from collab.engine.clocks import covered
from collab.errors import CloseCode
from collab.protocol.dialects.y_websocket import decode, encode
from collab.protocol.messages import (
    Awareness,
    Message,
    SyncStatus,
    SyncStep1,
    SyncStep2,
    Update,
)
from collab.protocol.varint import read_uint, write_varuint
from collab.protocol.yjs import UpdateScan, read_state_vector, scan_update
from tests.simulation.edits import Editor
from tests.simulation.network import Link
from tests.simulation.presence import Presence
from tests.simulation.replica import Replica, contains

if TYPE_CHECKING:
    from tests.simulation.plan import ClientPlan
    from tests.simulation.world import World

MAX_BACKOFF = 2.5
"""y-websocket: 100 ms times two to the power of the failures so far, at most this."""
CONNECT_TIMEOUT = 3.0
CHECK_EVERY = 1.0
SILENCE = 6.0
"""An "echo" client leaves a connection silent for so long (stock: 30 s; the nodes keep alive five times as often)."""
HEARTBEAT_AFTER, HEARTBEAT_PATIENCE = 2.0, 3.0
"""y-sweet: after this silence it sends its version again, and then expects something within this."""


@dataclass(slots=True, eq=False)
class Written:
    """One update of a client, and what the client believes about it."""

    author: str
    document: str
    what: str
    update: bytes
    scan: UpdateScan
    version: int
    saved: bool = False
    known: bool = False
    """The server had it already when the client came back, so no echo will come. Saved, perhaps."""


class Client:
    """One client of one document. `start` it once; `leave` it to end it."""

    def __init__(self, world: World, number: int, plan: ClientPlan) -> None:
        self.world = world
        self.number = number
        self.name = f"c{number}"
        self.document = plan.document
        self.confirm = plan.confirm
        self.forgets = plan.forgets
        """Whether it comes back like a page that was loaded anew: with its document, without old cursors."""
        self.reads_only = plan.reads_only
        self._rng = world.rng("client", number)
        self._edit = Editor(number, world.rng("edits", number), deletes=plan.deletes)
        self.replica = Replica(self._rng.getrandbits(27) << 4 | number)
        self.id = self.replica.client_id
        self.presence = Presence(self.id, world.now)
        self.link: Link | None = None
        self.online = False
        """Whether its connection is open."""
        self.synced = False
        self.gone = False
        """Whether it left for good."""
        self.offline = False
        """Whether it wants no connection for now."""
        self.written: list[Written] = []
        self.node: int | None = None
        """Index of the only node it may be routed to; None: any."""
        self._version = 0
        self._failures = 0
        self._heard_at = 0.0
        self._asked_at: float | None = None
        self._connections = 0
        self._server_knew = 0
        """How much of its own the server had when it last asked: no echo will come of that."""

    def start(self) -> None:
        """Begin to connect, and to look after the connection."""
        self._connect()
        self.world.later(CHECK_EVERY * self._rng.random(), self._check)

    # editing

    def write(self) -> Written | None:
        """One edit, sent at once when connected; None when there was nothing to do."""
        if self.gone or self.reads_only:
            return None
        made = self._edit(self.replica)
        if made is None:
            return None
        what, update = made
        self._version += 1
        written = Written(self.name, self.document, what, update, scan_update(update), self._version)
        self.written.append(written)
        self.world.note(self.name, f"{what} {'' if self.online else '(offline)'}")
        self.world.checker.submitted(written)
        self._send(Update(update))
        if self.confirm == "status":
            self._send_status()
        return written

    def move(self) -> None:
        """The cursor moves."""
        self._send(Awareness((self.presence.move(self.world.now),)))

    def overhear(self, update: bytes) -> None:
        """Another tab of the same browser hands over what it wrote; stock clients do not send that on."""
        if not (self.gone or self.reads_only):
            self.world.checker.carried = True
            self.replica.take(update)

    @property
    def unconfirmed(self) -> list[Written]:
        """What it still waits to see saved. Echoes of pure deletions come only when they were news."""
        return [
            one for one in self.written if not (one.saved or one.known or (self.confirm == "echo" and one.scan.empty))
        ]

    # connecting

    def leave(self) -> None:
        """Go for good."""
        self.gone = True
        self.drop()
        self.world.note(self.name, "left for good")

    def set_offline(self, offline: bool) -> None:
        """The laptop is closed, or opened again."""
        self.offline = offline
        if offline:
            self.drop()
        elif self.link is None and not self.gone:
            self._connect()

    def drop(self) -> None:
        """Close the connection from this side."""
        link = self.link
        if link is not None:
            self._disconnected()
            link.hang_up()

    def _connect(self) -> None:
        if self.gone or self.offline or self.link is not None:
            return
        self.link = self.world.dial(self)
        if self.link is None:
            self._retry()
        else:
            self.world.later(CONNECT_TIMEOUT, self._give_up, self.link)

    def _give_up(self, link: Link) -> None:
        if self.link is link and not link.opened:
            self._disconnected()
            link.hang_up()
            self._retry()

    def _retry(self) -> None:
        self._failures += 1
        self.world.later(min(0.1 * 2**self._failures, MAX_BACKOFF), self._connect)

    def opened(self, link: Link) -> None:
        """The upgrade was answered."""
        if link is not self.link:
            return
        self.online = True
        self._connections += 1
        if self._connections > 1:
            self.world.checker.carried = True
        self._heard_at, self._asked_at = self.world.now, None
        self.world.note(self.name, f"connected to {link.life.name}")
        self._send(SyncStep1(self.replica.state_vector()))
        if self.confirm == "status":
            self._send_status()
        self._send(Awareness((self.presence.own(),)))

    def closed(self, link: Link, code: int) -> None:
        """The connection is gone, or never was."""
        if link is not self.link:
            return
        self.world.note(self.name, f"closed with {code}")
        self._disconnected()
        if code == CloseCode.DELETED.code and self.document in self.world.deleted:
            self.gone = True
        elif 4400 <= code < 4500:
            self.world.history.wrong(f"{self.name} was told to go for good: {code}")
        self._retry()

    def _disconnected(self) -> None:
        self.link = None
        self.online = self.synced = False
        self.presence.disconnected(forget=self.forgets)

    def _check(self) -> None:
        if self.gone:
            return
        self.world.later(CHECK_EVERY, self._check)
        renewed = self.presence.renew(self.world.now)
        if renewed is not None:
            self._send(Awareness((renewed,)))
        if not self.online:
            return
        silent = self.world.now - self._heard_at
        if self.confirm == "echo":
            lost = silent > SILENCE
        else:
            lost = self._asked_at is not None and self.world.now - self._asked_at > HEARTBEAT_PATIENCE
            if not lost and silent > HEARTBEAT_AFTER and self._asked_at is None:
                self._send_status()
        if lost:
            self.world.note(self.name, "hears nothing and hangs up")
            self.drop()
            self._retry()

    # the wire

    def _send(self, message: Message) -> None:
        if self.online and self.link is not None:
            self.link.send(encode(message))

    def _send_status(self) -> None:
        self._send(SyncStatus(write_varuint(self._version)))
        if self.online and self._asked_at is None:
            self._asked_at = self.world.now

    def received(self, link: Link, data: bytes) -> None:
        """A frame from the server; like y-websocket it looks at the first message only."""
        if link is not self.link:
            return
        self._heard_at, self._asked_at = self.world.now, None
        message = decode(data)[0]
        match message:
            case SyncStep1(vector):
                self._send(SyncStep2(self.replica.lacking(vector)))
                self._note_known(read_state_vector(vector))
            case SyncStep2(update):
                self._take(update)
                self.synced = True
                self._failures = 0
            case Update(update):
                self._take(update, echo=True)
            case Awareness(entries):
                again = self.presence.hear(entries, self.world.now)
                if again:
                    self._send(Awareness(again))
            case SyncStatus(version):
                self._acknowledged(read_uint(version, 0)[0])
            case _:
                self.world.history.wrong(f"{self.name} was sent {message}")

    def _take(self, update: bytes, *, echo: bool = False) -> None:
        scan = scan_update(update)
        self.world.checker.heard(self, scan)
        self.replica.take(update, scan)
        if echo and self.confirm == "echo" and self.id in scan.ranges:
            for one in self.written:
                if not one.saved and not one.scan.empty:
                    self._echoed(one, scan)

    def _echoed(self, one: Written, scan: UpdateScan) -> None:
        if contains(scan, one.scan):
            self._saved(one)
            return
        start, end = one.scan.ranges[self.id][0]
        if start < self._server_knew < end and covered(self._server_knew, end, scan.ranges[self.id]):
            one.known = True

    def _note_known(self, known: dict[int, int]) -> None:
        self._server_knew = known.get(self.id, 0)
        for one in self.written:
            if not one.saved and one.scan.ranges:
                one.known = one.scan.ranges[self.id][-1][1] <= self._server_knew

    def _acknowledged(self, version: int) -> None:
        if version > self._version:
            self.world.history.wrong(f"{self.name} was acknowledged version {version}, and is at {self._version}")
        for one in self.written:
            if not one.saved and one.version <= version:
                self._saved(one)

    def _saved(self, one: Written) -> None:
        one.saved = True
        self.world.note(self.name, f"saved: {one.what}")
        self.world.checker.saved(one, self.confirm)
