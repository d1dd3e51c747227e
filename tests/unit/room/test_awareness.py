"""Awareness rules A1 to A8, on the table itself."""

from __future__ import annotations

import json

import pytest

from collab.errors import MalformedMessage
from collab.protocol.messages import AwarenessEntry
from collab.room import AwarenessTable, Grant, Identity, Session
from collab.room.awareness import REMOVED_KEPT_FOR, stamp

ANN = Identity("ann")
BEN = Identity("ben")


def session(identity: Identity = ANN, joined_at: float = 0.0) -> Session:
    return Session("s", identity, Grant.WRITE, joined_at=joined_at)


def entry(client: int, clock: int, state: bytes | None = b"{}") -> AwarenessEntry:
    return AwarenessEntry(client, clock, state)


def shown(table: AwarenessTable) -> dict[int, tuple[int, bytes | None]]:
    return {e.client: (e.clock, e.state) for e in table.all()}


def test_a1_a_newer_clock_wins_and_an_older_is_ignored() -> None:
    table, ann = AwarenessTable(), session()
    table.receive(ann, [entry(1, 5, b'{"a":1}')], 0)
    table.receive(ann, [entry(1, 4, b'{"a":0}')], 0)
    assert shown(table) == {1: (5, b'{"a":1}')}
    table.receive(ann, [entry(1, 6, b'{"a":2}')], 0)
    assert shown(table) == {1: (6, b'{"a":2}')}


def test_a1_at_the_same_clock_only_a_removal_counts() -> None:
    table, ann = AwarenessTable(), session()
    table.receive(ann, [entry(1, 5, b'{"a":1}')], 0)
    table.receive(ann, [entry(1, 5, b'{"a":2}')], 0)
    assert shown(table) == {1: (5, b'{"a":1}')}
    table.receive(ann, [entry(1, 5, None)], 0)
    assert shown(table) == {}


def test_a1_removing_somebody_unknown_changes_nothing() -> None:
    table = AwarenessTable()
    table.receive(session(), [entry(1, 5, None)], 0)
    assert table.take_changes() == ((), None)


def test_a2_a_session_that_leaves_takes_its_entry_at_its_clock() -> None:
    table, ann = AwarenessTable(), session()
    table.receive(ann, [entry(1, 5)], 0)
    table.take_changes()
    table.leave(ann, 1)
    assert table.take_changes() == ((entry(1, 5, None),), None)
    assert table.all() == ()


def test_a3_an_entry_unheard_of_expires_and_one_that_is_renewed_stays() -> None:
    table, ann, ben = AwarenessTable(expire_after=30), session(), session(BEN)
    table.receive(ann, [entry(1, 1)], 0)
    table.receive(ben, [entry(2, 1)], 0)
    table.receive(ben, [entry(2, 2)], 20)
    table.expire(31)
    assert shown(table) == {2: (2, b"{}")}


def test_a4_foreign_entries_are_dropped_whether_forged_or_echoed() -> None:
    table, ann, ben = AwarenessTable(), session(), session(BEN)
    table.receive(ann, [entry(1, 1, b'{"a":1}')], 0)
    table.receive(ben, [entry(2, 1)], 0)
    table.take_changes()
    table.receive(ben, [entry(1, 9, b'{"a":666}')], 0)
    table.receive(ben, [entry(1, 9, None), entry(2, 2)], 0)
    assert shown(table) == {1: (1, b'{"a":1}'), 2: (2, b"{}")}


def test_a4_a_silent_observer_cannot_take_over_what_it_echoes() -> None:
    table, ann, observer = AwarenessTable(), session(), session(BEN)
    table.receive(ann, [entry(1, 1)], 0)
    table.receive(observer, [entry(1, 1)], 0)
    assert observer.client is None
    table.leave(ann, 1)
    table.receive(observer, [entry(1, 1)], 2)
    assert table.all() == (), "an echo from somebody who was here when it left must not bring it back"


def test_a5_a_client_that_changed_twice_travels_once_with_its_newest_state() -> None:
    table, ann = AwarenessTable(), session()
    table.receive(ann, [entry(1, 1)], 0)
    table.receive(ann, [entry(1, 2, b'{"x":2}')], 0)
    assert table.take_changes() == ((entry(1, 2, b'{"x":2}'),), ann)
    assert table.take_changes() == ((), None)


def test_a5_changes_of_several_go_to_everybody() -> None:
    table, ann, ben = AwarenessTable(), session(), session(BEN)
    table.receive(ann, [entry(1, 1)], 0)
    table.receive(ben, [entry(2, 1)], 0)
    entries, author = table.take_changes()
    assert {e.client for e in entries} == {1, 2}
    assert author is None


def test_a6_a_client_back_at_the_clock_it_was_removed_with_returns_one_later_and_hears_it() -> None:
    table, ann = AwarenessTable(), session()
    table.receive(ann, [entry(1, 5)], 0)
    table.leave(ann, 1)
    table.take_changes()
    again = session(joined_at=2)
    table.receive(again, [entry(1, 5, b'{"back":true}')], 2)
    assert table.take_changes() == ((entry(1, 6, b'{"back":true}'),), None)
    table.receive(again, [entry(1, 7)], 3)
    assert shown(table) == {1: (7, b"{}")}


def test_a6_a_removed_clock_is_forgotten_in_the_end() -> None:
    table, ann = AwarenessTable(), session()
    table.receive(ann, [entry(1, 5)], 0)
    table.leave(ann, 1)
    table.expire(2 + REMOVED_KEPT_FOR)
    table.receive(session(joined_at=70), [entry(1, 5)], 70)
    assert shown(table) == {1: (5, b"{}")}


def test_a8_a_session_back_before_its_old_connection_died_keeps_its_entry() -> None:
    table, old = AwarenessTable(), session()
    table.receive(old, [entry(1, 5)], 0)
    new = session(joined_at=1)
    table.receive(new, [entry(1, 5)], 1)
    table.leave(old, 2)
    assert shown(table) == {1: (5, b"{}")}
    table.receive(new, [entry(1, 6)], 3)
    assert shown(table) == {1: (6, b"{}")}


def test_a8_nobody_else_can_take_over_a_client_that_is_spoken_for() -> None:
    table, ann, ben = AwarenessTable(), session(), session(BEN)
    table.receive(ann, [entry(1, 5)], 0)
    table.receive(ben, [entry(1, 6, b'{"forged":1}')], 1)
    assert shown(table) == {1: (5, b"{}")}
    assert ben.client is None


def test_a7_the_identity_is_stamped_and_the_colour_must_be_one() -> None:
    named = Identity("u1", name="Ann")
    state = json.loads(stamp(b'{"user":{"name":"Eve","color":"#ff0000","avatar":"x"},"cursor":{"a":1}}', named))
    assert state == {"user": {"id": "u1", "name": "Ann", "color": "#ff0000"}, "cursor": {"a": 1}}
    state = json.loads(stamp(b'{"user":{"color":"red;background:url(//evil)"}}', named))
    assert state == {"user": {"id": "u1", "name": "Ann"}}
    state = json.loads(stamp(b'{"user":"Eve"}', Identity("u1", name="Ann", color="#00ff00")))
    assert state == {"user": {"id": "u1", "name": "Ann", "color": "#00ff00"}}
    assert stamp(b'{"user":{"name":"Eve"}}', Identity("anonymous")) == b'{"user":{"name":"Eve"}}'


@pytest.mark.parametrize("state", [b"[]", b"{", b'{"a":' + b"9" * 5000 + b"}"])
def test_a7_a_state_that_cannot_be_stamped_is_malformed(state: bytes) -> None:
    with pytest.raises(MalformedMessage):
        stamp(state, Identity("u1", name="Ann"))


def test_entries_of_another_node_are_shown_and_go_with_it() -> None:
    table, ann = AwarenessTable(), session()
    table.receive(ann, [entry(1, 1)], 0)
    table.receive_from_node("other", [entry(2, 1), entry(1, 9, b'{"forged":1}')], 0)
    assert shown(table) == {1: (1, b"{}"), 2: (1, b"{}")}
    assert table.owned_here(table.all()) == (entry(1, 1),)
    table.leave("other", 1)
    assert shown(table) == {1: (1, b"{}")}
