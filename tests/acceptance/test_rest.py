"""REST as a client sees it: documents, content, updates, snapshots, errors."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

import pytest

from collab.errors import CloseCode, DocumentQuarantined, Draining, EngineDied, StoreUnavailable
from collab.server.guard import BodyLimits
from tests.acceptance.conftest import MakeWorld, World

PROBLEM = "application/problem+json"


def assert_problem(response: Any, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == PROBLEM
    body: dict[str, Any] = response.json()
    assert (body["status"], body["code"], body["type"]) == (status, code, "about:blank")
    assert body["detail"].endswith(".")
    return body


class TestDocuments:
    async def test_a_created_document_can_be_got_with_everything_that_was_said_about_it(self, world: World) -> None:
        created = await world.create("acme:specs:42", title="Specification", meta={"team": ["a", {"b": 1}]})
        assert created.headers["location"] == "/v1/documents/acme:specs:42"
        got = (await world.client.get(created.headers["location"])).json()
        assert got == created.json()
        assert got["name"] == "acme:specs:42"
        assert got["title"] == "Specification"
        assert got["meta"] == {"team": ["a", {"b": 1}]}
        assert got["seq"] == 0
        assert got["created_at"].startswith("2026-01-01T00:00:")

    async def test_creating_twice_is_a_conflict_and_changes_nothing(self, world: World) -> None:
        await world.create("d", "first")
        again = await world.client.post(
            "/v1/documents", json={"name": "d", "content": {"format": "text", "value": "second"}}
        )
        assert_problem(again, 409, "document_exists")
        assert await world.read("d") == "first"

    async def test_two_creations_at_once_have_one_winner(self, world: World) -> None:
        answers = await asyncio.gather(
            *(
                world.client.post("/v1/documents", json={"name": "d", "content": {"format": "text", "value": str(n)}})
                for n in range(10)
            )
        )
        assert sorted(answer.status_code for answer in answers) == [201] + [409] * 9
        winner = next(n for n, answer in enumerate(answers) if answer.status_code == 201)
        assert await world.read("d") == str(winner)

    async def test_content_that_cannot_be_read_creates_no_document(self, world: World) -> None:
        answer = await world.client.post(
            "/v1/documents", json={"name": "d", "content": {"format": "json", "value": 7, "type": "xml"}}
        )
        assert_problem(answer, 422, "invalid_content")
        assert_problem(await world.client.get("/v1/documents/d"), 404, "document_missing")

    async def test_pages_follow_each_other_in_name_order_without_gap_or_overlap(self, world: World) -> None:
        names = [f"a:{n:03}" for n in range(25)] + ["b:1"]
        for name in reversed(names):
            await world.create(name)
        seen: list[str] = []
        cursor: str | None = None
        for _ in range(10):
            query = {"prefix": "a:", "limit": "7"} | ({"cursor": cursor} if cursor else {})
            page = (await world.client.get("/v1/documents", params=query)).json()
            seen += [document["name"] for document in page["documents"]]
            cursor = page["next"]
            if cursor is None:
                break
        assert seen == names[:25]

    async def test_a_full_last_page_says_that_it_is_the_last(self, world: World) -> None:
        await world.create("a")
        await world.create("b")
        page = (await world.client.get("/v1/documents?limit=2")).json()
        assert (len(page["documents"]), page["next"]) == (2, None)

    async def test_a_change_leaves_what_it_does_not_name(self, world: World) -> None:
        await world.create("d", title="one", meta={"a": 1})
        changed = (await world.client.patch("/v1/documents/d", json={"title": "two"})).json()
        assert (changed["title"], changed["meta"]) == ("two", {"a": 1})
        changed = (await world.client.patch("/v1/documents/d", json={"meta": {"b": 2}})).json()
        assert (changed["title"], changed["meta"]) == ("two", {"b": 2})

    @pytest.mark.parametrize(
        "field", [{"created_at": "2020-01-01T00:00:00Z"}, {"name": "other"}, {"seq": 9}, {"owner_id": "me"}]
    )
    async def test_a_field_that_is_not_the_clients_to_set_is_refused(self, world: World, field: dict[str, Any]) -> None:
        await world.create("d")
        body = assert_problem(await world.client.patch("/v1/documents/d", json=field), 422, "invalid_request")
        assert body["faults"][0]["where"] == f"body.{next(iter(field))}"

    async def test_a_deleted_document_is_gone_and_its_name_stays_taken(self, world: World) -> None:
        await world.create("d", "text")
        assert (await world.client.delete("/v1/documents/d")).status_code == 204
        assert_problem(await world.client.get("/v1/documents/d"), 410, "document_deleted")
        assert_problem(await world.client.get("/v1/documents/d/content"), 410, "document_deleted")
        assert_problem(await world.client.post("/v1/documents", json={"name": "d"}), 409, "document_exists")
        assert (await world.client.get("/v1/documents")).json()["documents"] == []
        assert (await world.client.delete("/v1/documents/d")).status_code == 204

    async def test_deleting_ends_the_documents_room(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        evicted: list[tuple[str, CloseCode]] = []

        async def close_document(document: str, code: CloseCode) -> None:
            evicted.append((document, code))

        monkeypatch.setattr(world.hub, "close_document", close_document)
        await world.create("d")
        await world.client.delete("/v1/documents/d")
        assert evicted == [("d", CloseCode.DELETED)]

    async def test_deleting_what_never_was_is_404(self, world: World) -> None:
        assert_problem(await world.client.delete("/v1/documents/d"), 404, "document_missing")

    @pytest.mark.parametrize("name", [".hidden", "a b", "ä", "x" * 201, "a\nb", ""])
    async def test_a_name_outside_the_alphabet_is_refused_in_body_and_path(self, world: World, name: str) -> None:
        assert_problem(await world.client.post("/v1/documents", json={"name": name}), 400, "invalid_name")
        if name:
            assert_problem(await world.client.get(f"/v1/documents/{quote(name)}/content"), 400, "invalid_name")

    @pytest.mark.parametrize("path", ["a%2Fb", "a%2F..%2Fb", "..%2F..%2Fetc", "%2e%2e", "a%00", "a%252Fb"])
    async def test_no_path_trick_reaches_a_document(self, world: World, path: str) -> None:
        answer = await world.client.get(f"/v1/documents/{path}")
        assert answer.status_code in {400, 404}
        assert answer.headers["content-type"] == PROBLEM

    @pytest.mark.parametrize(
        "meta",
        [
            '{"a": NaN}',
            '{"a": 1e999}',
            '{"a": "\\ud800"}',
            '{"a": "\\u0000"}',
            '{"a":' * 30 + "1" + "}" * 30,
            "[]",
            '"x"',
        ],
    )
    async def test_meta_that_not_every_database_and_reader_can_hold_is_refused(self, world: World, meta: str) -> None:
        answer = await world.client.post(
            "/v1/documents", content=f'{{"name": "d", "meta": {meta}}}', headers={"Content-Type": "application/json"}
        )
        assert_problem(answer, 422, "invalid_request")

    async def test_meta_is_bounded(self, world: World) -> None:
        answer = await world.client.post("/v1/documents", json={"name": "d", "meta": {"a": "x" * 9000}})
        assert_problem(answer, 422, "invalid_request")

    async def test_nesting_beyond_any_parser_is_refused(self, world: World) -> None:
        answer = await world.client.post(
            "/v1/documents",
            content='{"name": "d", "meta": ' + '{"a":' * 100_000 + "1" + "}" * 100_001,
            headers={"Content-Type": "application/json"},
        )
        assert answer.status_code in {400, 422}
        assert answer.headers["content-type"] == PROBLEM


class TestContent:
    async def test_markdown_in_is_html_markdown_text_and_json_out(self, world: World) -> None:
        await world.create("d", content={"format": "markdown", "value": "# Title\n\nSome **words**."})
        assert "<h1>Title</h1>" in await world.read(form="html")
        assert (await world.read(form="markdown")).strip() == "# Title\n\nSome **words**."
        assert "Some words." in await world.read(form="text")
        document = (await world.client.get("/v1/documents/d/content")).json()
        assert document["type"] == "doc"
        assert document["content"][0]["type"] == "heading"

    async def test_the_update_of_one_document_makes_another_equal(self, world: World) -> None:
        await world.create("d", "as it was")
        update = (await world.client.get("/v1/documents/d/content?format=update")).content
        await world.create("copy")
        posted = await world.client.post(
            "/v1/documents/copy/updates", content=update, headers={"Content-Type": "application/octet-stream"}
        )
        assert posted.json() == {"seq": 1}
        assert await world.read("copy") == "as it was"

    async def test_k1_a_posted_update_is_answered_after_its_commit(self, world: World) -> None:
        update = await world.update_that_adds("hello")
        await world.create("d")
        posted = await world.client.post(
            "/v1/documents/d/updates", content=update, headers={"Content-Type": "application/octet-stream"}
        )
        assert posted.json()["seq"] == await world.store.log.last_seq("d") == 1
        assert (await world.store.log.load("d")).updates[0].update == update

    async def test_an_update_for_no_document_makes_none(self, world: World) -> None:
        update = await world.update_that_adds("hello")
        posted = await world.client.post(
            "/v1/documents/nowhere/updates", content=update, headers={"Content-Type": "application/octet-stream"}
        )
        assert_problem(posted, 404, "document_missing")

    @pytest.mark.parametrize("junk", [b"", b"\xff" * 40, b"\x01\x00\x05\x00\x00", b"\x00" * 7])
    async def test_bytes_that_are_no_update_are_400_and_not_kept(self, world: World, junk: bytes) -> None:
        await world.create("d")
        posted = await world.client.post(
            "/v1/documents/d/updates", content=junk, headers={"Content-Type": "application/octet-stream"}
        )
        assert_problem(posted, 400, "malformed_message")
        assert await world.store.log.last_seq("d") == 0

    async def test_the_etag_changes_exactly_when_the_content_does(self, world: World) -> None:
        await world.create("d", "one")
        first = await world.client.get("/v1/documents/d/content?format=text")
        etag = first.headers["etag"]
        same = await world.client.get(
            "/v1/documents/d/content?format=text", headers={"If-None-Match": f'"x", W/{etag}'}
        )
        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", etag)
        update = await world.update_that_adds("more")
        await world.client.post(
            "/v1/documents/d/updates", content=update, headers={"Content-Type": "application/octet-stream"}
        )
        changed = await world.client.get("/v1/documents/d/content?format=text", headers={"If-None-Match": etag})
        assert changed.status_code == 200
        assert changed.headers["etag"] != etag

    async def test_e12_hostile_content_is_an_attachment_that_no_browser_runs(self, world: World) -> None:
        await world.create("acme:d", content={"format": "html", "value": "<p>hi<script>alert(1)</script></p>"})
        answer = await world.client.get("/v1/documents/acme:d/content?format=html")
        assert "<script" not in answer.text
        assert answer.headers["content-disposition"] == 'attachment; filename="acme_d.html"'
        assert "sandbox" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"

    async def test_root_and_type_choose_what_is_read(self, world: World) -> None:
        await world.create("d", content={"format": "json", "value": {"a": 1}, "root": "settings", "type": "map"})
        answer = await world.client.get("/v1/documents/d/content?root=settings&type=map")
        assert answer.json() == {"a": 1}

    async def test_a_document_without_content_can_be_read_in_every_format(self, world: World) -> None:
        await world.create("d")
        for form in ("update", "json", "text", "html", "markdown"):
            answer = await world.client.get("/v1/documents/d/content", params={"format": form})
            assert answer.status_code == 200, (form, answer.text)


class TestSnapshots:
    async def test_a_snapshot_keeps_what_was_there_and_restoring_brings_it_back(self, world: World) -> None:
        await world.create("d", "before")
        taken = await world.client.post("/v1/documents/d/snapshots", json={"label": "v1"})
        assert taken.status_code == 201
        here = taken.headers["location"]
        assert here == f"/v1/documents/d/snapshots/{taken.json()['id']}"
        update = await world.update_that_adds("after")
        await world.client.post(
            "/v1/documents/d/updates", content=update, headers={"Content-Type": "application/octet-stream"}
        )
        assert await world.read("d") != "before"
        assert (await world.client.get(f"{here}/content?format=text")).text == "before"

        restored = await world.client.post(f"{here}/restore")
        assert restored.status_code == 200
        assert restored.json()["seq"] == await world.store.log.last_seq("d") == 3
        assert await world.read("d") == "before"

    async def test_restoring_what_is_there_already_adds_nothing(self, world: World) -> None:
        await world.create("d", "before")
        taken = (await world.client.post("/v1/documents/d/snapshots", json={})).json()
        restored = await world.client.post(f"/v1/documents/d/snapshots/{taken['id']}/restore")
        assert restored.json() == {"seq": 1}
        assert await world.store.log.last_seq("d") == 1

    async def test_a_snapshot_can_be_read_in_every_format(self, world: World) -> None:
        await world.create("d", content={"format": "markdown", "value": "# Title"})
        taken = (await world.client.post("/v1/documents/d/snapshots")).json()
        for form, part in {"json": "heading", "text": "Title", "html": "<h1>", "markdown": "# Title"}.items():
            answer = await world.client.get(f"/v1/documents/d/snapshots/{taken['id']}/content", params={"format": form})
            assert part in answer.text
        etag = answer.headers["etag"]
        again = await world.client.get(
            f"/v1/documents/d/snapshots/{taken['id']}/content", headers={"If-None-Match": etag}
        )
        assert again.status_code == 304

    async def test_snapshots_are_listed_newest_first_in_pages(self, world: World) -> None:
        await world.create("d", "text")
        for n in range(5):
            await world.client.post("/v1/documents/d/snapshots", json={"label": f"v{n}"})
        first = (await world.client.get("/v1/documents/d/snapshots?limit=3")).json()
        second = (await world.client.get(f"/v1/documents/d/snapshots?limit=3&before={first['next']}")).json()
        labels = [snapshot["label"] for snapshot in first["snapshots"] + second["snapshots"]]
        assert (labels, second["next"]) == (["v4", "v3", "v2", "v1", "v0"], None)

    async def test_a_deleted_snapshot_is_gone_and_the_document_stays(self, world: World) -> None:
        await world.create("d", "text")
        taken = (await world.client.post("/v1/documents/d/snapshots")).json()
        at = f"/v1/documents/d/snapshots/{taken['id']}"
        assert (await world.client.get(at)).json() == taken
        assert (await world.client.delete(at)).status_code == 204
        for answer in (
            await world.client.get(at),
            await world.client.get(f"{at}/content"),
            await world.client.delete(at),
        ):
            assert_problem(answer, 404, "snapshot_missing")
        assert await world.read("d") == "text"

    async def test_e13_a_snapshot_is_not_reached_through_another_document(self, world: World) -> None:
        await world.create("mine", "text")
        await world.create("yours", "secret")
        taken = (await world.client.post("/v1/documents/yours/snapshots")).json()
        for tail in ("", "/content"):
            assert_problem(
                await world.client.get(f"/v1/documents/mine/snapshots/{taken['id']}{tail}"), 404, "snapshot_missing"
            )
        assert_problem(
            await world.client.post(f"/v1/documents/mine/snapshots/{taken['id']}/restore"), 404, "snapshot_missing"
        )

    async def test_no_document_has_no_snapshots(self, world: World) -> None:
        assert_problem(await world.client.get("/v1/documents/d/snapshots"), 404, "document_missing")
        assert_problem(await world.client.post("/v1/documents/d/snapshots"), 404, "document_missing")


class TestErrors:
    async def test_an_unknown_address_and_a_wrong_method_are_problems(self, world: World) -> None:
        assert_problem(await world.client.get("/v1/nothing"), 404, "not_found")
        answer = await world.client.put("/v1/documents/d", json={})
        assert_problem(answer, 405, "method_not_allowed")
        assert "GET" in answer.headers["allow"]

    @pytest.mark.parametrize(
        ("error", "status", "code"),
        [
            (StoreUnavailable("host db-7 refused"), 503, "store_unavailable"),
            (EngineDied("signal 11"), 503, "engine_died"),
            (Draining("draining"), 503, "draining"),
            (DocumentQuarantined("d"), 423, "document_quarantined"),
        ],
    )
    async def test_what_may_succeed_later_says_when_to_try_and_nothing_of_the_inside(
        self, world: World, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, code: str
    ) -> None:
        async def fail(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(world.store.documents, "get", fail)
        answer = await world.client.get("/v1/documents/d")
        assert_problem(answer, status, code)
        assert int(answer.headers["retry-after"]) > 0
        assert "db-7" not in answer.text

    async def test_what_should_be_impossible_shows_no_traceback(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def fail(*_: object, **__: object) -> None:
            raise ZeroDivisionError("secret detail")

        monkeypatch.setattr(world.store.documents, "get", fail)
        answer = await world.client.get("/v1/documents/d")
        assert_problem(answer, 500, "fault")
        assert "secret" not in answer.text
        assert "Traceback" not in answer.text

    @pytest.mark.parametrize(
        ("method", "path", "media_type"),
        [
            ("POST", "/v1/documents", "text/plain"),
            ("POST", "/v1/documents", "application/x-www-form-urlencoded"),
            ("PATCH", "/v1/documents/d", "text/json"),
            ("POST", "/v1/documents/d/updates", "application/json"),
            ("POST", "/v1/documents/d/updates", ""),
            ("POST", "/v1/documents/d/snapshots", "multipart/form-data; boundary=x"),
        ],
    )
    async def test_e17_a_body_of_another_kind_is_415(
        self, world: World, method: str, path: str, media_type: str
    ) -> None:
        answer = await world.client.request(
            method, path, content=b'{"name": "d"}', headers={"Content-Type": media_type}
        )
        assert_problem(answer, 415, "unsupported_media_type")

    async def test_a_body_beyond_the_limit_is_413_announced_or_not(self, make_world: MakeWorld) -> None:
        world: World = await make_world(limits=BodyLimits(usual=2000, content=4000))
        json_type = {"Content-Type": "application/json"}

        async def stream(size: int) -> Any:
            for _ in range(size // 100):
                yield b" " * 100

        await world.create("d")
        for content in (b" " * 4100, stream(4100)):
            assert_problem(
                await world.client.post("/v1/documents", content=content, headers=json_type), 413, "content_too_large"
            )
        for content in (b" " * 2100, stream(2100)):
            assert_problem(
                await world.client.patch("/v1/documents/d", content=content, headers=json_type),
                413,
                "content_too_large",
            )
        within = b'{"title": "t"}' + b" " * 1900
        assert (await world.client.patch("/v1/documents/d", content=within, headers=json_type)).status_code == 200
        update = b"\x00" * 4100
        assert_problem(
            await world.client.post(
                "/v1/documents/d/updates", content=update, headers={"Content-Type": "application/octet-stream"}
            ),
            413,
            "content_too_large",
        )

    async def test_every_answer_under_v1_carries_the_safe_headers(self, world: World) -> None:
        await world.create("d")
        for path in ("/v1/documents", "/v1/documents/d", "/v1/nothing", "/v1/documents/.x"):
            headers = (await world.client.get(path)).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cache-control"] == "no-store"
            assert "default-src 'none'" in headers["content-security-policy"]


class TestDescription:
    async def test_the_openapi_document_describes_every_route_with_its_problems(self, world: World) -> None:
        schema = (await world.client.get("/openapi.json")).json()
        assert "Problem" in schema["components"]["schemas"]
        for path, operations in schema["paths"].items():
            for method, operation in operations.items():
                assert operation["summary"], (method, path)
                assert operation["description"], (method, path)
                problems = {s for s, r in operation["responses"].items() if PROBLEM in r.get("content", {})}
                assert {"401", "403", "503"} <= problems, (method, path)

    async def test_no_page_that_would_load_scripts_from_elsewhere_is_served(self, world: World) -> None:
        for path in ("/docs", "/redoc"):
            assert (await world.client.get(path)).status_code == 404
