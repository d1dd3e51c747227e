"""`python3 deploy/local.py`: nginx, two nodes, Redis and PostgreSQL as real processes; stock clients before them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from collab.errors import CloseCode
from tests.support.clients import StockClient, StockClients
from tests.support.plain import PLAIN
from tests.support.postgres import find_binaries

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0
"""For processes to start and stop; the machine may be busy."""
TYPE_ON = """
client.written = 0
client.typing = setInterval(() => doc.getText('t').insert(0, `${arg}.${++client.written};`), 20)
"""
STOP_TYPING = "clearInterval(client.typing); return client.written"
CALM = "doc.getText('t').toString().split(';').length - 1 === arg"


class Local:
    """The script in a process of its own, as a person runs it."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._state = folder / "state.json"
        self._log = folder / "log"
        command = [sys.executable, "deploy/local.py", "--port", "0", "--state", str(self._state), *arguments]
        clean = {key: value for key, value in os.environ.items() if not key.startswith("COLLAB_")}
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=clean, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self.wait_until(self._state.exists, "it does not start")

    def wait_until(self, holds: Callable[[], bool], otherwise: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            assert self.process.poll() is None, self.log
            assert time.monotonic() < deadline, f"{otherwise}\n{self.log}"
            time.sleep(0.05)

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def address(self) -> str:
        return str(self._read()["address"])

    @property
    def ws(self) -> str:
        return f"{self.address.replace('http', 'ws', 1)}/yjs"

    @property
    def nodes(self) -> dict[str, int]:
        """Address -> process id, of those that run now."""
        return {node["address"]: node["pid"] for node in self._read()["nodes"]}

    def _read(self) -> Any:
        return json.loads(self._state.read_text())

    def stop(self) -> int:
        """Ctrl-C; the exit status."""
        self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(PATIENCE_S)
        finally:
            self.process.kill()


@pytest.fixture(scope="module", autouse=True)
def _programs() -> None:
    for program in ("nginx", "redis-server"):
        if shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin") is None:
            pytest.skip(f"no {program} on this machine")
    if find_binaries() is None:
        pytest.skip("no PostgreSQL binaries on this machine")


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    """Two nodes, for every test here; each leaves both of them running."""
    started = Local(tmp_path_factory.mktemp("local"))
    yield started
    assert started.stop() == 0, started.log


@pytest.fixture
async def http(local: Local) -> AsyncIterator[httpx.AsyncClient]:
    """A client of nginx."""
    async with httpx.AsyncClient(base_url=local.address, **PLAIN, timeout=PATIENCE_S) as client:
        yield client


async def exposition(node: str) -> str:
    async with httpx.AsyncClient(**PLAIN, timeout=PATIENCE_S) as client:
        return (await client.get(f"{node}/metrics")).raise_for_status().text


async def sessions(local: Local) -> dict[str, int]:
    """Sessions of each node, by its address."""
    counted = {}
    for node in local.nodes:
        (count,) = re.findall(r"^collab_sessions (\S+)$", await exposition(node), re.MULTILINE)
        counted[node] = int(float(count))
    return counted


async def committed(http: httpx.AsyncClient, document: str) -> str:
    response = await http.get(f"/v1/documents/{document}/content?format=text&type=text&root=t")
    return response.text if response.status_code == 200 else ""


async def joined(clients: list[StockClient]) -> None:
    for client in clients:
        await client.synced()


async def typed_text(clients: list[StockClient]) -> str:
    """Stop everybody who types and return the one text that all of them come to."""
    written = sum([int(await client.run(STOP_TYPING)) for client in clients])
    for client in clients:
        await client.until(CALM, written, seconds=PATIENCE_S)
    texts = {await client.text() for client in clients}
    assert len(texts) == 1
    (text,) = texts
    assert len(set(text.split(";"))) == written + 1, "a token is there twice"
    return text


async def until_committed(http: httpx.AsyncClient, document: str, text: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while await committed(http, document) != text:
            await asyncio.sleep(0.05)


async def everybody_back(local: Local, before: dict[str, int]) -> None:
    """Wait until no node is one of ``before`` that was ended, and all are ready."""
    async with httpx.AsyncClient(**PLAIN, timeout=PATIENCE_S) as client, asyncio.timeout(PATIENCE_S):
        for node in local.nodes:
            while True:
                with contextlib.suppress(httpx.TransportError):
                    if (await client.get(f"{node}/readyz")).status_code == 200 and local.nodes != before:
                        break
                await asyncio.sleep(0.05)


async def test_the_sessions_of_a_document_meet_on_one_node_and_documents_are_shared_out(
    local: Local, stock: StockClients
) -> None:
    nodes_used = set()
    for number in range(12):
        before = await sessions(local)
        pair = [await stock.open(local.ws, f"meet:{number}") for _ in range(2)]
        await joined(pair)
        after = await sessions(local)
        gained = {node: after[node] - before[node] for node in after}
        assert sorted(gained.values()) == [0, 2]
        nodes_used.add(max(gained, key=lambda node: gained[node]))
    assert nodes_used == set(local.nodes)


async def test_p3_sessions_on_different_nodes_are_in_one_document_all_the_same(
    local: Local, stock: StockClients, http: httpx.AsyncClient
) -> None:
    here, there = [
        await stock.open(f"{node.replace('http', 'ws', 1)}/yjs", "apart", presence={"name": f"on {node}"})
        for node in local.nodes
    ]
    await joined([here, there])
    await here.insert("from one ")
    await there.until_text("from one ")
    await there.insert("and the other")
    await here.until_text("from one and the other")
    assert await here.canonical() == await there.canonical()
    for client in (here, there):
        await client.until("awareness.getStates().size === 2")
    await until_committed(http, "apart", "from one and the other")
    for node in local.nodes:
        async with httpx.AsyncClient(base_url=node, **PLAIN) as straight:
            assert await committed(straight, "apart") == "from one and the other"
            assert len((await straight.get("/v1/documents/apart/presence")).json()["present"]) == 2


async def test_rest_goes_through_nginx_and_live_editors_hear_of_it(
    local: Local, stock: StockClients, http: httpx.AsyncClient
) -> None:
    content = {"format": "text", "value": "seeded"}
    created = await http.post("/v1/documents", json={"name": "rest:1", "title": "A title", "content": content})
    assert created.status_code == 201, created.text
    editor = await stock.open(local.ws, "rest:1")
    await editor.synced()
    snapshot = await http.post("/v1/documents/rest:1/snapshots", json={"label": "before"})
    assert snapshot.status_code == 201, snapshot.text
    assert (await http.get("/v1/documents/rest%3A1/content?format=text")).text == "seeded"
    assert (await http.delete("/v1/documents/rest:1")).status_code == 204
    assert (await editor.until("log.closed"))["code"] == CloseCode.DELETED.code


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, CloseCode.RESTART.code), (signal.SIGKILL, 1006)])
async def test_f04_f01_clients_of_a_node_that_ends_go_on_typing_on_another(
    local: Local, stock: StockClients, http: httpx.AsyncClient, number: signal.Signals, code: int
) -> None:
    document, before = f"ends:{number.name}", await sessions(local)
    clients = [await stock.open(local.ws, document) for _ in range(3)]
    await joined(clients)
    after = await sessions(local)
    node = max(after, key=lambda name: after[name] - before[name])
    running = local.nodes
    for letter, client in zip("abc", clients, strict=True):
        await client.run(TYPE_ON, letter)
    await clients[0].until("doc.getText('t').length > 500")
    os.kill(running[node], number)
    for client in clients:
        await client.until("log.closes.length > 0", seconds=PATIENCE_S)
        assert (await client.get("log.closes[0].code")) == code
        await client.until("provider.synced", seconds=PATIENCE_S)
    length = len(await clients[0].text())
    await clients[0].until("doc.getText('t').length > arg", length + 500, seconds=PATIENCE_S)
    await until_committed(http, document, await typed_text(clients))
    await everybody_back(local, running)


async def test_f06_a_rolling_restart_loses_nothing_anybody_types(
    local: Local, stock: StockClients, http: httpx.AsyncClient
) -> None:
    documents = [f"roll:{number}" for number in range(4)]
    writers = {document: [await stock.open(local.ws, document) for _ in range(2)] for document in documents}
    for clients in writers.values():
        await joined(clients)
        for letter, client in zip("ab", clients, strict=True):
            await client.run(TYPE_ON, letter)
    before, rolled = set(local.nodes.values()), local.log.count("every node has been restarted")
    local.process.send_signal(signal.SIGHUP)
    await asyncio.to_thread(
        local.wait_until,
        lambda: local.log.count("every node has been restarted") > rolled,
        "the nodes are not restarted",
    )
    assert before.isdisjoint(local.nodes.values())
    for document, clients in writers.items():
        await until_committed(http, document, await typed_text(clients))
        for client in clients:
            assert await client.get("log.closed === null")


async def test_every_metric_of_alerts_and_dashboard_is_one_of_a_running_node(local: Local) -> None:
    told = await exposition(next(iter(local.nodes)))
    families = set(re.findall(r"^# TYPE (\S+)", told, re.MULTILINE))
    families |= {f"{name}_bucket" for name in re.findall(r"^# TYPE (\S+) histogram", told, re.MULTILINE)}
    files = [ROOT / "deploy" / "alerts.yml", ROOT / "deploy" / "grafana" / "dashboards" / "collab.json"]
    used = {name for file in files for name in re.findall(r"\b(?:collab|process)_\w+\b", file.read_text())}
    assert len(used) > 25
    assert used <= families


async def test_the_images_health_check_says_yes_to_a_node_and_no_to_nobody(local: Local) -> None:
    (written,) = re.findall(r"^HEALTHCHECK .*?CMD (\[.*\])$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    program, *arguments = json.loads(written)
    assert program == "python"  # which the image has
    for port, status in ((httpx.URL(next(iter(local.nodes))).port, 0), (1, 1)):
        environment = {**os.environ, "COLLAB_PORT": str(port)}
        done = await asyncio.to_thread(
            subprocess.run, [sys.executable, *arguments], env=environment, capture_output=True, check=False
        )
        assert done.returncode == status, done.stderr.decode()


def test_everything_ends_in_order_and_with_status_0(tmp_path: Path) -> None:
    one = Local(tmp_path, "--nodes", "1")
    assert len(one.nodes) == 1
    assert one.stop() == 0, one.log
    ended = re.findall(r"^(\w+) +\| ended with status (-?\d+)$", one.log, re.MULTILINE)
    assert ended == [("node1", "0"), ("nginx", "0"), ("redis", "0")]


def test_what_cannot_start_is_said_and_nothing_is_left_running(tmp_path: Path) -> None:
    command = [sys.executable, "deploy/local.py", "--port", "0", "--database", "postgresql://nobody@127.0.0.1:1/x"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 1
    assert "could not be migrated" in done.stdout
    assert "redis    | ended with status 0" in done.stdout
