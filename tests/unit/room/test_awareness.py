"""Awareness rules A1 to A8, on the table itself."""

from __future__ import annotations

import json

import pytest

from collab.errors import MalformedMessage
from collab.protocol.messages import AwarenessEntry
from collab.protocol.peers import PeerEntry
from collab.room import AwarenessTable, Identity, Role, Session
from collab.room.awareness import REMOVED_KEPT_FOR, stamp

ANN = Identity("ann")
BEN = Identity("ben")


def session(identity: Identity = ANN, joined_at: float = 0.0) -> Session:
    return Session("s", identity, Role.WRITE, joined_at=joined_at)


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


def peer(client: int, clock: int, state: bytes | None = b"{}", subject: str = "zoe", age: float = 0) -> PeerEntry:
    return PeerEntry(AwarenessEntry(client, clock, state), subject, int(age * 1000))


def test_a10_entries_of_another_node_are_shown_and_go_with_it() -> None:
    table, ann = AwarenessTable(), session()
    table.receive(ann, [entry(1, 1)], 0)
    table.receive_from_node("other", [peer(2, 1), peer(1, 9, b'{"forged":1}')], 0)
    assert shown(table) == {1: (1, b"{}"), 2: (1, b"{}")}
    assert table.owned_here(0) == (peer(1, 1, subject="ann"),)
    table.node_gone("other", 1)
    assert shown(table) == {1: (1, b"{}")}


def test_a10_only_the_node_an_entry_belongs_to_takes_it_away() -> None:
    table = AwarenessTable()
    table.receive_from_node("one", [peer(2, 1)], 0)
    table.receive_from_node("two", [peer(2, 5, None)], 0)
    assert shown(table) == {2: (1, b"{}")}
    table.receive_from_node("one", [peer(2, 1, None)], 0)
    assert shown(table) == {}


def test_a10_all_that_a_node_has_replaces_what_was_known_of_it() -> None:
    table = AwarenessTable()
    table.receive_from_node("one", [peer(2, 1), peer(3, 1)], 0)
    table.receive_from_node("two", [peer(4, 1)], 0)
    table.receive_all_from_node("one", [peer(3, 1), peer(5, 1)], 1)
    assert set(shown(table)) == {3, 4, 5}
    other = AwarenessTable()
    other.receive(session(), [entry(3, 1)], 0)
    assert other.digest() != table.digest("one")
    table.receive_all_from_node("one", [peer(3, 1)], 1)
    assert other.digest() == table.digest("one")


def test_a10_a_client_that_comes_back_on_another_node_stays_when_its_old_session_there_ends() -> None:
    old, new, third = AwarenessTable(), AwarenessTable(), AwarenessTable()
    before, after = session(joined_at=0), session(joined_at=50)
    old.receive(before, [entry(1, 7)], 0)
    for table in (new, third):
        table.receive_from_node("old", old.owned_here(1), 1)
        table.take_changes()
    new.receive(after, [entry(1, 7)], 60)
    assert new.take_changes()[0] == (entry(1, 7),), "the others must learn who speaks for it now"
    old.receive_from_node("new", new.owned_here(60), 60)
    third.receive_from_node("new", new.owned_here(60), 60)
    old.leave(before, 61)
    assert shown(old) == shown(new) == shown(third) == {1: (7, b"{}")}
    third.receive_from_node("old", [peer(1, 7, None, "ann")], 62)
    assert shown(third) == {1: (7, b"{}")}, "a late word of the old node takes nothing away"


def test_a10_a_removal_that_crosses_the_return_is_outlived_by_one_clock() -> None:
    new, third = AwarenessTable(), AwarenessTable()
    back = session(joined_at=50)
    new.receive(back, [entry(1, 7)], 50)
    third.receive_from_node("old", [peer(1, 7, subject="ann")], 40)
    third.receive_from_node("old", [peer(1, 7, None, "ann")], 51)
    third.receive_from_node("new", new.owned_here(51), 51)
    assert shown(third) == {}, "at the same clock a removal counts"
    new.receive_from_node("old", [peer(1, 7, None, "ann")], 52)
    third.receive_from_node("new", new.owned_here(52), 52)
    assert shown(new) == shown(third) == {1: (8, b"{}")}
    new.take_changes()


def test_a10_of_two_sessions_at_one_clock_the_younger_speaks_wherever_it_is_heard_first() -> None:
    for order in (("old", "new"), ("new", "old")):
        table = AwarenessTable()
        ages = {"old": 100.0, "new": 1.0}
        for node in order:
            table.receive_from_node(node, [peer(1, 7, node.encode(), age=ages[node])], 200)
        table.node_gone("old", 201)
        assert 1 in shown(table), order


def test_a4_nobody_takes_over_the_client_of_another_user_on_another_node() -> None:
    table, eve = AwarenessTable(), session(Identity("eve"), joined_at=10)
    table.receive_from_node("other", [peer(1, 3, b'{"user":"ann"}', "ann")], 0)
    table.receive(eve, [entry(1, 9, b'{"user":"eve"}')], 11)
    assert shown(table) == {1: (3, b'{"user":"ann"}')}
    table.receive_from_node("third", [peer(1, 9, b'{"user":"eve"}', "eve")], 12)
    assert shown(table) == {1: (3, b'{"user":"ann"}')}


def test_n5_who_left_is_known_for_as_long_as_anybody_may_show_it() -> None:
    table, ann = AwarenessTable(), session()
    table.receive(ann, [entry(1, 4)], 0)
    table.receive_from_node("other", [peer(2, 3)], 0)
    table.leave(ann, 1)
    assert table.known() == (entry(1, 4, None), entry(2, 3))
    table.receive_from_node("other", [peer(2, 4)], 1 + REMOVED_KEPT_FOR)
    table.expire(1.1 + REMOVED_KEPT_FOR)
    assert table.known() == (entry(2, 4),)


def test_a6_a_client_that_answers_its_removal_with_others_entries_is_shown() -> None:
    table, ann = AwarenessTable(), session(joined_at=0)
    table.receive_from_node("old", [peer(1, 7, subject="ann"), peer(2, 3)], 1)
    table.receive_all_from_node("old", [], 2)
    table.receive(ann, [entry(1, 7)], 3)
    assert shown(table) == {}, "it may be somebody's repetition"
    table.receive(ann, [entry(2, 3, None), entry(1, 8)], 4)
    assert shown(table) == {1: (8, b"{}")}
    eve = session(Identity("eve"), joined_at=5)
    table.receive(eve, [entry(5, 1), entry(6, 1)], 6)
    assert set(shown(table)) == {1}, "nobody speaks for two"
