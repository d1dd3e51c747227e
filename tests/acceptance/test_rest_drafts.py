"""Creating documents with bodies of every size: who reads them, and who is refused before anybody does."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from collab.engine.draft import MAX_REST_BYTES, Parts
from collab.engine.isolated import IsolatedEngine
from collab.server.auth import JwtAccess
from collab.server.guard import BodyLimits
from collab.server.rest import drafts
from collab.settings import Settings
from tests.acceptance.conftest import SECRET, MakeWorld, World, bearer

JSON = {"Content-Type": "application/json"}
MANY = 100_000


def body(name: str, form: str, value: Any) -> bytes:
    return json.dumps({"name": name, "content": {"format": form, "value": value}}).encode()


class Reader:
    """What JSON text this process reads while a test lasts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.longest = 0
        self.taken_apart = 0
        loads, take_apart = json.loads, drafts.take_apart

        def noted_loads(text: str | bytes, **more: Any) -> Any:
            self.longest = max(self.longest, len(text))
            return loads(text, **more)

        def noted_take_apart(text: bytes) -> Parts:
            self.taken_apart += 1
            return take_apart(text)

        monkeypatch.setattr(json, "loads", noted_loads)
        monkeypatch.setattr(drafts, "take_apart", noted_take_apart)


@pytest.fixture
async def isolated(make_world: MakeWorld) -> World:
    made: World = await make_world(engine=IsolatedEngine(keep_warm=False), authenticate=JwtAccess(SECRET))
    made.client.headers.update(bearer(access="write"))
    return made


@pytest.mark.parametrize(
    ("form", "value", "status"),
    [
        ("json", ["x"] * MANY, 201),
        ("html", "<ul>" + "<li>x" * 1_000, 201),
        ("json", [[]] * MANY, 201),
        ("text", [[]] * MANY, 422),
        ("json", {"type": "doc", "content": [[]] * MANY}, 422),
        ("json", "[" * MANY, 201),
    ],
)
async def test_e11_what_is_large_is_read_by_the_engine_and_never_here(
    isolated: World, monkeypatch: pytest.MonkeyPatch, form: str, value: Any, status: int
) -> None:
    sent = body("d", form, value) + b" " * drafts.READ_HERE_BYTES
    reader = Reader(monkeypatch)
    answer = await isolated.client.post("/v1/documents", content=sent, headers=JSON)
    assert answer.status_code == status, answer.text
    assert reader.taken_apart == 0
    assert reader.longest <= MAX_REST_BYTES


async def test_e11_a_large_body_that_is_no_description_is_read_by_the_engine(
    isolated: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = Reader(monkeypatch)
    for sent, status in ((b"[" + b"[]," * MANY + b"[]]", 413), (b'{"a":' * MANY, 422), (b" " * MANY + b"{", 422)):
        answer = await isolated.client.post("/v1/documents", content=sent, headers=JSON)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert reader.taken_apart == 0
    assert reader.longest <= MAX_REST_BYTES


async def test_what_is_small_needs_no_engine_to_be_read(isolated: World, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Reader(monkeypatch)
    await isolated.engine.close()
    answer = await isolated.client.post("/v1/documents", content=b'{"name":"d","title":"t"}', headers=JSON)
    assert (answer.status_code, reader.taken_apart) == (201, 1)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        (bearer(), 403),
        (bearer(documents={"d": "read", "e:*": "comment"}), 403),
        (bearer(access="comment"), 403),
        (bearer(documents={"d": "read", "e:*": "write"}), 422),
    ],
)
async def test_e11_who_may_write_nothing_is_refused_before_anything_is_read(
    guarded: World, headers: dict[str, str], status: int
) -> None:
    await guarded.store.documents.create("d")
    await guarded.store.grants.put("d", "ann", "write", by="root")  # makes nobody a creator: documents come by token
    read: list[bytes] = []

    async def sent() -> AsyncIterator[bytes]:
        read.append(b"{}")
        yield read[0]

    answer = await guarded.client.post("/v1/documents", content=sent(), headers={**JSON, **headers})
    assert (answer.status_code, bool(read)) == (status, status == 422), answer.text


async def test_e11_the_right_is_for_the_name_in_the_body_whatever_its_size(isolated: World) -> None:
    held = bearer(documents={"mine": "write"})
    for value in ("x", "x\n" * drafts.READ_HERE_BYTES):
        for content in (body("theirs", "text", value), body("theirs", "json", 7) + b" " * len(value)):
            answer = await isolated.client.post("/v1/documents", content=content, headers={**JSON, **held})
            assert answer.status_code == 403


async def test_bodies_without_content_are_short(world: World) -> None:
    """The longest that is valid is: every character of title and meta an escape of six times its size."""
    assert BodyLimits() == BodyLimits(usual=Settings().max_body_bytes, content=Settings().max_import_bytes)
    await world.create("d")
    meta = "".join(f"\\u{ord(char):04x}" for char in "x" * 8_000)
    title = "\\ud83d\\ude00" * 300
    longest = f'{{"title": "{title}", "meta": {{"a": "{meta}"}}}}'.encode()
    answer = await world.client.patch("/v1/documents/d", content=longest, headers=JSON)
    assert (answer.status_code, answer.json()["title"]) == (200, "\U0001f600" * 300)
    over = longest + b" " * BodyLimits().usual
    assert (await world.client.patch("/v1/documents/d", content=over, headers=JSON)).status_code == 413
