"""The room's decisions, rule by rule: messages and outcomes in, effects out."""

from __future__ import annotations

import pytest

from collab.errors import CloseCode
from collab.protocol.messages import (
    Awareness,
    AwarenessEntry,
    Message,
    QueryAwareness,
    Renewal,
    SyncStatus,
    SyncStep1,
    SyncStep2,
    Unknown,
    Update,
)
from collab.protocol.peers import PeerEntry
from collab.room import (
    Answer,
    Broadcast,
    Disconnect,
    Echo,
    Effect,
    Greet,
    Identity,
    Integrate,
    Integrated,
    Proposal,
    Publish,
    PublishAwareness,
    Receipt,
    Record,
    Renew,
    Role,
    Room,
    Saved,
    Send,
    Session,
)
from collab.room.room import KEEP_ALIVE, MAX_REFUSED_WRITES, MAX_UNKNOWN_MESSAGES
from collab.room.session import MAX_UNPROVEN_BYTES, UNPROVEN_BYTES

A, B, AB = b"\x01a", b"\x01b", b"\x01ab"


def joined(room: Room, *grants: Role) -> list[Session]:
    sessions = [Session(f"s{n}", Identity(f"u{n}"), role) for n, role in enumerate(grants)]
    for session in sessions:
        assert room.join(session, 0) == [Greet(session)]
        room.greet(session, b"\x00")
    return sessions


def write(room: Room, session: Session, update: bytes, now: float = 1.0) -> Proposal:
    (effect,) = room.receive(session, Update(update), now)
    assert isinstance(effect, Integrate)
    return effect.proposal


def sync(room: Room, session: Session, update: bytes = b"\x00\x00") -> Proposal:
    (effect,) = room.receive(session, SyncStep2(update), 1.0)
    assert isinstance(effect, Integrate)
    return effect.proposal


def recorded(effects: list[Effect]) -> Receipt:
    (receipt,) = [effect.receipt for effect in effects if isinstance(effect, Record)]
    return receipt


def committed(room: Room, receipt: Receipt) -> list[Effect]:
    """What the commit of a receipt that depends on no other node leads to."""
    effects = room.committed(receipt)
    assert effects[-1] == Saved(receipt)
    return effects[:-1]


def settle(room: Room, *proposals: Proposal) -> list[Effect]:
    return committed(room, recorded(room.integrated(Integrated(repeated=proposals, structless=frozenset(proposals)))))


def test_r1_a_session_that_joins_receives_sync_step_1_then_all_awareness() -> None:
    room = Room("d")
    (ann,) = joined(room, Role.WRITE)
    room.receive(ann, Awareness((AwarenessEntry(1, 1, b"{}"),)), 0)
    ben = Session("s", Identity("ben"), Role.WRITE)
    assert room.join(ben, 0) == [Greet(ben)]
    assert room.greet(ben, b"\x07") == [
        Send(ben, SyncStep1(b"\x07")),
        Send(ben, Awareness((AwarenessEntry(1, 1, b"{}"),))),
    ]
    assert room.greet(ben, b"\x08") == [Send(ben, SyncStep1(b"\x08"))], "awareness only once"


def test_r1_nobody_is_greeted_after_leaving() -> None:
    room = Room("d")
    (ann,) = joined(room, Role.WRITE)
    room.leave(ann, 0)
    assert room.greet(ann, b"\x00") == []


def test_r2_sync_step_1_asks_for_an_answer() -> None:
    room = Room("d")
    (ann,) = joined(room, Role.WRITE)
    assert room.receive(ann, SyncStep1(b"\x05"), 0) == [Answer(ann, b"\x05")]


def test_r3_a_readers_update_changes_nothing_and_the_third_closes() -> None:
    room = Room("d")
    (reader,) = joined(room, Role.READ)
    for _ in range(MAX_REFUSED_WRITES - 1):
        assert room.receive(reader, Update(A), 0) == []
    (effect,) = room.receive(reader, Update(A), 0)
    assert isinstance(effect, Disconnect)
    assert effect.code is CloseCode.FORBIDDEN


def test_r3_a_readers_sync_step_2_is_only_probed_and_no_offence_when_it_holds_nothing_new() -> None:
    room = Room("d")
    (reader,) = joined(room, Role.READ)
    proposal = sync(room, reader, A)
    assert proposal.probe
    room.receive(reader, SyncStatus(b"\x03"), 0)
    receipt = recorded(room.probed(proposal, holds_new=False))
    assert receipt.updates == ()
    assert committed(room, receipt) == [Send(reader, SyncStatus(b"\x03"))]


def test_r3_a_readers_sync_step_2_with_something_new_is_refused_and_never_acknowledged() -> None:
    room = Room("d")
    (reader,) = joined(room, Role.READ)
    proposal = sync(room, reader, A)
    room.receive(reader, SyncStatus(b"\x03"), 0)
    assert room.probed(proposal, holds_new=True) == []
    assert room.receive(reader, SyncStatus(b"\x04"), 0) == []


def test_r4_the_only_author_sees_its_update_after_the_commit() -> None:
    room = Room("d")
    ann, ben = joined(room, Role.WRITE, Role.WRITE)
    effects = room.integrated(Integrated(taken=(write(room, ann, A),), merged=A))
    assert effects[0] == Broadcast(Update(A), frozenset({ann}))
    assert committed(room, recorded(effects)) == [Echo(Update(A), (ann,), may_wait=True)]
    assert ben in room.sessions


def test_r4_authors_who_share_a_batch_all_see_it_after_the_commit() -> None:
    room = Room("d")
    ann, ben, _cat = joined(room, Role.WRITE, Role.WRITE, Role.WRITE)
    effects = room.integrated(Integrated(taken=(write(room, ann, A), write(room, ben, B)), merged=AB))
    assert effects[0] == Broadcast(Update(AB), frozenset({ann, ben}))
    assert committed(room, recorded(effects)) == [Echo(Update(AB), (ann, ben))]


def test_r4_who_asks_with_sync_statuses_sees_a_shared_batch_at_once_and_its_own_never() -> None:
    room = Room("d")
    ann, ben = joined(room, Role.WRITE, Role.WRITE)
    room.receive(ann, SyncStatus(b"\x00"), 0)
    effects = room.integrated(Integrated(taken=(write(room, ann, A), write(room, ben, B)), merged=AB))
    assert effects[0] == Broadcast(Update(AB), frozenset({ben}))
    assert committed(room, recorded(effects)) == [Echo(Update(AB), (ben,))]
    effects = room.integrated(Integrated(taken=(write(room, ann, A),), merged=A))
    assert effects[0] == Broadcast(Update(A), frozenset({ann}))
    assert committed(room, recorded(effects)) == []


def test_r5_what_another_node_sends_is_broadcast_only() -> None:
    room = Room("d")
    joined(room, Role.WRITE)
    assert room.heard(A) == [Broadcast(Update(A))]
    assert room.heard(None) == []


def test_r6_r7_updates_are_recorded_as_received_and_published_merged() -> None:
    room = Room("d")
    ann, ben = joined(room, Role.WRITE, Role.WRITE)
    effects = room.integrated(Integrated(taken=(write(room, ann, A), write(room, ben, B)), merged=AB))
    assert effects[2] == Publish(Update(AB), recorded(effects)), "after it was recorded, which names its log entries"
    assert recorded(effects).updates == ((A, "u0"), (B, "u1"))


def test_r8_a_long_commit_shows_the_authors_of_a_batch_each_others_edits() -> None:
    room = Room("d")
    ann, ben = joined(room, Role.WRITE, Role.WRITE)
    shared = recorded(room.integrated(Integrated(taken=(write(room, ann, A), write(room, ben, B)), merged=AB)))
    assert room.delayed(shared) == [Send(ann, Update(B)), Send(ben, Update(A))]
    alone = recorded(room.integrated(Integrated(taken=(write(room, ann, A),), merged=A)))
    assert room.delayed(alone) == []


def test_r12_who_waits_for_a_shared_batch_sees_what_follows_behind_it() -> None:
    room = Room("d")
    ann, ben, cat = joined(room, Role.WRITE, Role.WRITE, Role.WRITE)
    shared = recorded(room.integrated(Integrated(taken=(write(room, ann, A), write(room, ben, B)), merged=AB)))
    effects = room.integrated(Integrated(taken=(write(room, cat, b"\x01c"),), merged=b"\x01c"))
    assert effects[0] == Broadcast(Update(b"\x01c"), frozenset({ann, ben, cat})), (
        "it follows on what they have not seen"
    )
    assert room.waits_to_see(ann)
    assert committed(room, shared) == [
        Echo(Update(AB), (ann, ben)),
        Send(ann, Update(b"\x01c")),
        Send(ben, Update(b"\x01c")),
    ]
    assert not room.waits_to_see(ann)
    assert room.heard(A) == [Broadcast(Update(A))]


def test_r12_a_second_shared_batch_is_waited_for_as_well() -> None:
    room = Room("d")
    ann, ben, cat = joined(room, Role.WRITE, Role.WRITE, Role.WRITE)
    first = recorded(room.integrated(Integrated(taken=(write(room, ann, A), write(room, ben, B)), merged=AB)))
    later = room.integrated(Integrated(taken=(write(room, ann, A), write(room, cat, B)), merged=b"\x01ac"))
    assert later[0] == Broadcast(Update(b"\x01ac"), frozenset({ann, ben, cat}))
    assert committed(room, first) == [Echo(Update(AB), (ann, ben)), Send(ben, Update(b"\x01ac"))]
    assert committed(room, recorded(later)) == [Echo(Update(b"\x01ac"), (ann, cat))]


def test_r8_r12_while_a_commit_takes_long_what_follows_is_shown_too() -> None:
    room = Room("d")
    ann, ben, cat = joined(room, Role.WRITE, Role.WRITE, Role.WRITE)
    shared = recorded(room.integrated(Integrated(taken=(write(room, ann, A), write(room, ben, B)), merged=AB)))
    room.integrated(Integrated(taken=(write(room, cat, b"\x01c"),), merged=b"\x01c"))
    assert room.delayed(shared) == [
        Send(ann, Update(B)),
        Send(ann, Update(b"\x01c")),
        Send(ben, Update(A)),
        Send(ben, Update(b"\x01c")),
    ]
    assert committed(room, shared) == [Echo(Update(AB), (ann, ben))]


def test_r9_an_update_that_waits_is_taken_and_its_sender_asked_once() -> None:
    room = Room("d")
    (ann,) = joined(room, Role.WRITE)
    first, second = write(room, ann, A), write(room, ann, B)
    effects = room.integrated(Integrated(taken=(first,), merged=A, waiting=(first,)))
    assert Greet(ann) in effects
    assert recorded(effects).updates == ((A, "u0"),)
    effects = room.integrated(Integrated(taken=(second,), merged=B, waiting=(second,)))
    assert Greet(ann) in effects, "something was taken in between, so it may be asked again"


def test_k6_a_waiting_update_is_confirmed_by_the_sync_step_2_that_brings_what_it_waits_for() -> None:
    room = Room("d")
    ann, ben = joined(room, Role.WRITE, Role.WRITE)
    settle(room, sync(room, ann))
    settle(room, sync(room, ben))
    waiting, ready, other = write(room, ann, A), write(room, ann, AB), write(room, ben, B)
    room.receive(ann, SyncStatus(b"\x01"), 1.0)
    ann.speaks_sync_status = False
    effects = room.integrated(Integrated(taken=(waiting, ready, other), merged=AB, waiting=(waiting,)))
    assert Broadcast(Update(B), frozenset((ben,))) in effects, "ann hears of ben at once"
    receipts = [effect.receipt for effect in effects if isinstance(effect, Record)]
    assert [committed(room, receipt) for receipt in receipts] == [
        [],
        [Echo(Update(AB), (ann,), may_wait=True)],
        [Echo(Update(B), (ben,), may_wait=True)],
    ], "all is confirmed but what waits"
    effects = settle(room, sync(room, ann))
    assert effects == [Echo(Update(A), (ann,), may_wait=True), Send(ann, SyncStatus(b"\x01"))]


def test_k6_who_repeats_what_waits_is_confirmed_by_the_sync_step_2_too() -> None:
    room = Room("d")
    (ann,) = joined(room, Role.WRITE)
    settle(room, sync(room, ann))
    proposal = write(room, ann, A)
    room.receive(ann, SyncStatus(b"\x01"), 1.0)
    ann.speaks_sync_status = False
    effects = room.integrated(Integrated(still_waiting=(proposal,)))
    assert Greet(ann) in effects
    assert recorded(effects).updates == (), "it is recorded already"
    assert committed(room, recorded(effects)) == [], "nor called saved"
    assert settle(room, sync(room, ann)) == [Echo(Update(A), (ann,), may_wait=True), Send(ann, SyncStatus(b"\x01"))]
    again = room.integrated(Integrated(still_waiting=(write(room, ann, B),)))
    assert Greet(ann) in again, "the first question was answered"


def test_k6_an_answer_that_lacks_what_it_was_to_bring_is_the_last() -> None:
    room = Room("d")
    (ann,) = joined(room, Role.WRITE)
    settle(room, sync(room, ann))
    committed(room, recorded(room.integrated(Integrated(still_waiting=(write(room, ann, A),)))))
    answer = sync(room, ann, AB)
    effects = room.integrated(Integrated(still_waiting=(answer,)))
    assert len(effects) == 1, "ann is not asked without end for what her client does not have"
    assert committed(room, recorded(effects)) == [
        Echo(Update(AB), (ann,), may_wait=True),
        Echo(Update(A), (ann,), may_wait=True),
    ]


@pytest.mark.parametrize("repeats", [False, True])
def test_who_sends_without_end_what_waits_and_never_answers_is_sent_away(*, repeats: bool) -> None:
    def sent(update: bytes) -> list[Effect]:
        proposal = write(room, ann, update)
        if repeats:
            return room.integrated(Integrated(still_waiting=(proposal,)))
        return room.integrated(Integrated(taken=(proposal,), merged=update, waiting=(proposal,)))

    room = Room("d")
    (ann,) = joined(room, Role.WRITE)
    settle(room, sync(room, ann))
    assert Greet(ann) in sent(bytes(MAX_UNPROVEN_BYTES - UNPROVEN_BYTES)), "one may be as large as it likes"
    assert not any(isinstance(effect, Disconnect) for effect in sent(A))
    (effect,) = [effect for effect in sent(B) if isinstance(effect, Disconnect)]
    assert effect.code.retry, "it may be an honest one"
    settle(room, sync(room, ann))
    assert not any(isinstance(effect, Disconnect) for effect in sent(A)), "it answered"


def test_of_who_asks_with_statuses_nothing_is_kept_to_be_echoed() -> None:
    room = Room("d")
    (ann,) = joined(room, Role.WRITE)
    room.receive(ann, SyncStatus(b"\x01"), 1.0)
    room.integrated(Integrated(still_waiting=(write(room, ann, bytes(MAX_UNPROVEN_BYTES)),)))
    assert Greet(ann) not in room.integrated(Integrated(still_waiting=(write(room, ann, A),))), "it was asked"
    assert (ann.unproven, ann.synced) == ([], False)


def test_k6_an_answer_that_was_refused_proves_nothing() -> None:
    room = Room("d")
    (ann,) = joined(room, Role.WRITE)
    settle(room, sync(room, ann))
    waits = write(room, ann, A)
    receipt = recorded(room.integrated(Integrated(taken=(waits,), merged=A, waiting=(waits,))))
    room.change_role(ann, Role.READ)
    room.probed(sync_probe(room, ann), holds_new=True)
    assert committed(room, receipt) == []


def test_r10_k4_a_repetition_is_confirmed_after_what_it_repeats() -> None:
    room = Room("d")
    (ann,) = joined(room, Role.WRITE)
    proposal = write(room, ann, A)
    effects = room.integrated(Integrated(repeated=(proposal,)))
    receipt = recorded(effects)
    assert len(effects) == 1
    assert receipt.updates == ()
    assert committed(room, receipt) == [Echo(Update(A), (ann,), may_wait=True)]


def test_r10_a_repetition_without_structs_is_not_echoed() -> None:
    room = Room("d")
    (ann,) = joined(room, Role.WRITE)
    assert settle(room, sync(room, ann)) == []


def test_k2_a_refused_update_is_never_acknowledged() -> None:
    room = Room("d")
    (ann,) = joined(room, Role.WRITE)
    settle(room, sync(room, ann))
    proposal = write(room, ann, A)
    room.receive(ann, SyncStatus(b"\x01"), 0)
    effects = room.integrated(Integrated(refused=((proposal, CloseCode.MALFORMED, "bad"),)))
    assert effects == [Disconnect(ann, CloseCode.MALFORMED, "bad")]


def test_who_sent_much_that_is_refused_is_sent_away_once() -> None:
    room = Room("d")
    (ann,) = joined(room, Role.WRITE)
    refused = tuple((write(room, ann, A), CloseCode.MALFORMED, f"bad {number}") for number in range(3))
    assert room.integrated(Integrated(refused=refused)) == [Disconnect(ann, CloseCode.MALFORMED, "bad 0")]


def test_k3_a_sync_status_waits_for_every_write_before_it() -> None:
    room = Room("d")
    (ann,) = joined(room, Role.WRITE)
    settle(room, sync(room, ann))
    first = recorded(room.integrated(Integrated(taken=(write(room, ann, A),), merged=A)))
    assert room.receive(ann, SyncStatus(b"\x01"), 0) == []
    second = recorded(room.integrated(Integrated(taken=(write(room, ann, B),), merged=B)))
    assert room.receive(ann, SyncStatus(b"\x02"), 0) == []
    assert Send(ann, SyncStatus(b"\x01")) in committed(room, first)
    assert Send(ann, SyncStatus(b"\x02")) in committed(room, second)
    assert room.receive(ann, SyncStatus(b"\x02"), 0) == [Send(ann, SyncStatus(b"\x02"))], (
        "a heartbeat when all is saved"
    )


def test_k3_only_the_newest_due_status_is_echoed() -> None:
    room = Room("d")
    (ann,) = joined(room, Role.WRITE)
    settle(room, sync(room, ann))
    receipt = recorded(room.integrated(Integrated(taken=(write(room, ann, A),), merged=A)))
    for version in (b"\x01", b"\x02", b"\x03"):
        room.receive(ann, SyncStatus(version), 0)
    assert committed(room, receipt) == [Send(ann, SyncStatus(b"\x03"))]


def test_k3_nothing_is_echoed_before_the_first_sync_step_2_is_saved() -> None:
    room = Room("d")
    (ann,) = joined(room, Role.WRITE)
    assert room.receive(ann, SyncStatus(b"\x05"), 0) == [], "offline edits may still be in the browser"
    proposal = sync(room, ann, A)
    effects = room.integrated(Integrated(taken=(proposal,), merged=A))
    assert room.receive(ann, SyncStatus(b"\x05"), 0) == []
    assert Send(ann, SyncStatus(b"\x05")) in committed(room, recorded(effects))


def test_w4_a_few_unknown_messages_are_ignored_and_many_close() -> None:
    room = Room("d")
    (ann,) = joined(room, Role.WRITE)
    for _ in range(MAX_UNKNOWN_MESSAGES):
        assert room.receive(ann, Unknown(77), 0) == []
    (effect,) = room.receive(ann, Unknown(77), 0)
    assert isinstance(effect, Disconnect)
    assert effect.code is CloseCode.MALFORMED


def test_awareness_is_flushed_once_without_its_author_and_published() -> None:
    room = Room("d")
    ann, _ = joined(room, Role.WRITE, Role.WRITE)
    entry = AwarenessEntry(1, 1, b"{}")
    assert room.receive(ann, Awareness((entry,)), 0) == []
    assert room.flush_awareness(0) == [
        Broadcast(Awareness((entry,)), frozenset({ann})),
        PublishAwareness((PeerEntry(entry, "u0", 0),)),
    ]
    assert room.flush_awareness(0) == []


def test_r5_awareness_of_another_node_is_not_published_again() -> None:
    room = Room("d")
    joined(room, Role.WRITE)
    entry = AwarenessEntry(1, 1, b"{}")
    room.awareness.receive_from_node("other", (PeerEntry(entry, "u9", 0),), 0)
    assert room.flush_awareness(0) == [Broadcast(Awareness((entry,)))]


def test_a2_a_session_that_leaves_is_removed_for_the_others() -> None:
    room = Room("d")
    ann, _ = joined(room, Role.WRITE, Role.WRITE)
    room.receive(ann, Awareness((AwarenessEntry(1, 1, b"{}"),)), 0)
    room.flush_awareness(0)
    room.leave(ann, 1)
    assert room.flush_awareness(0)[0] == Broadcast(Awareness((AwarenessEntry(1, 1, None),)))
    room.leave(ann, 2)
    assert room.flush_awareness(0) == []


def test_query_awareness_is_answered_with_everybody() -> None:
    room = Room("d")
    ann, ben = joined(room, Role.WRITE, Role.READ)
    room.receive(ann, Awareness((AwarenessEntry(1, 1, b"{}"),)), 0)
    assert room.receive(ben, QueryAwareness(), 0) == [Send(ben, Awareness((AwarenessEntry(1, 1, b"{}"),)))]


def test_r11_everybody_hears_something_every_period() -> None:
    room = Room("d", keep_alive_every=10)
    joined(room, Role.WRITE)
    assert room.tick(100) == [Broadcast(KEEP_ALIVE)]
    assert room.tick(105) == []
    assert room.tick(110) == [Broadcast(KEEP_ALIVE)]


def test_r11_a_sync_status_that_has_to_wait_is_kept_alive_sooner() -> None:
    room = Room("d")
    ann, _ = joined(room, Role.WRITE, Role.WRITE)
    room.tick(100)
    room.receive(ann, SyncStatus(b"\x01"), 100.0)
    assert room.tick(100.5) == []
    assert room.tick(101.5) == [Send(ann, KEEP_ALIVE)]


def test_r4_what_an_update_repeats_is_not_shown_to_whoever_wrote_it() -> None:
    room = Room("d")
    ann, ben = joined(room, Role.WRITE, Role.WRITE)
    first, relay = write(room, ann, A), write(room, ben, AB)
    effects = room.integrated(Integrated(taken=(first, relay), merged=AB, brought={relay: B}))
    assert [effect for effect in effects if isinstance(effect, Broadcast)] == [
        Broadcast(Update(A), frozenset({ann})),
        Broadcast(Update(B), frozenset({ben})),
    ]
    of_ann, of_ben = [effect.receipt for effect in effects if isinstance(effect, Record)]
    assert committed(room, of_ann) == [Echo(Update(A), (ann,), may_wait=True)]
    assert committed(room, of_ben) == [Echo(Update(AB), (ben,), may_wait=True)], "all it wrote is confirmed"


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize(
    "message",
    [
        SyncStep1(b"\x00"),
        SyncStep2(A),
        Update(A),
        Awareness((AwarenessEntry(7, 1, b"{}"),)),
        QueryAwareness(),
        SyncStatus(b"\x01"),
        Renewal(b"token"),
        Unknown(77),
    ],
    ids=lambda message: type(message).__name__,
)
def test_e03_only_an_update_asks_for_a_role_and_only_a_writers_changes_anything(role: Role, message: Message) -> None:
    room = Room("d")
    (session,) = joined(room, role)
    effects = room.receive(session, message, 1.0)
    changing = [effect for effect in effects if isinstance(effect, Integrate) and not effect.proposal.probe]
    assert bool(changing) == (role.writes and isinstance(message, Update | SyncStep2))
    assert session.refused_writes == (not role.writes and isinstance(message, Update))
    assert not any(isinstance(effect, Disconnect) for effect in effects)


def test_g6_what_a_writer_sent_before_it_became_a_reader_stays() -> None:
    room = Room("d")
    writer, other = joined(room, Role.WRITE, Role.READ)
    before = write(room, writer, A)
    assert room.change_role(writer, Role.READ) == []
    effects = room.integrated(Integrated(taken=(before,), merged=A))
    assert Broadcast(Update(A), frozenset((writer,))) in effects
    assert committed(room, recorded(effects)) == [Echo(Update(A), (writer,), may_wait=True)]
    assert room.receive(writer, Update(B), 2.0) == []
    assert writer.refused_writes == 1
    assert other.role is Role.READ


def test_g6_who_may_write_again_is_asked_for_what_was_refused_and_told_nothing_before_it_came() -> None:
    room = Room("d")
    (session,) = joined(room, Role.READ)
    settle(room, sync_probe(room, session))
    assert room.receive(session, Update(A), 1.0) == []
    assert room.change_role(session, Role.WRITE) == [Greet(session)]
    following = write(room, session, B)
    assert room.receive(session, SyncStatus(b"\x01"), 1.0) == []
    assert settle(room, following) == []
    assert Send(session, SyncStatus(b"\x01")) in settle(room, sync(room, session, AB))


def sync_probe(room: Room, session: Session) -> Proposal:
    proposal = sync(room, session)
    assert proposal.probe
    return proposal


def test_g6_a_role_that_writes_as_before_asks_for_nothing() -> None:
    room = Room("d")
    writer, gone = joined(room, Role.WRITE, Role.READ)
    assert room.change_role(writer, Role.ADMIN) == []
    assert room.change_role(writer, Role.WRITE) == []
    room.leave(gone, 2.0)
    assert room.change_role(gone, Role.WRITE) == []


def test_d11_a_new_token_is_the_servers_business() -> None:
    room = Room("d")
    (session,) = joined(room, Role.READ)
    assert room.receive(session, Renewal(b"token"), 1.0) == [Renew(session, b"token")]
