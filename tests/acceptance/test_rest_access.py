"""Who may do what over REST: every route, every grant, and pages of other origins."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from collab.server.auth import Origins
from tests.acceptance.conftest import MakeWorld, World, bearer

READ = {"documents": {"d": "read"}}
WRITE = {"documents": {"d": "write"}}
OTHER = {"documents": {"e": "write", "d:*": "write"}}

CHANGING_REQUESTS: dict[str, dict[str, Any]] = {
    "post /v1/documents": {"json": {"name": "d"}},
    "patch /v1/documents/{name}": {"json": {"title": "t"}},
    "delete /v1/documents/{name}/presence": {"params": {"subject": "ann"}},
    "delete /v1/presence": {"params": {"subject": "ann"}},
    "put /v1/documents/{name}/grants/{subject}": {"json": {"role": "read"}},
    "post /v1/documents/{name}/links": {"json": {"role": "read"}},
    "post /v1/tickets": {"json": {"document": "d"}},
    "post /v1/revocations": {"json": {"subject": "nobody in these tests"}},
    "post /v1/documents/{name}/updates": {
        "content": b"\x00\x00",
        "headers": {"Content-Type": "application/octet-stream"},
    },
}


async def every_route(world: World) -> list[tuple[str, str]]:
    schema = (await world.client.get("/openapi.json")).json()
    routes = [(method, path) for path, operations in schema["paths"].items() for method in operations]
    assert len(routes) >= 23
    return routes


async def call(world: World, method: str, path: str, headers: dict[str, str]) -> httpx.Response:
    more = dict(CHANGING_REQUESTS.get(f"{method} {path}", {}))
    more["headers"] = {**more.get("headers", {}), **headers}
    path = path.format(name="d", snapshot=1, subject="ben", link=2)
    return await world.client.request(method, path, **more)


async def populate(world: World) -> None:
    everything = bearer(access="admin")
    content = {"format": "text", "value": "secret"}
    created = await world.client.post("/v1/documents", json={"name": "d", "content": content}, headers=everything)
    taken = await world.client.post("/v1/documents/d/snapshots", headers=everything)
    assert (created.status_code, taken.status_code, taken.json()["id"]) == (201, 201, 1)
    granted = await world.client.put("/v1/documents/d/grants/ben", json={"role": "read"}, headers=everything)
    linked = await world.client.post("/v1/documents/d/links", json={"role": "read"}, headers=everything)
    assert (granted.status_code, linked.status_code, linked.json()["id"]) == (200, 201, 2)


async def test_every_route_asks_who_is_there(guarded: World) -> None:
    await populate(guarded)
    for method, path in await every_route(guarded):
        for headers in ({}, {"Authorization": "Bearer nonsense"}, bearer(exp=1)):
            answer = await call(guarded, method, path, headers)
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated"), (method, path)
            assert answer.headers["www-authenticate"] == "Bearer"


async def test_e05_no_route_opens_a_document_to_a_token_for_another(guarded: World) -> None:
    await populate(guarded)
    for method, path in await every_route(guarded):
        answer = await call(guarded, method, path, bearer(**OTHER))
        if (method, path) == ("get", "/v1/documents"):
            assert answer.json()["documents"] == []
        else:
            assert answer.status_code == 403, (method, path)
        assert "secret" not in answer.text


def expected(role: str, method: str, path: str) -> bool:
    """Whether a role on the document reaches what a route is for."""
    if path.startswith(("/v1/documents/{name}/grants", "/v1/documents/{name}/links")):
        return role == "admin"
    if path in ("/v1/audit", "/v1/revocations", "/v1/presence"):
        return False  # about everything: no role on one document is enough
    if path == "/v1/tickets":
        return True
    return method == "get" or role in ("write", "admin")


@pytest.mark.parametrize("role", ["read", "comment", "write", "admin"])
@pytest.mark.parametrize("source", ["token", "grant"])
async def test_e03_e05_every_route_takes_the_role_it_is_for_and_no_less(guarded: World, role: str, source: str) -> None:
    await populate(guarded)
    if source == "grant":
        await guarded.store.grants.put("d", "cleo", role, by="root")
    headers = bearer(sub="cleo", documents={"d": role} if source == "token" else {})
    last = ("delete", "/v1/documents/{name}")
    for method, path in sorted(await every_route(guarded), key=lambda one: (one == last, one[0] == "delete")):
        answer = await call(guarded, method, path, headers)
        if not expected(role, method, path):
            assert (answer.status_code, "secret" in answer.text) == (403, False), (method, path, answer.text)
        elif (method, path) == ("post", "/v1/documents"):
            assert answer.status_code == (409 if source == "token" else 403), answer.text
        else:
            assert answer.status_code in (200, 201, 204), (method, path, answer.text)


async def test_a_forbidden_document_answers_the_same_whether_or_not_it_exists(guarded: World) -> None:
    await populate(guarded)
    for method, path in await every_route(guarded):
        if "{name}" in path:
            there = await call(guarded, method, path, bearer(**OTHER))
            absent = await call(guarded, method, path.replace("{name}", "never"), bearer(**OTHER))
            assert (there.status_code, there.content) == (absent.status_code, absent.content)


async def test_a_writer_may_change_what_is_granted(guarded: World) -> None:
    await populate(guarded)
    answer = await call(guarded, "patch", "/v1/documents/{name}", bearer(**WRITE))
    assert answer.json()["title"] == "t"


async def test_a_reader_cannot_create_the_document_it_may_read(guarded: World) -> None:
    answer = await guarded.client.post("/v1/documents", json={"name": "d"}, headers=bearer(**READ))
    assert answer.status_code == 403


@pytest.mark.parametrize(
    ("grants", "prefix", "expected"),
    [
        ({"*": "read"}, "", ["a", "a:1", "a:2", "a:2:x", "b", "c:1"]),
        ({"a:*": "read"}, "", ["a:1", "a:2", "a:2:x"]),
        ({"a:*": "read", "a:2": "write", "a:2:*": "write", "a*": "read"}, "", ["a", "a:1", "a:2", "a:2:x"]),
        ({"a:2": "read", "c:*": "read", "b": "read"}, "", ["a:2", "b", "c:1"]),
        ({"a:2": "read", "c:*": "read"}, "a", ["a:2"]),
        ({"*": "read"}, "a:2", ["a:2", "a:2:x"]),
        ({"a:*": "read"}, "b", []),
        ({"nothing": "read", "a:9": "read"}, "", []),
        ({}, "", []),
    ],
)
async def test_a_listing_shows_exactly_the_granted_names_in_pages_of_every_size(
    guarded: World, grants: dict[str, str], prefix: str, expected: list[str]
) -> None:
    for name in ("a", "a:1", "a:2", "a:2:x", "b", "c:1"):
        await guarded.store.documents.create(name)
    for limit in (1, 2, 100):
        seen: list[str] = []
        cursor: str | None = None
        for _ in range(20):
            query = {"prefix": prefix, "limit": str(limit)} | ({"cursor": cursor} if cursor else {})
            answer = await guarded.client.get("/v1/documents", params=query, headers=bearer(documents=grants))
            page = answer.json()
            seen += [document["name"] for document in page["documents"]]
            cursor = page["next"]
            if cursor is None:
                break
        assert seen == expected, limit


async def test_e16_another_origin_gets_no_cors_headers_and_changes_nothing(make_world: MakeWorld) -> None:
    world: World = await make_world(origins=Origins(frozenset({"https://app.example"})))
    for origin in ("https://evil.example", "null", "https://app.example.evil.example", "http://app.example"):
        preflight = await world.client.options(
            "/v1/documents", headers={"Origin": origin, "Access-Control-Request-Method": "POST"}
        )
        assert "access-control-allow-origin" not in preflight.headers
        answer = await world.client.post("/v1/documents", json={"name": "d"}, headers={"Origin": origin})
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers


async def test_an_allowed_origin_may_write_without_credentials(make_world: MakeWorld) -> None:
    world: World = await make_world(origins=Origins(frozenset({"https://app.example"})))
    headers = {"Origin": "https://app.example"}
    answer = await world.client.post("/v1/documents", json={"name": "d"}, headers=headers)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (201, "https://app.example")
    assert "access-control-allow-credentials" not in answer.headers


async def test_a_page_of_this_server_may_write(world: World) -> None:
    answer = await world.client.post("/v1/documents", json={"name": "d"}, headers={"Origin": "http://collab.test"})
    assert answer.status_code == 201


async def test_who_wrote_and_who_took_a_snapshot_is_the_tokens_subject(guarded: World) -> None:
    await populate(guarded)
    assert (await guarded.client.get("/v1/documents/d/snapshots/1", headers=bearer(**READ))).json()["author"] == "ann"
