"""Grants and the audit log over REST: what is put, listed and written down, and what is refused."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any, get_args

import pytest

from collab.server.audit import Action
from tests.support.live import PATIENCE_SECONDS, LiveNode, bearer, live_nodes, token

ADMIN = bearer("ann", documents={"d": "admin"})
ODD = ["auth0|5f", "https://login.example/users/7", "a b", "ünï", "x" * 255, "..", "%2e", "admin"]


@pytest.fixture
async def node() -> AsyncIterator[LiveNode]:
    async with live_nodes() as (made,):
        for name in ("d", "e"):
            await made.ask("post", "/v1/documents", json={"name": name})
        yield made


def path(subject: str, document: str = "d") -> str:
    encoded = "".join(f"%{byte:02X}" for byte in subject.encode())
    return f"/v1/documents/{document}/grants/{encoded}"


async def entries(node: LiveNode, **query: Any) -> list[dict[str, Any]]:
    answer = await node.ask("get", "/v1/audit", params=query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["entries"]
    return found


async def until_written(node: LiveNode, action: str, count: int = 1) -> list[dict[str, Any]]:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            found = [one for one in await entries(node) if one["action"] == action]
            if len(found) >= count:
                return found
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("subject", ODD)
async def test_a_grant_is_put_shown_and_taken_back_whatever_the_subject_is_called(node: LiveNode, subject: str) -> None:
    assert (await node.ask("get", path(subject), ADMIN)).status_code == 404
    put = await node.ask("put", path(subject), ADMIN, json={"role": "comment"})
    assert put.json() == {**put.json(), "subject": subject, "role": "comment", "granted_by": "ann"}
    assert (await node.ask("get", path(subject), ADMIN)).json() == put.json()
    assert (await node.ask("get", "/v1/documents/d/grants", ADMIN)).json() == {"grants": [put.json()], "next": None}
    for _ in range(2):
        assert (await node.ask("delete", path(subject), ADMIN)).status_code == 204
    assert (await node.ask("get", path(subject), ADMIN)).status_code == 404


async def test_grants_are_listed_in_pages_of_every_size(node: LiveNode) -> None:
    subjects = sorted(["ann", "ben", "cleo", "Zoe", "ünï"])
    for subject in subjects:
        await node.ask("put", path(subject), ADMIN, json={"role": "read"})
    for limit in (1, 2, 5, 100):
        seen: list[str] = []
        query: dict[str, Any] = {"limit": limit}
        while True:
            page = (await node.ask("get", "/v1/documents/d/grants", ADMIN, params=query)).json()
            seen += [grant["subject"] for grant in page["grants"]]
            if page["next"] is None:
                break
            query["cursor"] = page["next"]
        assert seen == subjects


@pytest.mark.parametrize("subject", ["\0", "a\nb", "x" * 256, "anonymous"])
async def test_a_subject_that_could_be_taken_for_another_is_refused(node: LiveNode, subject: str) -> None:
    assert (await node.ask("put", path(subject), ADMIN, json={"role": "read"})).status_code in (404, 422)
    assert (await entries(node, document="d"))[0]["action"] == "document.create"


@pytest.mark.parametrize("body", [{}, {"role": "owner"}, {"role": None}, {"role": "read", "granted_by": "root"}, []])
async def test_e07_a_grant_is_a_role_and_nothing_else(node: LiveNode, body: Any) -> None:
    assert (await node.ask("put", path("ben"), ADMIN, json=body)).status_code == 422


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"subject": "a", "token_id": "b"},
        {"subject": "\0"},
        {"subject": ""},
        {"subject": "a", "not_before": "soon"},
        {"subject": "a", "not_before": "2026-01-01T00:00:00"},
        {"subject": "a", "not_before": "9999-12-31T23:59:59-14:00"},
        {"subject": "a", "expires_at": "2026-01-01T00:00:00Z"},
    ],
)
async def test_a_revocation_names_one_thing_and_a_sane_time(node: LiveNode, body: Any) -> None:
    assert (await node.ask("post", "/v1/revocations", json=body)).status_code == 422


async def test_half_a_character_names_nobody(node: LiveNode) -> None:
    json = {**bearer("root", documents={"*": "admin"}), "Content-Type": "application/json"}
    for path, body in (("/v1/revocations", rb'{"subject":"\ud800"}'), ("/v1/tickets", rb'{"document":"\ud800"}')):
        assert (await node.client.post(path, headers=json, content=body)).status_code in (400, 422)


async def test_only_an_admin_of_everything_revokes_and_reads_the_whole_log(node: LiveNode) -> None:
    for claims in ({"documents": {"d": "admin"}}, {"documents": {"a*": "admin", "d": "admin"}}, {"access": "write"}):
        held = bearer("ann", **claims)
        assert (await node.ask("post", "/v1/revocations", held, json={"subject": "ben"})).status_code == 403
        assert (await node.ask("get", "/v1/audit", held)).status_code == 403
        assert (await node.ask("get", "/v1/audit", held, params={"document": "e"})).status_code == (403)
    assert (await node.ask("get", "/v1/audit", ADMIN, params={"document": "d"})).status_code == 200


async def test_an_admin_by_grant_may_everything_an_admin_may_and_may_lock_himself_out(node: LiveNode) -> None:
    held = bearer("cleo")
    await node.ask("put", path("cleo"), ADMIN, json={"role": "admin"})
    assert (await node.ask("put", path("ben"), held, json={"role": "admin"})).status_code == 200
    assert (await node.ask("get", "/v1/audit", held, params={"document": "d"})).status_code == 200
    assert (await node.ask("delete", path("cleo"), held)).status_code == 204
    assert (await node.ask("get", "/v1/documents/d/grants", held)).status_code == 403
    assert (await node.ask("put", path("cleo"), ADMIN, json={"role": "read"})).status_code == 200


async def test_g2_documents_granted_are_listed_beside_those_of_the_token(node: LiveNode) -> None:
    for name in ("a", "b:1", "b:2", "c", "z"):
        await node.ask("post", "/v1/documents", json={"name": name})
    for name in ("a", "b:2", "c", "z"):
        await node.ask("put", path("ben", name), json={"role": "read"})
    await node.ask("delete", "/v1/documents/c")
    held = bearer("ben", documents={"b:*": "read"})
    for limit in (1, 2, 3, 100):
        seen: list[str] = []
        query: dict[str, Any] = {"limit": limit}
        while True:
            page = (await node.ask("get", "/v1/documents", held, params=query)).json()
            seen += [document["name"] for document in page["documents"]]
            if page["next"] is None:
                break
            query["cursor"] = page["next"]
        assert seen == ["a", "b:1", "b:2", "z"], limit
    assert (await node.ask("get", "/v1/documents", held, params={"prefix": "z"})).json()["documents"][0]["name"] == "z"


async def test_g8_everybody_is_told_their_own_role_and_nothing_of_others(node: LiveNode) -> None:
    link = (await node.ask("post", "/v1/documents/d/links", json={"role": "comment"})).json()["secret"]
    await node.ask("put", path("ben"), json={"role": "write"})

    async def role(name: str, headers: dict[str, str]) -> Any:
        answer = await node.ask("get", f"/v1/documents/{name}/role", headers)
        return answer.json() if answer.status_code == 200 else answer.status_code

    by_link = {"Authorization": f"Bearer {link}"}
    assert await role("d", by_link) == {"role": "comment"}
    assert await role("d", bearer("ben")) == {"role": "write"}
    assert await role("d", bearer("ben", documents={"d": "read"})) == {"role": "write"}
    assert await role("d", ADMIN) == {"role": "admin"}
    assert await role("never", bearer("ben", access="write")) == {"role": "write"}
    for headers in (by_link, bearer("ben")):
        assert [await role(name, headers) for name in ("e", "never")] == [403, 403]
    assert await role("d", {}) == 401


async def test_e06_whether_a_forbidden_document_exists_shows_in_nothing_that_is_answered(node: LiveNode) -> None:
    await node.ask("put", path("ben", "e"), json={"role": "read"})
    for method, rest, body in (
        ("get", "", None),
        ("get", "/grants", None),
        ("put", "/grants/eve", {"role": "read"}),
        ("get", "/links", None),
        ("delete", "/links/1", None),
        ("post", "/links", {"role": "read"}),
    ):
        there, absent = [
            await node.ask(method, f"/v1/documents/{name}{rest}", bearer("ben"), json=body) for name in ("d", "never")
        ]
        assert (there.status_code, there.content) == (absent.status_code, absent.content)
        assert there.status_code == 403
    sockets = [await node.connect(name, token("ben")) for name in ("d", "never")]
    assert [await socket.closed() for socket in sockets] == [4403, 4403]


async def test_e15_sharing_and_unsharing_at_once_ends_in_one_of_both(node: LiveNode) -> None:
    calls = [node.ask("put", path("ben"), ADMIN, json={"role": "write"}) for _ in range(5)]
    calls += [node.ask("delete", path("ben"), ADMIN) for _ in range(5)]
    assert {answer.status_code for answer in await asyncio.gather(*calls)} == {200, 204}
    held = (await node.ask("get", path("ben"), ADMIN)).status_code == 200
    assert (await node.ask("get", "/v1/documents/d", bearer("ben"))).status_code == (200 if held else 403)


async def test_g13_the_log_says_who_did_what_before_the_answer_does(node: LiveNode) -> None:
    await node.ask("put", path("ben"), ADMIN, json={"role": "write"})
    await node.ask("delete", path("ben"), ADMIN)
    made = (await node.ask("post", "/v1/documents/d/links", ADMIN, json={"role": "read"})).json()
    await node.ask("delete", f"/v1/documents/d/links/{made['id']}", ADMIN)
    ticket = (await node.ask("post", "/v1/tickets", ADMIN, json={"document": "d", "role": "read"})).json()
    await node.ask("post", "/v1/documents/d/snapshots", ADMIN)
    snapshot = (await node.ask("get", "/v1/documents/d/snapshots", ADMIN)).json()["snapshots"][0]["id"]
    await node.ask("post", f"/v1/documents/d/snapshots/{snapshot}/restore", ADMIN)
    await node.ask("delete", "/v1/documents/d", ADMIN)
    found = await entries(node, document="d", actor="ann")
    assert [(one["action"], one["detail"]) for one in reversed(found)] == [
        ("grant.put", {"subject": "ben", "role": "write"}),
        ("grant.remove", {"subject": "ben"}),
        ("link.create", {"link": made["id"], "role": "read"}),
        ("link.revoke", {"link": made["id"]}),
        ("ticket.create", {"role": "read"}),
        ("snapshot.create", {"snapshot": snapshot}),
        ("document.restore", {"snapshot": snapshot}),
        ("document.delete", {}),
    ]
    answer = await node.ask("get", "/v1/audit")
    assert made["secret"] not in answer.text
    assert ticket["ticket"] not in answer.text


async def test_b21_a_writer_who_leaves_nothing_is_known_afterwards(node: LiveNode) -> None:
    vandal = bearer("eve", documents={"d": "write"})
    taken = [(await node.ask("post", "/v1/documents/d/snapshots", ADMIN)).json()["id"] for _ in range(2)]
    for snapshot in taken:
        assert (await node.ask("delete", f"/v1/documents/d/snapshots/{snapshot}", vandal)).status_code == 204
    assert (await node.ask("delete", f"/v1/documents/d/snapshots/{taken[0]}", vandal)).status_code == 404
    for change in ({"title": "theirs now"}, {"meta": {"owner": "eve"}, "title": "x"}, {}):
        assert (await node.ask("patch", "/v1/documents/d", vandal, json=change)).status_code == 200
    for final in ("false", "true"):
        kicked = await node.ask("delete", "/v1/documents/d/presence", vandal, params={"subject": "ann", "final": final})
        assert kicked.status_code == 204
    found = await entries(node, document="d", actor="eve")
    assert [(one["action"], one["detail"]) for one in reversed(found)] == [
        ("snapshot.delete", {"snapshot": taken[0]}),
        ("snapshot.delete", {"snapshot": taken[1]}),
        ("document.change", {"fields": ["title"]}),
        ("document.change", {"fields": ["meta", "title"]}),
        ("session.close", {"subject": "ann", "final": False}),
        ("session.close", {"subject": "ann", "final": True}),
    ]
    assert "theirs" not in (await node.ask("get", "/v1/audit")).text


async def test_g13_who_sends_somebody_away_everywhere_is_known(node: LiveNode) -> None:
    await node.ask("delete", "/v1/presence", bearer("root", access="write"), params={"subject": "ann"})
    (kicked,) = [one for one in await entries(node) if one["action"] == "session.close"]
    assert (kicked["actor"], kicked["document"], kicked["detail"]) == ("root", None, {"subject": "ann", "final": False})


async def test_g13_every_action_is_named_where_the_log_is_described(node: LiveNode) -> None:
    schema = (await node.ask("get", "/openapi.json")).json()
    described = schema["components"]["schemas"]["AuditEntry"]["properties"]["action"]["description"]
    assert set(re.findall(r"\w+\.\w+", described)) == set(get_args(Action))


async def test_the_log_says_who_opened_and_exported_soon_after(node: LiveNode) -> None:
    made = (await node.ask("post", "/v1/documents/d/links", ADMIN, json={"role": "read"})).json()
    await (await node.connect("d", token("ben", documents={"d": "write"}))).joined()
    await (await node.connect("d", made["secret"])).joined()
    visitor, ben = await until_written(node, "document.open", 2)
    assert (ben["actor"], ben["actor_kind"], ben["detail"]["role"]) == ("ben", None, "write")
    assert (visitor["actor"], visitor["actor_kind"], visitor["detail"]["by_link"]) == (None, "link", made["id"])
    await node.ask("get", "/v1/documents/d/content", ADMIN, params={"format": "update"})
    (export,) = await until_written(node, "document.export")
    assert (export["actor"], export["document"], export["detail"]) == ("ann", "d", {"format": "update"})


async def test_the_log_comes_in_pages_newest_first(node: LiveNode) -> None:
    for number in range(5):
        await node.ask("put", path(f"user {number}"), ADMIN, json={"role": "read"})
    seen: list[str] = []
    query: dict[str, Any] = {"document": "d", "limit": 2}
    while True:
        page = (await node.ask("get", "/v1/audit", ADMIN, params=query)).json()
        seen += [entry["detail"].get("subject", entry["action"]) for entry in page["entries"]]
        if page["next"] is None:
            break
        query["before"] = page["next"]
    assert seen == [*(f"user {number}" for number in reversed(range(5))), "document.create"]
