"""Rule K5: what depends on another node's update is not confirmed before that one is in the log."""

from __future__ import annotations

from collab.protocol.messages import SyncStatus, SyncStep2, Update
from collab.protocol.peers import PeerUpdate
from collab.room import (
    Effect,
    Foreign,
    Identity,
    Integrate,
    Integrated,
    Proposal,
    Receipt,
    Record,
    Role,
    Room,
    Saved,
    Send,
    Session,
)

A, B, THEIRS = b"\x01a", b"\x01b", b"\x01t"


def writer(room: Room, name: str = "ann") -> Session:
    session = Session(name, Identity(name), Role.WRITE)
    room.join(session, 0)
    room.receive(session, SyncStep2(b"\x00\x00"), 0)
    session.settled = 1
    return session


def propose(room: Room, session: Session, update: bytes) -> Proposal:
    (effect,) = room.receive(session, Update(update), 1.0)
    assert isinstance(effect, Integrate)
    return effect.proposal


def taken(room: Room, session: Session, update: bytes) -> Receipt:
    proposal = propose(room, session, update)
    return recorded(room.integrated(Integrated(taken=(proposal,), merged=update)))


def recorded(effects: list[Effect]) -> Receipt:
    (receipt,) = [effect.receipt for effect in effects if isinstance(effect, Record)]
    return receipt


def test_k5_a_write_behind_another_nodes_update_waits_for_its_commit() -> None:
    room = Room("d")
    ann = writer(room)
    before = taken(room, ann, A)
    room.brought("other", PeerUpdate(4, 2, THEIRS), 1.0)
    after = taken(room, ann, B)
    room.receive(ann, SyncStatus(b"\x09"), 2.0)
    assert Saved(before) in room.committed(before)
    assert room.committed(after) == []
    assert room.waits_for_peers
    assert room.peer_committed("other", 4) == [], "the first of two log entries is not all of it"
    assert room.peer_committed("third", 5) == []
    effects = room.peer_committed("other", 5)
    assert effects[-1] == Saved(after)
    assert Send(ann, SyncStatus(b"\x09")) in effects
    assert not room.waits_for_peers


def test_k5_an_update_that_repeats_what_another_node_has_not_committed_waits_too() -> None:
    room = Room("d")
    ann = writer(room)
    room.brought("other", PeerUpdate(4, 1, THEIRS), 1.0)
    repeated = propose(room, ann, THEIRS)
    receipt = recorded(room.integrated(Integrated(repeated=(repeated,))))
    assert room.committed(receipt) == []
    assert room.peer_committed("other", 4)[-1] == Saved(receipt)


def test_k5_who_waits_too_long_adopts_what_holds_him_up_and_only_that() -> None:
    room = Room("d")
    ann = writer(room)
    room.brought("other", PeerUpdate(4, 1, THEIRS), 1.0)
    receipt = taken(room, ann, A)
    room.brought("other", PeerUpdate(5, 1, b"\x01later"), 1.0)
    room.committed(receipt)
    assert room.adopt_awaited(0.9, 1.1) == [], "it came a moment ago"
    adoption = recorded(room.adopt_awaited(1.0, 1.2))
    assert [foreign.message.update for foreign in adoption.adopts] == [THEIRS]
    assert room.adopt_awaited(1.2, 1.4) == [], "it is on its way to the log"
    assert room.committed(adoption)[-1] == Saved(receipt)
    assert room.foreign.updates() == [b"\x01later"]


def test_k5_what_is_recorded_last_need_not_be_what_waits_for_most() -> None:
    room = Room("d")
    ann = writer(room)
    early = taken(room, ann, A)  # shown before anything was heard, and recorded late
    room.brought("other", PeerUpdate(4, 1, THEIRS), 1.0)
    late = taken(room, ann, B)
    assert room.committed(late) == room.committed(early) == []
    adoption = recorded(room.adopt_awaited(1.0, 1.2))
    assert [one for one in room.committed(adoption) if isinstance(one, Saved)] == [Saved(late), Saved(early)]


def test_k5_an_adopted_update_confirms_who_waited() -> None:
    room = Room("d")
    ann = writer(room)
    room.brought("other", PeerUpdate(4, 1, THEIRS), 1.0)
    receipt = taken(room, ann, A)
    room.committed(receipt)
    adoption = recorded(room.adopt_awaited(1.0, 1.2))
    assert room.committed(adoption)[-1] == Saved(receipt)
    assert not room.foreign


def test_k5_confirmations_keep_the_order_of_the_commits() -> None:
    room = Room("d")
    ann = writer(room)
    room.brought("one", PeerUpdate(1, 1, THEIRS), 1.0)
    first = taken(room, ann, A)
    room.brought("two", PeerUpdate(1, 1, b"\x01u"), 1.0)
    second = taken(room, ann, B)
    room.committed(first)
    room.committed(second)
    assert room.peer_committed("two", 1) == []
    saved = [effect for effect in room.peer_committed("one", 1) if isinstance(effect, Saved)]
    assert saved == [Saved(first), Saved(second)]


def test_k5_what_a_dead_node_brought_is_adopted_at_once() -> None:
    room = Room("d")
    room.brought("one", PeerUpdate(1, 1, THEIRS), 1.0)
    room.brought("two", PeerUpdate(1, 1, A), 1.0)
    adoption = recorded(room.peer_gone("one", 9.0))
    assert [foreign.node for foreign in adoption.adopts] == ["one"]
    room.committed(adoption)
    assert [foreign.node for foreign in recorded(room.adopt_old(2.0, 9.0)).adopts] == ["two"]


def test_k5_word_of_a_commit_may_come_before_the_update() -> None:
    foreign = Foreign()
    foreign.committed("other", 7)
    foreign.hear("other", PeerUpdate(6, 2, A), 1.0)
    assert not foreign
    foreign.hear("other", PeerUpdate(7, 2, A), 1.0)
    assert foreign
    assert foreign.updates() == [A]


def test_k5_what_a_resync_brought_is_recorded_here() -> None:
    room = Room("d")
    ann = writer(room)
    brought = recorded(room.resynced(THEIRS, 1.0))
    assert brought.updates == ((THEIRS, None),)
    after = taken(room, ann, A)
    assert room.committed(brought) == [Saved(brought)]
    assert room.committed(after)[-1] == Saved(after)
