"""What changes in grants, links and revocations while people are connected: on every node, in place or by a close."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from collab.bus import MemoryBus
from collab.errors import CloseCode, StoreUnavailable
from collab.node import ConnectionLimits
from collab.protocol.messages import SyncStatus, SyncStep1, SyncStep2, Update
from collab.room.room import MAX_REFUSED_WRITES
from collab.store import MemoryStore
from tests.support.live import PATIENCE_SECONDS, LiveNode, Socket, bearer, live_nodes, token
from tests.unit.node.support import Writer, text_of

WITHOUT_BUS, WITH_BUS = "without a bus", "with a bus"
READ, WRITE = {"documents": {"d": "read"}}, {"documents": {"d": "write"}}


@pytest.fixture(params=[WITHOUT_BUS, WITH_BUS])
async def nodes(request: pytest.FixtureRequest) -> AsyncIterator[list[LiveNode]]:
    """Two nodes on one database; the documents d and e are there."""
    async with live_nodes(2, bus=MemoryBus() if request.param == WITH_BUS else None) as made:
        for name in ("d", "e"):
            assert (await made[0].ask("post", "/v1/documents", json={"name": name})).status_code == 201
        yield made


async def grant(node: LiveNode, subject: str, role: str | None, document: str = "d") -> None:
    path = f"/v1/documents/{document}/grants/{subject}"
    if role is None:
        answer = await node.ask("delete", path)
    else:
        answer = await node.ask("put", path, json={"role": role})
    assert answer.status_code in (200, 204), answer.text


async def link(node: LiveNode, role: str = "write", **more: Any) -> dict[str, Any]:
    answer = await node.ask("post", "/v1/documents/d/links", json={"role": role, **more})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def revoke(node: LiveNode, **what: Any) -> None:
    answer = await node.ask("post", "/v1/revocations", json=what)
    assert answer.status_code == 201, answer.text


async def saves(socket: Socket, update: bytes, version: bytes) -> None:
    """Write, and wait until it is confirmed."""
    socket.send(Update(update), SyncStatus(version))
    await socket.until(lambda: SyncStatus(version) in socket.messages)


async def roles(node: LiveNode) -> dict[str, str]:
    """Subject -> role, as presence tells."""
    present = (await node.ask("get", "/v1/documents/d/presence")).json()["present"]
    return {one["subject"]: one["role"] for one in present}


async def until_role(node: LiveNode, subject: str, role: str | None) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await roles(node)).get(subject) != role:
            await asyncio.sleep(0.01)


async def test_g6_a_grant_turns_a_live_reader_on_another_node_into_a_writer(nodes: list[LiveNode]) -> None:
    here, there = nodes
    reader = await (await there.connect("d", token("ben", **READ))).joined()
    writer, text = await (await there.connect("d", token("eve", **WRITE))).joined(), Writer()
    reader.send(Update(text.type("graffiti")))
    await grant(here, "ben", "write")
    await reader.receives(SyncStep1, 2)
    reader.send(SyncStep2(text.doc.get_update()))
    await saves(reader, text.type(" and more"), b"\x01")
    await writer.until(lambda: bool(writer.updates()) and text_of(*writer.updates()) == "graffiti and more")
    assert reader.closed_with is None
    await until_role(there, "ben", "write")


async def test_g6_d12_a_writer_becomes_a_reader_in_place_and_keeps_what_it_wrote(nodes: list[LiveNode]) -> None:
    here, there = nodes
    await grant(here, "ben", "write")
    ben, text = await (await there.connect("d", token("ben", **READ))).joined(), Writer()
    await saves(ben, text.type("kept"), b"\x01")
    await grant(here, "ben", None)
    await until_role(there, "ben", "read")
    for number in range(MAX_REFUSED_WRITES):
        assert ben.closed_with is None
        ben.send(Update(text.type("lost")), SyncStatus(bytes([9, number])))
    assert await ben.closed() == CloseCode.FORBIDDEN.code
    assert not [one for one in ben.of(SyncStatus) if one.version[0] == 9]
    content = await here.ask("get", "/v1/documents/d/content", params={"format": "text"})
    assert content.text == "kept"


@pytest.mark.parametrize("role", ["comment", "read"])
async def test_e04_whoever_may_only_comment_or_read_writes_nothing(nodes: list[LiveNode], role: str) -> None:
    await grant(nodes[0], "ben", role)
    ben = await (await nodes[1].connect("d", token("ben"))).joined()
    for _ in range(MAX_REFUSED_WRITES):
        ben.send(Update(Writer().type("x")))
    assert await ben.closed() == CloseCode.FORBIDDEN.code
    assert await nodes[0].hub.store.log.last_seq("d") == 0


async def test_g6_d12_who_has_no_role_left_is_closed_and_stays_out(nodes: list[LiveNode]) -> None:
    here, there = nodes
    await grant(here, "ben", "read")
    await grant(here, "ben", "read", document="e")
    gone, stays = [await (await there.connect(name, token("ben"))).joined() for name in ("d", "e")]
    await grant(here, "ben", None)
    assert await gone.closed() == CloseCode.FORBIDDEN.code
    assert await (await there.connect("d", token("ben"))).closed() == CloseCode.FORBIDDEN.code
    assert stays.closed_with is None
    assert (await here.ask("get", "/v1/documents/d", bearer("ben"))).status_code == 403
    assert (await here.ask("get", "/v1/documents/e", bearer("ben"))).status_code == 200


async def test_e13_nothing_old_is_read_after_access_was_lost(nodes: list[LiveNode]) -> None:
    here, there = nodes
    await grant(here, "ben", "read")
    await here.ask("post", "/v1/documents/d/snapshots")
    assert (await there.ask("get", "/v1/documents/d/snapshots/1/content", bearer("ben"))).status_code == 200
    await grant(here, "ben", None)
    for path in ("snapshots", "snapshots/1", "snapshots/1/content", "content", "presence"):
        assert (await there.ask("get", f"/v1/documents/d/{path}", bearer("ben"))).status_code == 403


async def test_g7_d12_a_subject_whose_tokens_are_revoked_is_closed_everywhere(nodes: list[LiveNode]) -> None:
    here, there = nodes
    old = token("ben", documents={"*": "write"}, iat=datetime.now(UTC) - timedelta(minutes=5))
    sessions = [await (await node.connect(name, old)).joined() for node in nodes for name in ("d", "e")]
    bystander = await (await there.connect("d", token("eve", **WRITE))).joined()
    await revoke(here, subject="ben")
    assert [await session.closed() for session in sessions] == [CloseCode.UNAUTHENTICATED.code] * 4
    assert bystander.closed_with is None
    for node in nodes:
        assert await (await node.connect("d", old)).closed() == CloseCode.UNAUTHENTICATED.code
        answer = await node.ask("get", "/v1/documents/d", {"Authorization": f"Bearer {old}"})
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    newer = token("ben", **READ, iat=datetime.now(UTC) + timedelta(seconds=2))
    await (await there.connect("d", newer)).joined()


async def test_g7_d13_one_token_is_revoked_and_the_subjects_others_go_on(nodes: list[LiveNode]) -> None:
    here, there = nodes
    issued = datetime.now(UTC) - timedelta(minutes=5)
    phone, laptop = [
        await (await there.connect("d", token("ben", **READ, jti=name, iat=issued))).joined() for name in ("p", "l")
    ]
    await revoke(here, token_id="p")
    assert await phone.closed() == CloseCode.UNAUTHENTICATED.code
    assert laptop.closed_with is None


async def test_g7_a_token_that_does_not_say_when_it_was_issued_counts_as_the_oldest(nodes: list[LiveNode]) -> None:
    here, there = nodes
    ageless = await (await there.connect("d", token("ben", **READ, iat=None))).joined()
    await revoke(here, subject="ben", not_before="2001-01-01T00:00:00Z")
    assert await ageless.closed() == CloseCode.UNAUTHENTICATED.code
    await (await there.connect("d", token("ben", **READ))).joined()


async def test_g7_revocations_are_known_to_a_node_that_starts_later() -> None:
    store = MemoryStore()
    async with live_nodes(store=store) as (here,):
        await here.ask("post", "/v1/documents", json={"name": "d"})
        await revoke(here, subject="ben", not_before="2100-01-01T00:00:00Z")
    async with live_nodes(store=store) as (later,):
        answer = await later.ask("get", "/v1/documents/d", bearer("ben", **READ))
        assert answer.status_code == 401
        assert await (await later.connect("d", token("ben", **READ))).closed() == CloseCode.UNAUTHENTICATED.code


async def test_g8_a_token_for_anonymous_has_no_grants_and_is_revoked_by_its_id(nodes: list[LiveNode]) -> None:
    here, there = nodes
    await here.hub.store.grants.put("d", "anonymous", "admin", by="mistake")
    assert await (await there.connect("d", token("anonymous"))).closed() == CloseCode.FORBIDDEN.code
    nobody = await (await there.connect("d", token("anonymous", jti="t", **READ))).joined()
    assert await roles(there) == {"anonymous": "read"}
    await revoke(here, token_id="t")
    assert await nobody.closed() == CloseCode.UNAUTHENTICATED.code


async def test_a_deleted_document_is_said_so_and_not_forbidden(nodes: list[LiveNode]) -> None:
    here, _ = nodes
    await grant(here, "ben", "write")
    ben = await (await here.connect("d", token("ben"))).joined()
    assert (await here.ask("delete", "/v1/documents/d")).status_code == 204
    assert await ben.closed() == CloseCode.DELETED.code


# --- links


async def test_e10_a_link_lets_in_whoever_holds_it_and_nobody_once_it_is_revoked(nodes: list[LiveNode]) -> None:
    here, there = nodes
    made = await link(here)
    visitors = [
        await (await there.connect("d", made["secret"])).joined(),
        await (await there.connect("d", subprotocol=made["secret"])).joined(),
        await (await there.connect("d", query=made["secret"])).joined(),
    ]
    assert visitors[1].subprotocol == "yjs.v1"
    await saves(visitors[0], Writer().type("by link"), b"\x01")
    assert (await there.ask("delete", f"/v1/documents/d/links/{made['id']}")).status_code == 204
    assert [await visitor.closed() for visitor in visitors] == [CloseCode.FORBIDDEN.code] * 3
    for node in nodes:
        assert await (await node.connect("d", made["secret"])).closed() == CloseCode.UNAUTHENTICATED.code
        answer = await node.ask("get", "/v1/documents/d", {"Authorization": f"Bearer {made['secret']}"})
        assert answer.status_code == 401


async def test_e10_a_link_raises_a_users_role_and_its_end_lowers_it_again(nodes: list[LiveNode]) -> None:
    here, there = nodes
    made = await link(here)
    both = await (await there.connect("d", token("ben", **READ), query=made["secret"])).joined()
    await until_role(there, "ben", "write")
    await there.ask("delete", f"/v1/documents/d/links/{made['id']}")
    await until_role(there, "ben", "read")
    assert both.closed_with is None


async def test_n18_a_link_does_not_fill_its_document(nodes: list[LiveNode]) -> None:
    here, _ = nodes
    here.hub.connections._limits = ConnectionLimits(per_link=2)
    made = await link(here, "read")
    inside = [await (await here.connect("d", made["secret"])).joined() for _ in range(2)]
    assert await (await here.connect("d", made["secret"])).closed() == CloseCode.OVERLOADED.code
    await (await here.connect("d", token("ben", **READ), query=made["secret"])).joined()
    await (await here.connect("d", (await link(here, "read"))["secret"])).joined()
    inside[0].leave()
    await (await here.connect("d", made["secret"])).joined()


async def test_e10_guessed_foreign_and_doubled_links_open_nothing(nodes: list[LiveNode]) -> None:
    here, _ = nodes
    made, other = await link(here, "read"), await link(here, "write")
    secret = made["secret"]
    for guess in (secret[:-1], secret + "A", secret.lower(), secret.upper(), "cl_", "cl_" + "A" * 43):
        assert await (await here.connect("d", guess)).closed() == CloseCode.UNAUTHENTICATED.code, guess
    assert await (await here.connect("e", secret)).closed() == CloseCode.FORBIDDEN.code
    assert await (await here.connect("never", secret)).closed() == CloseCode.FORBIDDEN.code
    assert await (await here.connect("d", secret, query=other["secret"])).closed() == CloseCode.UNAUTHENTICATED.code
    assert await (await here.connect("d", "nonsense", query=secret)).closed() == CloseCode.UNAUTHENTICATED.code


async def test_e10_a_link_gives_no_more_than_its_role(nodes: list[LiveNode]) -> None:
    here, there = nodes
    held = {"Authorization": f"Bearer {(await link(here, 'read'))['secret']}"}
    assert (await there.ask("get", "/v1/documents/d", held)).status_code == 200
    assert (await there.ask("patch", "/v1/documents/d", held, json={"title": "t"})).status_code == 403
    for path in ("grants", "links"):
        assert (await there.ask("get", f"/v1/documents/d/{path}", held)).status_code == 403
    assert (await there.ask("get", "/v1/documents", held)).json()["documents"][0]["name"] == "d"
    answer = await there.ask("post", "/v1/tickets", held, json={"document": "d", "role": "write"})
    assert answer.status_code == 403
    assert (await here.ask("post", "/v1/documents/d/links", json={"role": "admin"})).status_code == 422


async def test_e10_a_link_ends_by_itself_when_it_said_so(nodes: list[LiveNode]) -> None:
    here, there = nodes
    ends = datetime.now(UTC) + timedelta(seconds=1)
    made = await link(here, expires_at=ends.isoformat())
    visitor = await (await there.connect("d", made["secret"])).joined()
    assert await visitor.closed() == CloseCode.FORBIDDEN.code
    assert datetime.now(UTC) >= ends
    over = {"role": "read", "expires_at": "2001-01-01T00:00:00Z"}
    assert (await here.ask("post", "/v1/documents/d/links", json=over)).status_code == 422


async def test_g3_the_secret_of_a_link_is_shown_once(nodes: list[LiveNode]) -> None:
    here, _ = nodes
    made = await link(here)
    listed = await here.ask("get", "/v1/documents/d/links")
    assert [one["id"] for one in listed.json()["links"]] == [made["id"]]
    assert made["secret"] not in listed.text
    assert made["secret"] not in (await here.ask("get", "/v1/audit")).text
    assert len(made["secret"]) - len("cl_") == 43  # 256 bits


# --- when the database does not answer


class Away:
    """A port that stopped answering."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.away = False
        self.refused = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any, **more: Any) -> Any:
            if self.away:
                self.refused.set()
                raise StoreUnavailable("away")
            return await getattr(self.inner, name)(*args, **more)

        return call


async def test_g6_while_the_database_is_away_nobody_gets_more_and_everybody_keeps_what_is_known() -> None:
    store = MemoryStore()
    grants, changes = Away(store.grants), Away(store.access_changes)
    store.grants, store.access_changes = grants, changes  # type: ignore[assignment]
    async with live_nodes(2, store=store) as (here, there):
        await here.ask("post", "/v1/documents", json={"name": "d"})
        await grant(here, "ben", "write")
        ben = await (await there.connect("d", token("ben"))).joined()
        grants.away = changes.away = True
        assert await (await there.connect("d", token("ben"))).closed() == CloseCode.UNAVAILABLE.code
        answer = await there.ask("get", "/v1/documents/d", bearer("ben"))
        assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
        await saves(ben, Writer().type("goes on"), b"\x01")
        await grants.inner.remove("d", "ben")
        changes.away = False  # the change is heard of, and what it means is not
        await saves(ben, Writer().type("goes on"), b"\x02")
        assert ben.closed_with is None
        grants.away = False
        assert await ben.closed() == CloseCode.FORBIDDEN.code


@pytest.mark.parametrize(
    "claims", [{"sub": "ben", "documents": {"*": "admin"}}, {"sub": "anonymous", "documents": {"d": "write"}}]
)
async def test_g8_while_the_database_is_away_nobody_comes_in_whatever_their_token_says(claims: dict[str, Any]) -> None:
    store = MemoryStore()
    grants, changes = Away(store.grants), Away(store.access_changes)
    store.grants, store.access_changes = grants, changes  # type: ignore[assignment]
    async with live_nodes(store=store) as (node,):
        await node.ask("post", "/v1/documents", json={"name": "d"})
        inside = await (await node.connect("d", token(**claims))).joined()
        grants.away = changes.away = True
        assert await (await node.connect("d", token(**claims))).closed() == CloseCode.UNAVAILABLE.code
        assert inside.closed_with is None
        grants.away = changes.away = False
        await (await node.connect("d", token(**claims))).joined()


async def test_g6_who_missed_changes_looks_at_every_session_anew() -> None:
    store = MemoryStore()
    changes = Away(store.access_changes)
    store.access_changes = changes  # type: ignore[assignment]
    async with live_nodes(2, store=store) as (here, there):
        await here.ask("post", "/v1/documents", json={"name": "d"})
        await grant(here, "ben", "write")
        ben = await (await there.connect("d", token("ben", **READ))).joined()
        await until_role(there, "ben", "write")
        changes.away = True
        await forget_what_changed(store)
        changes.away = False
        await until_role(there, "ben", "read")
        assert ben.closed_with is None


async def forget_what_changed(store: MemoryStore) -> None:
    """Take ben's grant back, and push word of it out of what is kept."""
    await store.grants.remove("d", "ben")
    for number in range(10_001):
        await store.grants.put("d", f"somebody {number % 2}", ("read", "write")[number // 2 % 2], by="root")
