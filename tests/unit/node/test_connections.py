"""Fan-out of one room's frames: who gets what, in which order, in how many writes."""

from __future__ import annotations

from collab.node import Frame, Outbox
from collab.node.connections import ConnectionManager
from collab.node.counters import Counters
from collab.node.outbox import Flow
from collab.protocol.dialects.y_websocket import encode
from collab.protocol.messages import Update
from collab.room import Grant, Identity, Session

from .conftest import FakeConnection

FIRST, SECOND = Update(b"\x00\x01"), Update(b"\x00\x02")


def sessions(connections: ConnectionManager, *names: str) -> list[tuple[Session, Outbox, FakeConnection]]:
    made = []
    for name in names:
        session, connection = Session(name, Identity(name), Grant.WRITE), FakeConnection()
        outbox = Outbox(connection)
        connections.add("d", session, outbox)
        made.append((session, outbox, connection))
    return made


def test_r13_broadcasts_that_go_out_together_are_one_write_to_whoever_gets_them_all() -> None:
    counters = Counters()
    connections = ConnectionManager(counters)
    (_, _, everything), (ann, _, not_first), (ben, _, not_second), (cat, _, neither), (_, slow, behind) = sessions(
        connections, "everything", "ann", "ben", "cat", "slow"
    )
    slow.flow = Flow.BEHIND
    connections.fan_out_together(
        "d", [(Frame(encode(FIRST)), frozenset((ann, cat))), (Frame(encode(SECOND)), frozenset((ben, cat)))]
    )
    assert everything.writes == [[FIRST, SECOND]]
    assert not_first.writes == [[SECOND]]
    assert not_second.writes == [[FIRST]]
    assert neither.writes == behind.writes == []
    assert counters.bytes_out == 2 * len(encode(FIRST)) + 2 * len(encode(SECOND))


def test_r13_nobody_is_there_any_more() -> None:
    ConnectionManager(Counters()).fan_out_together("d", [(Frame(encode(FIRST)), ()), (Frame(encode(SECOND)), ())])
