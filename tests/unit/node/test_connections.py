"""Who is let in, and fan-out of one room's frames: who gets what, in which order, in how many writes."""

from __future__ import annotations

import pytest

from collab.errors import Overloaded
from collab.node import Frame, Outbox
from collab.node.connections import ConnectionLimits, ConnectionManager
from collab.node.counters import Counters
from collab.node.outbox import Flow
from collab.protocol.dialects.y_websocket import encode
from collab.protocol.messages import Update
from collab.room import Identity, Role, Session

from .conftest import FakeConnection

FIRST, SECOND = Update(b"\x00\x01"), Update(b"\x00\x02")


def sessions(connections: ConnectionManager, *names: str) -> list[tuple[Session, Outbox, FakeConnection]]:
    made = []
    for name in names:
        session, connection = Session(name, Identity(name), Role.WRITE), FakeConnection()
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


def test_r4_an_echo_goes_with_what_its_author_is_sent_anyway_and_is_noted_when_it_is_left_out() -> None:
    connections = ConnectionManager(Counters())
    (ann, _, writer), (ben, slow, behind), (_, _, other) = sessions(connections, "ann", "ben", "cat")
    slow.flow = Flow.BEHIND
    echo = Frame(encode(SECOND))
    connections.fan_out_together("d", [(Frame(encode(FIRST)), ())], {ann: [echo], ben: [echo]})
    assert writer.writes == [[FIRST, SECOND]]
    assert other.writes == [[FIRST]]
    assert behind.writes == []
    assert slow.echo_left_out


def test_r13_nobody_is_there_any_more() -> None:
    ConnectionManager(Counters()).fan_out_together("d", [(Frame(encode(FIRST)), ()), (Frame(encode(SECOND)), ())])


def test_n18_a_session_too_many_is_refused_and_counted_by_what_was_full() -> None:
    counters = Counters()
    connections = ConnectionManager(counters, ConnectionLimits(per_node=4, per_room=3, per_user=2))
    joined = sessions(connections, "ann", "ann")
    with pytest.raises(Overloaded):
        sessions(connections, "ann")
    sessions(connections, "ben")
    with pytest.raises(Overloaded):
        sessions(connections, "cat")
    connections.add("e", *sessions_of("cat"))
    with pytest.raises(Overloaded):
        connections.add("e", *sessions_of("dan"))
    assert counters.limits == {"sessions_per_user": 1, "sessions_per_room": 1, "sessions": 1}
    connections.remove("d", joined[0][0])
    sessions(connections, "ann")


def test_n18_whoever_nobody_was_asked_about_is_not_one_user() -> None:
    connections = ConnectionManager(Counters(), ConnectionLimits(per_user=1))
    sessions(connections, *["anonymous"] * 5)
    connections = ConnectionManager(Counters(), ConnectionLimits(per_user=0))
    sessions(connections, *["ann"] * 5)


def test_n18_visitors_of_one_link_are_so_many_and_others_are_not_concerned() -> None:
    counters = Counters()
    connections = ConnectionManager(counters, ConnectionLimits(per_link=2))

    def visit(link: int, document: str = "d") -> Session:
        session, outbox = sessions_of("anonymous")
        with connections.by_link(session, link):
            connections.add(document, session, outbox)
        return session

    first = [visit(7), visit(7, "e")]
    with pytest.raises(Overloaded):
        visit(7)
    visit(8)
    sessions(connections, *["anonymous"] * 5, "ann")
    assert counters.limits == {"sessions_per_link": 1}
    connections.remove("d", first[0])
    connections.remove("d", first[0])
    visit(7)
    with pytest.raises(Overloaded):
        visit(7)
    for document in "de":
        for session in tuple(connections.in_room(document)):
            connections.remove(document, session)
    assert (connections._link_of, connections._visitors) == ({}, {})


def sessions_of(name: str) -> tuple[Session, Outbox]:
    return Session(name, Identity(name), Role.WRITE), Outbox(FakeConnection())
