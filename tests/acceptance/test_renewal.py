"""Message 103: a client renews its token within its session; who does not know of it sees nothing of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from collab.errors import CloseCode
from collab.protocol.messages import Renewal, TimeLeft
from collab.server import admission
from collab.server.auth import LEEWAY_S, open_access
from collab.store import MemoryStore
from tests.acceptance.test_live_access import Away
from tests.support.live import LiveNode, Socket, bearer, live_nodes, token

READ, WRITE = {"documents": {"d": "read"}}, {"documents": {"d": "write"}}
HELLO = Renewal(b"")


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
async def node(store: MemoryStore) -> AsyncIterator[LiveNode]:
    async with live_nodes(store=store) as (made,):
        await made.ask("post", "/v1/documents", json={"name": "d"})
        yield made


def ending(seconds: float) -> datetime:
    """An `exp` with which a session is closed after so many seconds, less than one given or taken."""
    return datetime.now(UTC) + timedelta(seconds=seconds - LEEWAY_S)


async def expiring(node: LiveNode, **claims: Any) -> Socket:
    """A session of ben with two seconds left."""
    return await (await node.connect("d", token("ben", exp=ending(2), **{**READ, **claims}))).joined()


def renewal(sub: str = "ben", **claims: Any) -> Renewal:
    return Renewal(token(sub, **{**READ, **claims}).encode())


async def role(node: LiveNode) -> str:
    (one,) = (await node.ask("get", "/v1/documents/d/presence")).json()["present"]
    found: str = one["role"]
    return found


async def test_d11_a_client_is_asked_in_time_and_stays_with_a_new_token(node: LiveNode) -> None:
    ben = await expiring(node)
    ben.send(HELLO)
    asked = await ben.receives(TimeLeft)
    assert asked.seconds <= 2
    ben.send(renewal(**WRITE))
    answered = await ben.receives(TimeLeft, 2)
    assert 3600 <= answered.seconds <= 3600 + LEEWAY_S
    assert await role(node) == "write"
    assert ben.closed_with is None


async def test_d11_who_never_sends_a_token_is_told_nothing_and_closed_when_its_own_expires(node: LiveNode) -> None:
    ben = await expiring(node)
    assert await ben.closed() == CloseCode.UNAUTHENTICATED.code
    assert ben.of(TimeLeft) == []


async def test_d11_who_was_asked_and_does_not_answer_is_closed(node: LiveNode) -> None:
    ben = await expiring(node)
    ben.send(HELLO)
    assert await ben.closed() == CloseCode.UNAUTHENTICATED.code
    assert len(ben.of(TimeLeft)) == 1


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (Renewal(b"nonsense"), CloseCode.UNAUTHENTICATED),
        (renewal("eve"), CloseCode.UNAUTHENTICATED),
        (renewal("anonymous"), CloseCode.UNAUTHENTICATED),
        (renewal(exp=datetime(2001, 1, 1, tzinfo=UTC)), CloseCode.UNAUTHENTICATED),
        (Renewal(b"ct_" + b"A" * 43), CloseCode.UNAUTHENTICATED),
        (Renewal(b"cl_" + b"A" * 43), CloseCode.UNAUTHENTICATED),
        (renewal(documents={"e": "write"}), CloseCode.FORBIDDEN),
    ],
    ids=["garbage", "another subject", "nobody", "expired", "no ticket", "no link", "no role here"],
)
async def test_d11_a_bad_new_token_closes_the_session(node: LiveNode, sent: Renewal, code: CloseCode) -> None:
    ben = await (await node.connect("d", token("ben", **READ))).joined()
    ben.send(sent)
    assert await ben.closed() == code.code


async def test_d11_a_new_token_that_is_revoked_closes_the_session(node: LiveNode) -> None:
    ben = await (await node.connect("d", token("ben", jti="old", **READ))).joined()
    await node.ask("post", "/v1/revocations", json={"token_id": "new", "not_before": "2100-01-01T00:00:00Z"})
    ben.send(renewal(jti="new"))
    assert await ben.closed() == CloseCode.UNAUTHENTICATED.code


async def test_g7_what_counts_after_a_renewal_is_the_new_token(node: LiveNode) -> None:
    ben = await (await node.connect("d", token("ben", jti="old", **READ))).joined()
    ben.send(renewal(jti="new"))
    await ben.receives(TimeLeft)
    ever = {"not_before": "2100-01-01T00:00:00Z"}
    await node.ask("post", "/v1/revocations", json={"token_id": "old", **ever})
    assert await role(node) == "read"
    assert ben.closed_with is None
    await node.ask("post", "/v1/revocations", json={"token_id": "new", **ever})
    assert await ben.closed() == CloseCode.UNAUTHENTICATED.code


async def test_a_client_may_renew_by_ticket(node: LiveNode) -> None:
    ben = await expiring(node)
    answer = await node.ask("post", "/v1/tickets", bearer("ben", **READ), json={"document": "d"})
    ben.send(Renewal(answer.json()["ticket"].encode()))
    assert (await ben.receives(TimeLeft)).seconds > 3000


@pytest.mark.parametrize(("first", "second"), [("read", None), ("read", "write"), ("write", "read")])
async def test_g8_a_new_token_does_not_lift_what_a_ticket_was_made_out_for(
    node: LiveNode, first: str, second: str | None
) -> None:
    async def ticket(role: str) -> str:
        answer = await node.ask("post", "/v1/tickets", bearer("ben", **WRITE), json={"document": "d", "role": role})
        made: str = answer.json()["ticket"]
        return made

    ben = await (await node.connect("d", query=await ticket(first))).joined()
    ben.send(renewal(**WRITE) if second is None else Renewal((await ticket(second)).encode()))
    await ben.receives(TimeLeft)
    assert await role(node) == "read"
    assert ben.closed_with is None


async def test_while_the_database_is_away_a_new_token_waits(node: LiveNode, store: MemoryStore) -> None:
    ben = await (await node.connect("d", token("ben", **READ))).joined()
    away = Away(store.grants)
    store.grants = away  # type: ignore[assignment]
    away.away = True
    ben.send(renewal(**WRITE))
    await away.refused.wait()
    assert (ben.of(TimeLeft), ben.closed_with) == ([], None)
    away.away = False
    await ben.receives(TimeLeft)
    assert await role(node) == "write"


async def test_where_nothing_expires_a_token_means_nothing() -> None:
    async with live_nodes(authenticate=open_access) as (node,):
        somebody = await (await node.connect("d")).joined()
        somebody.send(HELLO, Renewal(b"nonsense"))
        assert (await node.ask("get", "/v1/documents/d/presence", {})).json()["present"] != []
        assert (somebody.closed_with, somebody.of(TimeLeft)) == (None, [])


async def test_a_session_does_not_outlive_its_hard_limit_whatever_tokens_it_shows(
    node: LiveNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "MAX_SESSION_S", 1.0)
    ben = await (await node.connect("d", token("ben", **READ))).joined()
    ben.send(HELLO, renewal())
    assert await ben.closed() == CloseCode.DEADLINE.code  # which tells it to come back
