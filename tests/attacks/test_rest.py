"""Attacks on REST (E05 to E09, E17, E18): every route x every role x documents that are there, absent or others'.

The routes come from OpenAPI and what they must answer from rules, so a new route is attacked without a change here.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from collab.bus import alone
from collab.engine.inline import InlineEngine
from collab.errors import CloseCode
from collab.node import Hub
from collab.room.session import Role
from collab.server.auth import JwtAccess, Origins
from collab.server.guard import Rest
from collab.server.http import api
from collab.server.refusals import Refusals
from collab.store import MemoryStore
from tests.attacks.conftest import Ground
from tests.attacks.routes import Route, routes
from tests.support.issued import MARK, marked
from tests.support.plain import PLAIN
from tests.support.raw import FIN, PING, RawSocket, client_frame
from tests.support.tokens import KEY, bearer

ROUTES = [pytest.param(route, id=str(route)) for route in routes()]
ROLES = list(Role)
REFUSED = {401, 403}
EVERYTHING = {"access": "admin"}
numbers = itertools.count()
snapshots: dict[str, int] = {}
"""The one of each document."""


@pytest.fixture
def rest(guarded: Ground) -> Iterator[httpx.Client]:
    """A client without a token."""
    with httpx.Client(base_url=guarded.door.http, **PLAIN, timeout=30) as client:
        yield client


def made(rest: httpx.Client) -> str:
    """A new document with content and a snapshot."""
    name = f"rest:{next(numbers)}"
    content = {"format": "text", "value": marked("theirs")}
    created = rest.post("/v1/documents", json={"name": name, "content": content}, headers=bearer(**EVERYTHING))
    assert created.status_code == 201, created.text
    taken = rest.post(f"/v1/documents/{name}/snapshots", headers=bearer(**EVERYTHING))
    assert taken.status_code == 201, taken.text
    snapshots[name] = taken.json()["id"]
    return name


def call(rest: httpx.Client, route: Route, document: str, headers: dict[str, str], **more: Any) -> httpx.Response:
    """The route's own request, with who asks and what a test changes."""
    asked = route.request(document, snapshot=snapshots.get(document, 1))
    asked["headers"] = {**asked.get("headers", {}), **headers}
    answer = rest.request(**{**asked, **more})
    assert answer.status_code < 500, (str(route), answer.text)
    assert "Traceback" not in answer.text
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json"
        assert MARK not in answer.text
    return answer


def test_the_routes_are_read_and_their_requests_fit(rest: httpx.Client) -> None:
    """Without this, a matrix of requests that are refused for their form would prove nothing."""
    assert len(routes()) >= 15
    for route in routes():
        name = made(rest)
        answer = call(rest, route, name, bearer(**EVERYTHING))
        # A document of that name is there already; of things that routes of tomorrow are about, there may be none yet.
        expected = {409} if route.body_names_document else {200, 201, 204, 404}
        assert answer.status_code in expected | {200, 201, 204}, (str(route), answer.text)
        assert answer.status_code != 404 or "{" in route.path.replace("{name}", "").replace("{snapshot}", "")


@pytest.mark.parametrize("route", ROUTES)
def test_e05_who_is_nobody_is_asked_who_he_is(rest: httpx.Client, route: Route) -> None:
    good = bearer(**EVERYTHING)["Authorization"]
    name = made(rest)
    strangers = [
        {},
        {"Authorization": "Bearer nonsense"},
        {"Authorization": good[:-2]},
        {"Authorization": f"Basic {good.removeprefix('Bearer ')}"},
        {"Cookie": f"token={good.removeprefix('Bearer ')}"},
        bearer(**EVERYTHING, exp=1),
        bearer(**EVERYTHING, key="another key of thirty-two bytes!!"),
    ]
    for headers, document in itertools.product(strangers, (name, f"{name}:absent")):
        answer = call(rest, route, document, headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
        assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.value)
def test_e05_a_role_passes_exactly_where_it_reaches(rest: httpx.Client, route: Route, role: Role) -> None:
    name = made(rest)
    granted = {"documents": {"*" if route.scope == "everything" else name: role.value}}
    answer = call(rest, route, name, bearer(**granted))
    if route.scope == "listing":
        assert answer.status_code == 200
        return
    assert (answer.status_code not in REFUSED) == role.reaches(route.needs), answer.text
    if not role.reaches(route.needs):
        assert answer.status_code == 403


@pytest.mark.parametrize("route", ROUTES)
def test_e05_e06_without_a_right_others_documents_and_no_documents_look_the_same(
    rest: httpx.Client, route: Route
) -> None:
    name = made(rest)
    for granted in ({"another": "admin", f"{name}:*": "admin", f"{name}x": "admin"}, {}, {name.upper(): "admin"}):
        theirs, absent = (call(rest, route, document, bearer(documents=granted)) for document in (name, "never:made"))
        assert theirs.status_code == absent.status_code
        assert theirs.content.replace(name.encode(), b"") == absent.content.replace(b"never:made", b"")
        assert MARK not in theirs.text
        if route.scope == "listing":
            assert name not in theirs.text
        else:
            assert theirs.status_code == 403
    assert rest.get(f"/v1/documents/{name}", headers=bearer(**EVERYTHING)).json()["seq"] == 1


class _Untouchable:
    """Stands where documents are kept, and must not be asked."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the store was asked: {name}")


@pytest.mark.parametrize("route", [param for param in ROUTES if "{name}" in str(param.id)])
async def test_e06_a_refusal_costs_the_same_because_no_document_is_looked_for(route: Route) -> None:
    """Why no times are compared: what decides is over before anything that depends on the document begins."""
    store = MemoryStore()
    for port in ("documents", "log", "snapshots"):
        assert hasattr(store, port)
    hub = Hub(node="n", epoch=1, engine=InlineEngine(), store=store, bus=alone())
    store.documents = store.log = store.snapshots = _Untouchable()  # type: ignore[assignment, misc]
    transport = httpx.ASGITransport(
        api(Rest(hub, JwtAccess(KEY), Origins(), Refusals(hub.counters, per_minute=0)), version="0")
    )
    async with httpx.AsyncClient(transport=transport, base_url="http://collab.test") as client:
        asked = route.request("d")
        asked["headers"] = {**asked.get("headers", {}), **bearer(documents={"e": "admin"})}
        assert (await client.request(**asked)).status_code == 403


EXTRA = {"owner_id": 1, "tenant_id": "t", "role": "admin", "created_at": "2020-01-01", "seq": 0, "__proto__": {}}


@pytest.mark.parametrize("route", [param for param in ROUTES if param.values[0].media_type == "application/json"])
def test_e07_a_field_nobody_asked_for_is_refused(rest: httpx.Client, route: Route) -> None:
    name = made(rest)
    for field, value in EXTRA.items():
        if field in route.body_schema["properties"]:
            continue
        answer = call(rest, route, name, bearer(**EVERYTHING), json={**route.body(name), field: value})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), field
    if route.body_names_document and "content" in route.body_schema["properties"]:
        content = {"format": "text", "value": "x", "owner_id": 1}
        body = {**route.body(f"{name}:new"), "content": content}
        assert call(rest, route, name, bearer(**EVERYTHING), json=body).status_code == 422


@pytest.mark.parametrize("route", [param for param in ROUTES if param.values[0].media_type == "application/json"])
@pytest.mark.parametrize("body", [b"null", b"[]", b"7", b'"x"', b"{", b"\xff", b'{"a":NaN}', b"[" * 60_000, b""])
def test_e08_a_body_of_another_kind_is_refused(rest: httpx.Client, route: Route, body: bytes) -> None:
    headers = {**bearer(**EVERYTHING), "Content-Type": "application/json"}
    answer = call(rest, route, made(rest), headers, content=body, json=None)
    optional = not route.operation["requestBody"].get("required", False)
    assert answer.status_code in ({400, 422, 201, 200, 204} if optional else {400, 422})


PAGES = ["-1", "0", "101", "1e9", "abc", "", str(10**30), "1.5", "NaN", "0x10", "１"]


@pytest.mark.parametrize("route", [param for param in ROUTES if "limit" in str(param.values[0].operation)])
def test_e08_a_page_has_a_sane_size(rest: httpx.Client, route: Route) -> None:
    name = made(rest)
    for limit in PAGES:
        answer = call(rest, route, name, bearer(**EVERYTHING), params={"limit": limit})
        assert answer.status_code == 422, limit
    twice = call(rest, route, name, bearer(**EVERYTHING), params=[("limit", "1"), ("limit", "1000")])
    assert twice.status_code in {200, 422}


def test_e08_a_cursor_made_up_shows_nothing_that_is_not_granted(rest: httpx.Client) -> None:
    theirs, mine = made(rest), made(rest)
    for cursor in ("", theirs[:-1], theirs, "~", "a", "%00", "' OR 1=1 --", "*", theirs + "\x00"):
        answer = rest.get("/v1/documents", params={"cursor": cursor}, headers=bearer(documents={mine: "read"}))
        assert answer.status_code in {200, 422}
        assert theirs not in [document["name"] for document in answer.json().get("documents", ())]


TRICKS = [
    "..", "...", ".", ".hidden", "%2e%2e", "a/../b", "../../etc/passwd", "..\\..\\x", "\x00", "a\x00.txt", "a b", "a\n",
    "%00", "%252e", "é", "ａ", "ⅷ", "\u202ea", "\ud83d\ude00", "x" * 201, "x" * 1_000, "a*", "*", "a?b", "a#b",
    "a\u200bb", "a;b", "'--", '"', "<script>", "{name}", "$(id)", "con|x", "\u0130", "ß",
]  # fmt: skip
"""Names that are none, as a client writes them before they are encoded for an address."""


@pytest.mark.parametrize("name", TRICKS, ids=ascii)
def test_e09_a_name_that_is_none_is_refused_everywhere_alike(ground: Ground, name: str) -> None:
    encoded = quote(name.encode("utf-8", "surrogatepass"), safe="")
    with httpx.Client(base_url=ground.door.http, trust_env=False, timeout=30) as rest:
        for path in (f"/v1/documents/{encoded}", f"/v1/documents/{encoded}/content"):
            # The path as it stands: httpx would resolve dots by itself.
            with RawSocket(ground.port) as raw:
                raw.send(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{ground.port}\r\n\r\n".encode())
                assert raw.head()[0] in {400, 404}
        created = rest.post("/v1/documents", json={"name": name.encode("utf-8", "replace").decode()})
        assert created.status_code in {400, 422}, created.text
    with RawSocket(ground.port) as raw:
        status, _ = raw.upgrade(ground.port, f"/yjs/{encoded}")
        assert status in {101, 403}
        if status == 101:
            assert raw.closing() == (CloseCode.NOT_FOUND.code, CloseCode.NOT_FOUND.reason)


def test_e09_names_that_differ_in_case_are_different_documents(rest: httpx.Client) -> None:
    name = made(rest)
    assert rest.get(f"/v1/documents/{name.upper()}", headers=bearer(**EVERYTHING)).status_code == 404
    assert rest.get(f"/v1/documents/{name.upper()}", headers=bearer(documents={name: "read"})).status_code == 403


def test_e09_an_encoded_name_is_that_name_and_no_other(rest: httpx.Client) -> None:
    """One decoding, then the check: what a right is asked for is what is opened."""
    name = made(rest)
    encoded = "".join(f"%{byte:02x}" for byte in name.encode())
    assert rest.get(f"/v1/documents/{encoded}", headers=bearer(documents={name: "read"})).json()["name"] == name
    assert rest.get(f"/v1/documents/{encoded}", headers=bearer(documents={encoded: "read"})).status_code == 403
    twice = quote(encoded, safe="")
    assert rest.get(f"/v1/documents/{twice}", headers=bearer(**EVERYTHING)).status_code == 400


FORMS = ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain", "text/json", "", "*/*"]


@pytest.mark.parametrize("route", [param for param in ROUTES if param.values[0].media_type is not None])
def test_e17_what_a_form_can_send_is_refused(rest: httpx.Client, route: Route) -> None:
    name = made(rest)
    for media_type in FORMS:
        answer = call(
            rest,
            route,
            name,
            {**bearer(**EVERYTHING), "Content-Type": media_type},
            content=b'{"name":"csrf","title":"x"}',
            json=None,
        )
        assert answer.status_code == 415, media_type


@pytest.mark.parametrize("route", [param for param in ROUTES if param.values[0].method != "get"])
def test_e17_a_foreign_page_changes_nothing_whatever_it_holds(rest: httpx.Client, route: Route) -> None:
    name = made(rest)
    for origin in ("https://evil.example", "null", "https://app.example.evil.example"):
        headers = {**bearer(**EVERYTHING), "Origin": origin}
        answer = call(rest, route, name, headers)
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("path", sorted({route.path for route in routes()}))
def test_e18_a_method_nobody_serves_is_refused(rest: httpx.Client, path: str) -> None:
    name = made(rest)
    served = {route.method for route in routes() if route.path == path}
    url = next(route for route in routes() if route.path == path).request(name)["url"]
    for method in {"get", "post", "put", "patch", "delete", "trace", "connect", "propfind", "brew"} - served:
        answer = rest.request(method.upper(), url, headers=bearer(**EVERYTHING))
        assert answer.status_code in {400, 405}, (method, answer.status_code)
        if answer.status_code == 405:
            assert {one.strip().lower() for one in answer.headers["allow"].split(",")} <= served | {"head"}


@pytest.mark.parametrize("header", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"])
def test_e18_no_header_turns_one_method_into_another(rest: httpx.Client, header: str) -> None:
    name = made(rest)
    for method in ("GET", "POST"):
        rest.request(
            method,
            f"/v1/documents/{name}",
            headers={**bearer(**EVERYTHING), header: "DELETE"},
            params={"_method": "DELETE"},
        )
    assert rest.get(f"/v1/documents/{name}", headers=bearer(**EVERYTHING)).status_code == 200


def test_e20_a_range_and_a_multipart_of_many_parts_are_handled(ground: Ground) -> None:
    ranges = "bytes=" + ",".join(f"{at}-{at}" for at in range(500))
    parts = b"".join(b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n' for _ in range(10_000)) + b"--x--"
    with httpx.Client(base_url=ground.door.http, trust_env=False, timeout=30) as rest:
        assert rest.get("/", headers={"Range": ranges}).status_code in {200, 206, 416, 503}
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        assert rest.post("/v1/documents", content=parts, headers=headers).status_code == 415
    with RawSocket(ground.port) as raw:
        raw.upgrade(ground.port, ground.path)
        raw.send(client_frame(b"after", FIN | PING))
