"""The outermost middleware: an answer has its headers whatever happens inside, and log lines name the request."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import httpx
import pytest
import structlog
from starlette.requests import ClientDisconnect
from structlog.testing import capture_logs

from collab.server import guard
from collab.server.guard import Guard
from collab.server.hosts import Hosts
from tests.support.ports import free_port
from tests.support.server import RunningServer

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send


def client(app: ASGIApp, *, https: bool = False) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(Guard(app, hosts=Hosts(), https=https))
    return httpx.AsyncClient(transport=transport, base_url="http://collab.test")


async def logs_and_answers(scope: Scope, receive: Receive, send: Send) -> None:
    guard.log.info("inside")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def fails(scope: Scope, receive: Receive, send: Send) -> None:
    raise ZeroDivisionError("a secret of the machine")


async def fails_late(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    raise ZeroDivisionError


async def hears_the_client_leave(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})
    raise ClientDisconnect


async def test_a_log_line_names_the_request_and_the_next_requests_lines_do_not() -> None:
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        answer = await client(logs_and_answers).get("/", headers={"X-Request-ID": "of-the-client"})
        other = await client(logs_and_answers).get("/")
        guard.log.info("outside")
    assert answer.headers["x-request-id"] == "of-the-client"
    assert [line.get("request") for line in lines] == ["of-the-client", other.headers["x-request-id"], None]


async def test_what_should_be_impossible_is_logged_and_answered_with_every_header() -> None:
    with capture_logs() as lines:
        answer = await client(fails, https=True).get("/v1/documents")
    assert (answer.status_code, answer.json()["code"]) == (500, "fault")
    assert "secret" not in answer.text
    for header in (*guard._HEADERS, "Strict-Transport-Security", "X-Request-ID"):
        assert answer.headers[header]
    assert [line["event"] for line in lines] == ["request_failed"]


async def test_an_answer_that_has_begun_is_not_begun_again() -> None:
    with pytest.raises(ZeroDivisionError):
        await client(fails_late).get("/")


async def test_k06_a_client_that_leaves_is_no_fault() -> None:
    with capture_logs() as lines:
        await client(hears_the_client_leave).get("/")
    assert [line["log_level"] for line in lines] == ["debug"]


async def test_without_tls_nothing_promises_it() -> None:
    assert "strict-transport-security" not in (await client(logs_and_answers).get("/")).headers


def test_a_node_with_a_port_for_machines_leaves_as_any_other() -> None:
    port = free_port()
    with RunningServer.start(env={"COLLAB_METRICS_PORT": str(port)}) as running:
        assert httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).status_code == 200
        assert running.terminate() == 0


def test_a_port_for_machines_that_is_taken_is_found_before_anything_is_opened() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(RuntimeError) as refused:
        RunningServer.start(env={"COLLAB_METRICS_PORT": str(taken.getsockname()[1])})
    assert "ddress already in use" in str(refused.value)
    assert "Traceback" not in str(refused.value)
