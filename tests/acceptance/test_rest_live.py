"""REST beside open editors, on the real server: who is here, and changes that editors receive."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import jwt
from pycrdt import Doc, Text
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from tests.support import wire
from tests.support.door import Door, TestDoors
from tests.support.plain import PLAIN

SECRET = "k3Zp0s9QwX7vB2nM5cR8tY1uI4oL6aD_"


def token(**claims: Any) -> str:
    return jwt.encode({"sub": "ann", "exp": datetime.now(UTC) + timedelta(hours=1), **claims}, SECRET, "HS256")


def update_that_adds(text: str) -> bytes:
    writer: Doc[Text] = Doc()
    writer.get("t", type=Text).insert(0, text)
    return writer.get_update()


async def hello(door: Door, socket: ClientConnection) -> None:
    await socket.send(wire.step1())
    await door.receive(socket, wire.SYNC, wire.STEP2)
    await socket.send(wire.step2(b"\x00\x00"))


async def create(door: Door) -> None:
    async with httpx.AsyncClient(**PLAIN) as client:
        answer = await client.post(f"{door.http}/v1/documents", json={"name": door.document})
        assert answer.status_code == 201, answer.text


async def test_a_posted_update_reaches_whoever_has_the_document_open(door: Door) -> None:
    await create(door)
    async with door.socket() as socket:
        await hello(door, socket)
        update = update_that_adds("from a program")
        answer = await door.request("POST", "/updates", content=update)
        assert answer.json() == {"seq": 1}
        assert update in await door.receive(socket, wire.SYNC, wire.UPDATE)
    assert await door.committed_text() == "from a program"


async def test_content_reaches_an_editor_that_had_the_name_open_before_the_document(door: Door) -> None:
    async with door.socket() as socket, httpx.AsyncClient(**PLAIN) as client:
        await hello(door, socket)
        assert (await door.request("GET", "")).status_code == 404
        content = {"format": "text", "value": "template", "root": "t", "type": "text"}
        body = {"name": door.document, "content": content}
        assert (await client.post(f"{door.http}/v1/documents", json=body)).status_code == 201
        assert b"template" in await door.receive(socket, wire.SYNC, wire.UPDATE)
    assert await door.committed_text() == "template"


async def test_a_restored_snapshot_reaches_editors_as_a_change(door: Door) -> None:
    await create(door)
    await door.request("POST", "/updates", content=update_that_adds("first"))
    taken = (await door.request("POST", "/snapshots")).json()
    await door.request("POST", "/updates", content=update_that_adds("second "))
    async with door.socket() as socket:
        await socket.send(wire.step1())
        editor: Doc[Text] = Doc()
        editor.apply_update(await door.receive(socket, wire.SYNC, wire.STEP2))
        await socket.send(wire.step2(b"\x00\x00"))
        assert (await door.request("POST", f"/snapshots/{taken['id']}/restore")).status_code == 200
        editor.apply_update(await door.receive(socket, wire.SYNC, wire.UPDATE))
    assert str(editor.get("t", type=Text)) == await door.committed_text() == "first"


async def test_deleting_tells_editors_and_no_late_edit_brings_the_document_back(door: Door) -> None:
    await create(door)
    async with door.socket() as socket:
        await hello(door, socket)
        assert (await door.request("DELETE", "")).status_code == 204
        assert await close_code(socket) == 4410
    answer = await door.request("POST", "/updates", content=update_that_adds("too late"))
    assert (answer.status_code, answer.json()["code"]) == (410, "document_deleted")
    assert (await door.request("GET", "")).status_code == 410


async def test_who_is_here_is_shown_with_name_and_grant_and_d15_no_token_is_logged(doors: TestDoors) -> None:
    door = await doors.open(COLLAB_AUTH="jwt", COLLAB_JWT_SECRET=SECRET, COLLAB_LOG_LEVEL="debug")
    door.token = token(access="write", name="Ann", color="#aabbcc")
    reader = token(sub="ben", access="read")
    async with door.socket() as writing, door.socket(token=reader) as reading:
        await hello(door, writing)
        await hello(door, reading)
        await writing.send(wire.update(update_that_adds("x")))
        assert await door.until_committed("x")
        answer = (await door.request("GET", "/presence")).json()
        assert [(one["subject"], one["name"], one["color"], one["role"]) for one in answer["present"]] == [
            ("ann", "Ann", "#aabbcc", "write"),
            ("ben", None, None, "read"),
        ]
        assert answer["complete"]
        sent_away = await door.request("DELETE", "/presence?subject=ben&final=true")
        assert sent_away.status_code == 204
        assert await close_code(reading) == 4403
        assert (await door.request("DELETE", "/presence?subject=ann")).status_code == 204
        assert await close_code(writing) == 1012
    async with httpx.AsyncClient(**PLAIN) as client:
        query = f"{door.http}/v1/documents?token={reader}"
        assert [document["name"] for document in (await client.get(query)).json()["documents"]] == [door.document]
    said = door.server.output
    assert door.document in said or "WebSocket" in said
    for secret in (door.token, reader, SECRET):
        assert secret not in said
        assert secret.split(".")[-1] not in said


async def test_metrics_and_health_of_a_running_server(door: Door) -> None:
    async with door.socket() as socket, httpx.AsyncClient(**PLAIN, base_url=door.http) as client:
        await hello(door, socket)
        await socket.send(wire.update(update_that_adds("y")))
        assert await door.until_committed("y")
        text = (await client.get("/metrics")).text
        health = [(await client.get(path)).status_code for path in ("/livez", "/readyz")]
    assert health == [200, 200]
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(values["collab_sessions"]) >= 1
    assert float(values["collab_rooms"]) >= 1
    assert float(values["collab_rows_total"]) >= 1
    assert float(values["collab_edit_to_acknowledgement_seconds_count"]) >= 1
    assert door.document not in text


async def test_the_server_and_its_description_agree(door: Door) -> None:
    async with httpx.AsyncClient(**PLAIN, base_url=door.http) as client:
        answer = await client.get("/openapi.json")
    assert json.loads(answer.text)["info"]["title"] == "collab"
    assert "server" not in answer.headers


async def close_code(socket: ClientConnection) -> int | None:
    try:
        while True:
            await socket.recv()
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else None
