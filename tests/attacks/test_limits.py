"""Attacks that are no single frame but too much of something, on a real server; others notice nothing.

Each test has the id of its attack. Those on rates, addresses and deadlines are in `tests/unit/server/test_limits.py`,
on sockets too, where time and limits can be chosen.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import httpx
import pytest
from pycrdt import Doc, Text

from collab.errors import CloseCode
from tests.attacks.control import ControlRoom
from tests.support import wire
from tests.support.plain import PLAIN

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

    from tests.support.door import Door, TestDoors

LARGE = 300_000
MARK = 7


async def limit_met(door: Door, limit: str) -> float:
    """How often a limit was met, as the metrics say."""
    async with httpx.AsyncClient(**PLAIN) as client:
        text = (await client.get(f"{door.server.url}/metrics")).text
    line = next((line for line in text.splitlines() if f'limits_total{{limit="{limit}"}}' in line), "0 0")
    return float(line.split()[-1])


async def until_said(socket: ClientConnection, version: int) -> list[tuple[int, int | None, bytes]]:
    """Everything up to the answer to a sync status."""
    await socket.send(wire.status(version))
    seen: list[tuple[int, int | None, bytes]] = []
    async with asyncio.timeout(30):
        while True:
            for message in wire.messages(await socket.recv(decode=False)):
                seen.append(message)
                if message[0] == wire.SYNC_STATUS and message[2] == wire.varuint(version):
                    return seen


def grown(document: Doc[Text], text: str) -> bytes:
    before = document.get_state()
    root = document.get("t", type=Text)
    root += text
    return document.get_update(before)


def many_clients(count: int) -> bytes:
    """One character of each of ``count`` clients, all at the beginning: each is compared with all before it."""
    structs = (
        b"\x01" + wire.varuint(client) + b"\x00" + b"\x04\x01" + wire.prefixed(b"t") + wire.prefixed(b"x")
        for client in range(count, 0, -1)
    )
    return wire.varuint(count) + b"".join(structs) + b"\x00"


@pytest.mark.parametrize("vector", [b"\x00", b"\x01\x05\x01"], ids=["empty", "of another document"])
async def test_b03_a_large_document_is_not_sent_again_and_again(door: Door, vector: bytes) -> None:
    async with ControlRoom(door.ws, f"{door.document}:beside") as beside, door.socket() as socket:
        await socket.send(wire.step2(b"\x00\x00"))
        await socket.send(wire.update(grown(Doc(), "x" * LARGE)))
        await until_said(socket, 1)
        began, sent = time.monotonic(), 0
        for round_ in range(20):
            for _ in range(10):
                await socket.send(wire.step1(vector))
            seen = await until_said(socket, round_ + 2)
            sent += sum(len(payload) > LARGE for kind, _, payload in seen if kind == wire.SYNC)
        assert sent <= 1 + (time.monotonic() - began) // 5 + 1
        await beside.still_syncs()
    assert await limit_met(door, "answers") > 0


async def test_b13_updates_that_wait_for_what_never_comes_have_a_budget(door: Door) -> None:
    async with ControlRoom(door.ws, f"{door.document}:beside") as beside, ControlRoom(door.ws, door.document) as inside:
        async with door.socket() as socket:
            for client in range(1_000, 2_500):
                document: Doc[Text] = Doc(client_id=client)
                grown(document, "never sent")
                await socket.send(wire.update(grown(document, "x" * 400)))
            await socket.wait_closed()
            assert socket.close_code == CloseCode.MALFORMED.code
        await inside.still_syncs()
        await beside.still_syncs()


async def test_b15_very_many_clients_at_one_place_hold_up_nobody_else(doors: TestDoors) -> None:
    door = await doors.open(COLLAB_MANY_CLIENTS="5000")
    async with ControlRoom(door.ws, f"{door.document}:beside") as beside:
        async with door.socket() as socket:
            await socket.send(wire.step2(b"\x00\x00"))
            await socket.send(wire.update(many_clients(8_000)))
            await until_said(socket, 1)  # within the engine's deadline it is an update like any other
            await socket.send(wire.step1())
            await until_said(socket, 2)
        await beside.still_syncs()
    assert await limit_met(door, "clients") == 1
    assert "document_has_many_clients" in door.server.output


async def test_b20_deleted_text_counts_for_little_and_a_full_document_is_closed_with_4413(doors: TestDoors) -> None:
    door = await doors.open(COLLAB_MAX_DOCUMENT_BYTES=str(64 * 1024), COLLAB_COMPACT_AFTER_UPDATES="10")
    document: Doc[Text] = Doc()
    text = document.get("t", type=Text)
    async with door.socket() as socket:
        await socket.send(wire.step2(b"\x00\x00"))
        for version in range(1, 41):
            await socket.send(wire.update(grown(document, "x" * 8_000)))
            before = document.get_state()
            del text[:]
            await socket.send(wire.update(document.get_update(before)))
            await until_said(socket, version)
        assert len(await door.committed_update()) < 10_000
        await socket.send(wire.update(grown(document, "x" * 50_000)))
        await until_said(socket, 100)
        assert await limit_met(door, "document_size") == 1
        await socket.send(wire.update(grown(document, "x" * 50_000)))
        await socket.wait_closed()
        assert socket.close_code == CloseCode.QUOTA.code
    assert len(await door.committed_text()) == 50_000


async def test_c05_states_of_everybody_are_malformed_and_those_of_others_leave_no_trace(door: Door) -> None:
    async with door.socket() as viewer:
        async with door.socket() as socket:
            await socket.send(wire.awareness(*((client, 1, "null") for client in range(20_000))))
            await socket.wait_closed()
            assert socket.close_code == CloseCode.MALFORMED.code
        async with door.socket() as socket:
            await socket.send(wire.awareness((1, 1, "{}")))
            for first in range(10, 10_010, 500):
                await socket.send(wire.awareness(*((client, 1, "null") for client in range(first, first + 500))))
            await socket.send(bytes([wire.QUERY_AWARENESS]))
            entries = b"\x01\x01\x01\x02{}"  # one entry: client 1, clock 1
            async with asyncio.timeout(15):
                while (wire.AWARENESS, None, entries) not in list(wire.messages(await socket.recv(decode=False))):
                    pass
        await viewer.send(bytes([wire.QUERY_AWARENESS]))
        known = await door.receive(viewer, wire.AWARENESS)
        assert len(known) < 20


async def test_a14_a_ping_flood_is_read_slowly_and_others_type_on(doors: TestDoors) -> None:
    door = await doors.open()
    async with ControlRoom(door.ws, f"{door.document}:beside") as beside, door.socket() as socket:
        pings = bytes([0x89, 0x80, 0, 0, 0, 0]) * 30_000
        socket.transport.write(pings)
        while not await limit_met(door, "messages"):
            await asyncio.sleep(0.01)
        await beside.still_syncs(20)
        assert socket.close_code is None  # slower first; sent away only after a minute
        socket.transport.abort()  # its goodbye would wait behind all of them


MILLION = 1_000_000


@pytest.mark.parametrize(
    ("form", "value", "status"),
    [
        ("json", "[" + "0," * (MILLION - 1) + "0]", 201),
        ("json", "[" + "[]," * (3 * MILLION) + "[]]", 422),
        ("html", '"<ul>' + "<li>x" * MILLION + '</ul>"', 422),
        ("markdown", '"' + "- x\\n" * MILLION + '"', 422),
    ],
    ids=["numbers", "lists", "html", "markdown"],
)
async def test_e11_a_million_items_are_taken_or_refused_and_others_type_on(
    door: Door, form: str, value: str, status: int
) -> None:
    name = f"{door.document}:{form}:{len(value)}"
    body = f'{{"name":"{name}","content":{{"format":"{form}","value":{value}}}}}'.encode()
    async with ControlRoom(door.ws, f"{door.document}:beside") as beside, httpx.AsyncClient(**PLAIN) as client:
        headers = {"Content-Type": "application/json"}
        asking = client.post(f"{door.http}/v1/documents", content=body, headers=headers, timeout=200)
        async with asyncio.TaskGroup() as group:
            asked = group.create_task(asking)
            await beside.still_syncs()
        assert asked.result().status_code == status, asked.result().text
        await beside.still_syncs()
        assert (await client.get(f"{door.http}/v1/documents/{name}")).status_code == (200 if status == 201 else 404)


@pytest.mark.parametrize("listing", ["/v1/documents", "/v1/documents/d/snapshots"])
@pytest.mark.parametrize("limit", ["101", "0", "-1", "1e9", "9" * 400])
async def test_e08_a_page_has_1_to_100_entries(door: Door, listing: str, limit: str) -> None:
    async with httpx.AsyncClient(**PLAIN) as client:
        response = await client.get(f"{door.server.url}{listing}?limit={limit}")
    assert response.status_code == 422
