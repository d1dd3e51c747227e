"""The nginx.conf that ships, before nodes that do as they are told: where requests go, and what never gets there."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from collab.server.auth import MAX_TOKEN_CHARS
from collab.settings import Settings
from deploy.local import nginx_command
from tests.support.plain import PLAIN
from tests.support.ports import free_port

DOCUMENTS = [f"acme:notes:{number}" for number in range(24)]
PATIENCE_S = 20.0
FAIL_TIMEOUT_S = 1
HANGS_UP = 0
"""As a status: reads the request and closes the connection."""
CLOSE_FRAME = b"\x88\x02\x03\xe8"
WEBSOCKET_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class FakeNode:
    """Answers everything with ``status`` and its own name; a WebSocket gets the name, and goodbye."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = free_port()
        self.status = 200
        self.heard: list[Request] = []
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            for writer in self._open:
                writer.transport.abort()
            await self._server.wait_closed()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                request = await self._read(reader)
                self.heard.append(request)
                if self.status == HANGS_UP:
                    break
                writer.write(self._answer(request))
                if "upgrade" in request.headers:
                    await reader.read(100)  # a client says nothing but goodbye
                    writer.write(CLOSE_FRAME)
                    break
        self._open.discard(writer)
        writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> Request:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        method, path, _ = first.split(" ")
        return Request(method, path, headers, await reader.readexactly(int(headers.get("content-length", 0))))

    def _answer(self, request: Request) -> bytes:
        name = self.name.encode()
        if self.status == 200 and request.headers.get("upgrade") == "websocket":
            digest = hashlib.sha1((request.headers["sec-websocket-key"] + WEBSOCKET_GUID).encode()).digest()
            head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            accept = f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}\r\n\r\n"
            return (head + accept).encode() + bytes((0x82, len(name))) + name
        return f"HTTP/1.1 {self.status} As Told\r\nContent-Length: {len(name)}\r\n\r\n".encode() + name


class Front:
    """nginx, two nodes, and a client before them."""

    def __init__(self, client: httpx.AsyncClient, port: int, nodes: Iterable[FakeNode], log: Path) -> None:
        self.client = client
        self.ws = f"ws://127.0.0.1:{port}"
        self.nodes = {node.name: node for node in nodes}
        self._log = log

    async def answers(self) -> bool:
        """Whether nginx itself is up."""
        try:
            return (await self.client.get("/-/healthy")).status_code == 204
        except httpx.TransportError:
            return False

    async def ask(self, path: str) -> str:
        """Which node answered."""
        response = await self.client.get(path)
        assert response.status_code == 200, response.text
        return response.text

    async def join(self, path: str) -> str:
        """Which node took a WebSocket."""
        async with connect(f"{self.ws}{path}", compression=None, proxy=None) as socket:
            name = await socket.recv()
            assert isinstance(name, bytes)
            return name.decode()

    async def of(self, document: str) -> tuple[FakeNode, FakeNode]:
        """The node of a document, and the other one."""
        mine = await self.join(f"/yjs/{document}")
        (other,) = (node for name, node in self.nodes.items() if name != mine)
        return self.nodes[mine], other

    def forget(self) -> None:
        for node in self.nodes.values():
            node.heard.clear()

    def log(self) -> str:
        return self._log.read_text()


@contextlib.asynccontextmanager
async def before(nodes: Sequence[FakeNode], folder: Path) -> AsyncIterator[Front]:
    """nginx with these nodes behind it."""
    folder.mkdir()
    for parent in (folder, *folder.parents[:3]):
        parent.chmod(parent.stat().st_mode | 0o055)  # nginx's workers give up root
    port, log = free_port(), folder / "log"
    addresses = [f"127.0.0.1:{node.port}" for node in nodes]
    listen = f"127.0.0.1:{port}"
    command = nginx_command(folder / "nginx", listen=listen, nodes=addresses, fail_timeout_s=FAIL_TIMEOUT_S)
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        async with httpx.AsyncClient(base_url=f"http://{listen}", **PLAIN, timeout=PATIENCE_S) as client:
            front = Front(client, port, nodes, log)
            async with asyncio.timeout(PATIENCE_S):
                while not await front.answers():
                    assert process.poll() is None, front.log()
                    await asyncio.sleep(0.02)
            yield front
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait)


@pytest.fixture
async def nodes() -> AsyncIterator[list[FakeNode]]:
    """Three nodes that answer."""
    if shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin") is None:
        pytest.skip("no nginx on this machine")
    started = [FakeNode(name) for name in ("one", "two", "three")]
    for node in started:
        await node.start()
    yield started
    for node in started:
        await node.stop()


@pytest.fixture
async def front(nodes: list[FakeNode], tmp_path: Path) -> AsyncIterator[Front]:
    """nginx before two of them."""
    async with before(nodes[:2], tmp_path / "front") as running:
        yield running


async def test_a_document_has_one_node_however_it_is_asked_for(front: Front) -> None:
    used = set()
    for document in DOCUMENTS:
        encoded = document.replace(":", "%3A")
        paths = [f"/v1/documents/{document}", f"/v1/documents/{document}/content?format=text"]
        paths += [f"/v1/documents/{encoded}/snapshots", f"/yjs/{document}"]
        names = {await front.ask(path) for path in paths} | {await front.join(f"/yjs/{encoded}?token=a")}
        assert len(names) == 1
        used |= names
    assert used == set(front.nodes)


async def test_what_is_about_no_document_goes_anywhere(front: Front) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not all(node.heard for node in front.nodes.values()):
            await front.ask("/v1/documents?limit=10")


async def test_the_documents_of_a_dead_node_move_and_no_others_and_come_back_with_it(front: Front) -> None:
    before = {document: await front.join(f"/yjs/{document}") for document in DOCUMENTS}
    await front.nodes["one"].stop()
    for document in DOCUMENTS:
        assert await front.join(f"/yjs/{document}") == "two"
        assert await front.ask(f"/v1/documents/{document}") == "two"
    await front.nodes["one"].start()
    async with asyncio.timeout(PATIENCE_S):
        while {document: await front.join(f"/yjs/{document}") for document in DOCUMENTS} != before:
            await asyncio.sleep(FAIL_TIMEOUT_S / 4)


async def test_a_new_node_takes_its_share_and_nothing_moves_between_the_others(
    nodes: list[FakeNode], tmp_path: Path
) -> None:
    asked: list[dict[str, str]] = []
    for count in (2, 3):
        async with before(nodes[:count], tmp_path / str(count)) as front:
            asked.append({document: await front.ask(f"/yjs/{document}") for document in DOCUMENTS})
    two, three = asked
    moved = {document for document in DOCUMENTS if two[document] != three[document]}
    assert 0 < len(moved) < len(DOCUMENTS)
    assert {three[document] for document in moved} == {"three"}


async def test_c3_a_node_that_refuses_upgrades_is_left_for_the_next(front: Front) -> None:
    mine, other = await front.of("d")
    mine.status = 503
    front.forget()
    assert await front.join("/yjs/d") == other.name
    assert (len(mine.heard), len(other.heard)) == (1, 1)
    mine.status = 200
    assert await front.join("/yjs/d") == mine.name


async def test_c3_a_request_without_an_answer_keeps_the_others_away_for_a_while(front: Front) -> None:
    mine, other = await front.of("d")
    mine.status = HANGS_UP
    front.forget()
    assert [await front.ask("/v1/documents/d") for _ in range(3)] == [other.name] * 3
    assert len(mine.heard) == 1
    mine.status = 200
    async with asyncio.timeout(PATIENCE_S):
        while await front.ask("/v1/documents/d") != mine.name:
            await asyncio.sleep(FAIL_TIMEOUT_S / 4)


async def test_f35_everybody_gets_in_at_once_after_each_node_was_away_once(front: Front) -> None:
    """With max_fails above 0 nginx lets one WebSocket in per fail_timeout, as long as none of them ends."""
    async with contextlib.AsyncExitStack() as sockets:
        for away, left in (("one", "two"), ("two", "one"), ("one", "two")):
            await front.nodes[away].stop()
            urls = [f"{front.ws}/yjs/{document}" for document in DOCUMENTS]
            opened = [
                await sockets.enter_async_context(connect(url, compression=None, proxy=None, close_timeout=1))
                for url in urls
            ]
            assert {await socket.recv() for socket in opened} == {left.encode()}
            await front.nodes[away].start()


async def test_when_every_node_refuses_the_client_hears_so(front: Front) -> None:
    for node in front.nodes.values():
        node.status = 503
    with pytest.raises(InvalidStatus) as refused:
        await front.join("/yjs/d")
    assert refused.value.response.status_code == 503
    assert all(len(node.heard) == 1 for node in front.nodes.values())


async def test_a_request_that_changes_something_is_sent_once(front: Front) -> None:
    for number, status in enumerate((503, HANGS_UP)):
        document = f"once-{number}"
        mine, other = await front.of(document)
        front.forget()
        mine.status = status
        response = await front.client.post(f"/v1/documents/{document}/updates", content=b"u")
        assert response.status_code == 503
        assert (len(mine.heard), len(other.heard)) == (1, 0)
        mine.status = 200
        await asyncio.sleep(FAIL_TIMEOUT_S)


async def test_a_request_without_an_answer_takes_no_node_away_from_sockets(front: Front) -> None:
    mine, other = await front.of("d")
    mine.status = HANGS_UP
    assert await front.ask("/v1/documents/d/content") == other.name
    mine.status = 200
    front.forget()
    assert await front.join("/yjs/d") == mine.name
    assert other.heard == []


async def test_p5_a_503_to_a_request_is_the_answer_and_takes_no_node_away(front: Front) -> None:
    mine, other = await front.of("d")
    mine.status = other.status = 503
    front.forget()
    assert [(await front.client.get("/v1/documents/d")).status_code for _ in range(3)] == [503] * 3
    assert (len(mine.heard), len(other.heard)) == (3, 0)
    mine.status = other.status = 200
    assert await front.ask("/v1/documents/d") == mine.name


async def test_with_no_node_at_all_the_answer_is_a_problem_of_ours(front: Front) -> None:
    for node in front.nodes.values():
        await node.stop()
    response = await front.client.get("/v1/documents/d")
    assert (response.status_code, response.headers["content-type"]) == (503, "application/problem+json")
    assert (response.json()["code"], response.headers["retry-after"]) == ("no_node", "2")


@pytest.mark.parametrize(
    "path", ["/metrics", "/livez", "/readyz", "//metrics", "/%6detrics", "/x/../metrics", "/metrics?a"]
)
async def test_e19_what_is_for_machines_is_not_shown_outside(front: Front, path: str) -> None:
    url = httpx.URL(str(front.client.base_url)).copy_with(raw_path=path.encode())
    assert (await front.client.get(url)).status_code == 404
    assert not any(node.heard for node in front.nodes.values())


async def test_k01_a_name_that_is_not_ours_reaches_nothing(front: Front) -> None:
    response = await front.client.get("/v1/documents", headers={"Host": "rebound.example:8000"})
    assert response.status_code == 421
    assert not any(node.heard for node in front.nodes.values())


async def test_the_largest_body_passes_and_one_byte_more_is_a_problem(front: Front) -> None:
    largest = bytes(Settings().max_import_bytes)
    response = await front.client.post("/v1/documents/d/updates", content=largest)
    assert response.status_code == 200
    assert front.nodes[response.text].heard[-1].body == largest
    front.forget()
    refused = await front.client.post("/v1/documents/d/updates", content=largest + b"x")
    assert (refused.status_code, refused.headers["content-type"]) == (413, "application/problem+json")
    assert refused.json()["code"] == "content_too_large"
    assert not any(node.heard for node in front.nodes.values())


async def test_a_node_learns_who_asks_and_under_which_name_and_nobody_can_pretend(front: Front) -> None:
    forged = {"X-Forwarded-For": "10.9.8.7", "X-Forwarded-Proto": "https"}
    name = (await front.client.get("/v1/documents/d", headers=forged)).text
    async with connect(f"{front.ws}/yjs/d", additional_headers=forged, compression=None, proxy=None) as socket:
        assert await socket.recv() == name.encode()
    for request in front.nodes[name].heard:
        assert request.headers["host"] == f"127.0.0.1:{front.client.base_url.port}"
        assert request.headers["x-forwarded-for"] == "127.0.0.1"
        assert request.headers["x-forwarded-proto"] == "http"


async def test_only_a_websocket_can_be_asked_to_switch_protocols(front: Front) -> None:
    name = (await front.client.get("/v1/documents/d", headers={"Connection": "upgrade", "Upgrade": "h2c"})).text
    (request,) = front.nodes[name].heard
    assert "upgrade" not in request.headers
    assert request.headers.get("connection", "") == ""


async def test_k06_a_token_is_in_no_log_whatever_goes_wrong(front: Front) -> None:
    token = "s3cret" + "x" * (MAX_TOKEN_CHARS - 6)
    path = f"/yjs/d?token={token}"
    await front.join(path)
    mine, other = await front.of("d")
    mine.status = 503
    await front.join(path)
    mine.status = other.status = HANGS_UP
    with pytest.raises(InvalidStatus):
        await front.join(path)
    for node in front.nodes.values():
        await node.stop()
    with pytest.raises(InvalidStatus):
        await front.join(path)
    async with asyncio.timeout(PATIENCE_S):
        while len(re.findall(r'"path":"/yjs/d"', front.log())) < 4:
            await asyncio.sleep(0.02)
    assert "s3cret" not in front.log()
