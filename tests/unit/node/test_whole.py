"""Everybody who joins with nothing gets the same bytes, and what came since (SPEC R14)."""

from __future__ import annotations

import pytest

from collab.engine.inline import InlineEngine
from collab.node.outbox import Frame
from collab.node.whole import KEPT_FOR, LARGE_BYTES, MAX_SINCE, MAX_SINCE_BYTES, Whole
from collab.protocol.dialects.y_websocket import encode
from collab.protocol.messages import SyncStep1, SyncStep2, Update
from collab.protocol.yjs import EMPTY_UPDATE

from .conftest import Build, Client
from .support import Writer, text_of

STATE = b"state" * LARGE_BYTES


def test_r14_what_came_since_follows_the_state() -> None:
    whole = Whole()
    whole.integrated(b"nobody joins")
    assert whole.frames(0) == []
    whole.keep(STATE, 0)
    state = whole.frames(0)[0]
    whole.integrated(b"one")
    whole.integrated(None)
    frames = whole.frames(1)
    assert frames[0] is state
    sent = [Update(STATE), Update(b"one"), SyncStep2(EMPTY_UPDATE)]
    assert [frame.payloads for frame in frames] == [(encode(message),) for message in sent]


def test_r14_a_small_state_is_one_sync_step_2_until_something_is_integrated() -> None:
    whole = Whole()
    whole.keep(b"state", 0)
    whole.integrated(None)
    (frame,) = whole.frames(0)
    assert frame.payloads == (encode(SyncStep2(b"state")),)
    assert whole.frames(0) == [frame]
    whole.integrated(b"one")
    assert whole.frames(0) == []


def test_r14_a_large_state_follows_a_small_one_and_the_other_way_round() -> None:
    whole = Whole()
    whole.keep(b"state", 0)
    whole.keep(STATE, 0)
    assert len(whole.frames(0)) == 2
    whole.keep(b"state", 0)
    assert len(whole.frames(0)) == 1
    whole.forget()
    assert whole.frames(0) == []


@pytest.mark.parametrize("since", [[b"x"] * (MAX_SINCE + 1), [b"x" * (MAX_SINCE_BYTES + 1)]], ids=["many", "large"])
def test_r14_too_much_since_makes_it_worthless(since: list[bytes]) -> None:
    whole = Whole()
    whole.keep(STATE, 0)
    for update in since:
        whole.integrated(update)
    assert whole.frames(0) == []


def test_r14_it_is_kept_only_while_people_join() -> None:
    whole = Whole()
    whole.keep(STATE, 0)
    whole.tick(KEPT_FOR)
    assert whole.frames(KEPT_FOR)
    whole.tick(2 * KEPT_FOR + 0.1)
    assert not whole.frames(0)


class CountingEngine(InlineEngine):
    """Counts how often a whole document is encoded."""

    def __init__(self) -> None:
        super().__init__()
        self.wholes = 0

    async def diff(self, document: str, state_vector: bytes):  # type: ignore[no-untyped-def]
        self.wholes += state_vector == b"\x00"
        return await super().diff(document, state_vector)


async def test_r14_joiners_share_one_state_while_somebody_types_and_have_it_all_when_they_are_synced(
    build: Build,
) -> None:
    engine = CountingEngine()
    hub = build(engine=engine)
    ann, writer = await Client(hub, "ann").enter(), Writer()
    text = "x" * LARGE_BYTES
    ann.send(Update(writer.type(text)))
    for number in range(20):
        ann.send(Update(writer.type(f"{number} ")))
        text += f"{number} "
        await hub.recorder.flush()
        joiner = await Client(hub, f"joiner{number}").enter()
        joiner.send(SyncStep1(b"\x00"))
        await joiner.connection.receives(SyncStep2)
        messages = joiner.connection.messages
        synced = next(index for index, message in enumerate(messages) if isinstance(message, SyncStep2))
        before = [message.update for message in messages[: synced + 1] if isinstance(message, Update | SyncStep2)]
        assert text_of(*before) == text
    assert engine.wholes <= 3


async def test_r14_joiners_share_a_small_state_too_and_whoever_has_something_gets_a_diff(build: Build) -> None:
    engine = CountingEngine()
    hub = build(engine=engine)
    ann, writer = await Client(hub, "ann").enter(), Writer()
    ann.send(Update(writer.type("hello")))
    await hub.recorder.flush()
    before = engine.wholes
    for name in ("one", "two", "three"):
        joiner = await Client(hub, name).enter()
        joiner.send(SyncStep1(b"\x00"))
        answer = await joiner.connection.receives(SyncStep2)
        assert isinstance(answer, SyncStep2)
        assert text_of(answer.update) == "hello"
    assert engine.wholes == before + 1
    back = await Client(hub, "back").enter()
    back.send(SyncStep1(writer.doc.get_state()))
    assert await back.connection.receives(SyncStep2) == SyncStep2(EMPTY_UPDATE)


async def test_r14_a_large_document_is_not_answered_to_everybody_in_one_turn(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collab.node.answers.ANSWERED_BYTES", 1000)
    hub = build()
    ann, writer = await Client(hub, "ann").enter(), Writer()
    ann.send(Update(writer.type("x" * 2000)))
    await hub.recorder.flush()
    joiners = [await Client(hub, f"joiner{number}").enter() for number in range(10)]
    for joiner in joiners:
        joiner.send(SyncStep1(b"\x00"))
    ann.send(Update(writer.type("!")))
    for joiner in joiners:
        await joiner.connection.receives(SyncStep2)
    last = joiners[-1].connection.messages
    answer = next(index for index, message in enumerate(last) if isinstance(message, SyncStep2))
    assert any(isinstance(message, Update) for message in last[:answer]), "what was typed did not wait for all of them"


def test_a_frame_knows_its_size() -> None:
    assert Frame(b"ab", b"c").size == 3
