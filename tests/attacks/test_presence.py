"""Attacks by presence (C01 to C08): speaking for others, wearing their names, floods, bombs and ghosts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from collab.errors import CloseCode
from collab.room.session import Role
from tests.attacks.conftest import Ground
from tests.attacks.peer import Peer
from tests.support import wire
from tests.support.door import Door
from tests.support.issued import MARK
from tests.support.tokens import token

MALFORMED = CloseCode.MALFORMED
VICTIM, ATTACKER = 1001, 6666


def entries(payload: bytes) -> dict[int, tuple[int, Any]]:
    """Client -> (clock, state) of one awareness message."""
    count, at = wire.read(payload, 0)
    found = {}
    for _ in range(count):
        client, at = wire.read(payload, at)
        clock, at = wire.read(payload, at)
        size, at = wire.read(payload, at)
        found[client] = (clock, json.loads(payload[at : at + size]))
        at += size
    return found


def present(door: Door, *, token: str | None = None) -> dict[int, Any]:
    """Who is shown to somebody who asks."""
    with Peer(door, token=token) as newcomer:
        newcomer.send(bytes([wire.QUERY_AWARENESS]))
        while True:
            # The answer comes behind what everybody is greeted with, and is never a sign of life alone.
            newcomer.catch_up()
            told = [entries(payload) for kind, _, payload in newcomer.seen if kind == wire.AWARENESS]
            if told:
                return {client: state for client, (_, state) in told[-1].items() if state is not None}


def said(peer: Peer, client: int, clock: int, state: Any) -> None:
    """Say something, and wait until it was taken."""
    peer.send(wire.awareness((client, clock, json.dumps(state))))
    peer.catch_up()


@pytest.mark.parametrize("clock", [1, 2, 3, 100, 2**32 - 1])
@pytest.mark.parametrize("state", [None, {"user": {"name": "victim, says the attacker"}}])
def test_c01_nobody_speaks_for_somebody_else(ground: Ground, clock: int, state: Any) -> None:
    with Peer(ground.door) as victim, Peer(ground.door) as attacker, Peer(ground.door) as viewer:
        said(victim, VICTIM, 2, {"at": 7})
        viewer.catch_up()
        said(attacker, ATTACKER, 1, {"at": 1})
        said(attacker, VICTIM, clock, state)
        attacker.send(wire.awareness((ATTACKER, 2, '{"at":2}'), (VICTIM, clock, json.dumps(state))))
        attacker.catch_up()
        viewer.catch_up()
        assert present(ground.door) == {VICTIM: {"at": 7}, ATTACKER: {"at": 2}}
        for kind, _, payload in viewer.seen:
            if kind == wire.AWARENESS and VICTIM in (told := entries(payload)):
                assert told[VICTIM] == (2, {"at": 7})


def test_c01_who_speaks_only_for_others_is_nobody_and_is_not_closed(guarded: Ground) -> None:
    """Honest clients echo others' entries, so it is no offence; a first entry for somebody present binds to nobody."""
    door = guarded.door
    with Peer(door, token=token(sub="victim", access="write")) as victim:
        said(victim, VICTIM, 2, {"at": 7})
        with Peer(door, token=token(sub="evil", access="write")) as attacker:
            for clock in (1, 2, 3, 50):
                said(attacker, VICTIM, clock, {"at": 0})
            attacker.send(*[wire.awareness((VICTIM, 60, "null"))] * 200)
            attacker.catch_up()
            assert present(door, token=token(sub="viewer", access="read")) == {VICTIM: {"at": 7}}
        assert present(door, token=token(sub="viewer", access="read")) == {VICTIM: {"at": 7}}


@pytest.mark.parametrize(
    "user",
    [
        {"name": "Administrator", "color": "#000000", "id": "root"},
        {"name": "<img src=x onerror=alert(1)>", "color": "red;background:url(//evil/x)"},
        "a string", None, ["Administrator"], 7, {"name": {"toString": "x"}, "avatar": "//evil/x.png"},
    ],
    ids=str,
)  # fmt: skip
def test_c03_the_name_shown_is_the_tokens(guarded: Ground, user: Any) -> None:
    mallory = token(sub="m", name="Mallory", color="#112233", access="write")
    with Peer(guarded.door, token=mallory) as attacker:
        said(attacker, ATTACKER, 1, {"user": user, "cursor": {"anchor": 1}, "text": MARK})
        shown = present(guarded.door, token=mallory)[ATTACKER]
        assert shown["user"] == {"id": "m", "name": "Mallory", "color": "#112233"}
        assert shown["cursor"] == {"anchor": 1}
    assert MARK not in guarded.door.server.output


def test_c03_a_colour_of_ones_own_is_a_colour(guarded: Ground) -> None:
    plain = token(sub="m", name="Mallory", access="write")
    for clock, (claimed, shown) in enumerate(
        (("#AABBCC", "#AABBCC"), ("red;background:url(//evil/x)", None), ("#12345", None), ({"r": 1}, None)), 1
    ):
        with Peer(guarded.door, token=plain) as attacker:
            said(attacker, ATTACKER, clock, {"user": {"name": "x", "color": claimed}})
            assert present(guarded.door, token=plain)[ATTACKER]["user"].get("color") == shown


STATES = {
    "1-MiB": '{"a":"' + "x" * 1_048_576 + '"}',
    "one-byte-over": '{"a":"' + "x" * (8 * 1024 - 7) + '"}',
    "10000-arrays-deep": '{"a":' + "[" * 3_000 + "]" * 3_000 + "}",
    "9-objects-deep": '{"a":' * 9 + "1" + "}" * 9,
    "array": "[1]",
    "string": '"x"',
    "number": "7",
    "true": "true",
    "nothing": "",
    "NaN": '{"a":NaN}',
    "Infinity": '{"a":-Infinity}',
    "trailing-comma": '{"a":1,}',
    "two-values": "{}{}",
    "unquoted": "{a:1}",
    "half-a-string": '{"a":"',
    "control-character": '{"a":"\x01"}',
    "null-and-more": "null ",
}


@pytest.mark.parametrize("name", STATES)
def test_c04_a_state_that_is_no_small_object_closes_its_session(ground: Ground, name: str) -> None:
    with Peer(ground.door) as viewer, Peer(ground.door) as attacker:
        viewer.catch_up()
        attacker.send(wire.awareness((ATTACKER, 1, STATES[name])))
        assert attacker.closing() == (MALFORMED.code, MALFORMED.reason)
        viewer.catch_up()
        assert not [entry for kind, _, entry in viewer.seen if kind == wire.AWARENESS and entries(entry)]


def test_c04_a_state_that_is_not_utf_8_closes_its_session(ground: Ground) -> None:
    body = b"\x01" + wire.varuint(ATTACKER) + b"\x01" + wire.prefixed(b'{"a":"\xff"}')
    with Peer(ground.door) as attacker:
        attacker.send(bytes([wire.AWARENESS]) + wire.prefixed(body))
        assert attacker.closing() == (MALFORMED.code, MALFORMED.reason)


def test_c04_an_integer_of_5000_digits_is_shown_or_refused_and_nothing_breaks(ground: Ground, guarded: Ground) -> None:
    """JSON allows it and browsers read it as Infinity. Where the server must write the state anew it refuses it."""
    state = '{"a":' + "9" * 5_000 + "}"
    with Peer(ground.door) as attacker, Peer(ground.door) as viewer:
        attacker.send(wire.awareness((ATTACKER, 1, state)))
        attacker.catch_up()
        viewer.catch_up()
    with Peer(guarded.door, token=token(name="Mallory", access="write")) as attacker:
        attacker.send(wire.awareness((ATTACKER, 1, state)))
        assert attacker.closing() == (MALFORMED.code, MALFORMED.reason)


@pytest.mark.parametrize("count", [1_001, 20_000])
def test_c05_more_entries_than_a_room_has_sessions_close_their_session(ground: Ground, count: int) -> None:
    with Peer(ground.door) as attacker:
        attacker.send(wire.awareness(*((client, 1, "null") for client in range(1, count + 1))))
        assert attacker.closing() == (MALFORMED.code, MALFORMED.reason)


def test_c05_removals_of_nobody_are_kept_for_nobody(ground: Ground) -> None:
    with Peer(ground.door) as attacker, Peer(ground.door) as viewer:
        said(attacker, ATTACKER, 1, {"at": 1})
        for start in range(10_000, 60_000, 1_000):
            attacker.send(wire.awareness(*((client, 9, "null") for client in range(start, start + 1_000))))
        attacker.catch_up()
        viewer.catch_up()
        assert present(ground.door) == {ATTACKER: {"at": 1}}
        told = [entries(payload) for kind, _, payload in viewer.seen if kind == wire.AWARENESS]
        assert set().union(*told) <= {ATTACKER}


def test_c06_a_thousand_states_at_once_are_shown_as_a_few(ground: Ground) -> None:
    """The newest counts. What is refused when it goes on and on is the business of the rate limit."""
    with Peer(ground.door) as attacker, Peer(ground.door) as viewer:
        viewer.catch_up()
        attacker.send(*(wire.awareness((ATTACKER, clock, f'{{"at":{clock}}}')) for clock in range(1, 1_001)))
        attacker.catch_up()
        last: dict[int, tuple[int, Any]] = {}
        while last.get(ATTACKER) != (1_000, {"at": 1_000}):
            last = entries(viewer.hear(wire.AWARENESS))
        shown = [entry for kind, _, entry in viewer.seen if kind == wire.AWARENESS and entries(entry)]
        assert len(shown) < 500


def test_c07_who_comes_back_as_somebody_new_leaves_no_ghosts(ground: Ground) -> None:
    with Peer(ground.door) as viewer:
        for client in range(2_000, 2_030):
            with Peer(ground.door) as ghost:
                said(ghost, client, 1, {"at": client})
        shown: dict[int, Any] = dict.fromkeys(range(2000, 2030))
        gone: set[int] = set()
        while gone != set(shown):
            for client, (_, state) in entries(viewer.hear(wire.AWARENESS)).items():
                gone = gone | {client} if state is None else gone - {client}
        said(viewer, VICTIM, 1, {})
        assert present(ground.door) == {VICTIM: {}}


@pytest.mark.parametrize("role", [role.value for role in Role])
def test_c08_every_role_is_shown_within_the_same_bounds(guarded: Ground, role: str) -> None:
    """A state is free but bounded for everybody: editors put their own fields there, so there is no list of them."""
    mine = token(sub=f"a {role}er", access=role)
    with Peer(guarded.door, token=mine) as viewer:
        said(viewer, VICTIM, 1, {"cursor": 3})
        assert present(guarded.door, token=mine) == {VICTIM: {"cursor": 3}}
        viewer.send(wire.awareness((VICTIM, 2, STATES["one-byte-over"])))
        assert viewer.closing() == (MALFORMED.code, MALFORMED.reason)
