"""collab inside somebody else's FastAPI application, under plain uvicorn, with their own users."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
import websockets
from fastapi import FastAPI
from starlette.requests import HTTPConnection

from collab.engine.inline import InlineEngine
from collab.errors import CloseCode, Misuse, Unauthenticated
from collab.protocol.dialects.y_websocket import decode, encode
from collab.protocol.messages import SyncStatus, SyncStep1, SyncStep2, Update
from collab.room import Identity, Role
from collab.server import Collab
from collab.server.auth import Access, Authenticate
from collab.settings import Settings
from tests.unit.node.support import Writer


async def by_cookie(request: HTTPConnection, document: str | None) -> Access:
    user = request.cookies.get("user")
    if user is None:
        raise Unauthenticated("Sign in first.")
    return Access(Identity(user), {f"{user}:*": Role.WRITE})


@asynccontextmanager
async def mounted(authenticate: Authenticate, folder: Path, **options: Any) -> AsyncIterator[str]:
    """The address of an application that has collab at /collab."""
    collab = Collab(Settings(database=f"sqlite:///{folder}/c.db", serve_page=False), authenticate=authenticate)
    app = FastAPI(lifespan=collab.lifespan)
    app.mount("/collab", collab.app)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, **options))
    server.capture_signals = nullcontext  # type: ignore[method-assign, assignment]
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield f"127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving


async def test_editors_and_rest_work_below_a_prefix_with_the_hosts_own_users(tmp_path: Path) -> None:
    cookie = {"Cookie": "user=ann"}
    async with mounted(by_cookie, tmp_path) as address:
        async with websockets.connect(f"ws://{address}/collab/yjs/ann:1", additional_headers=cookie) as socket:
            assert isinstance(decode(await socket.recv())[0], SyncStep1)
            await socket.send(encode(SyncStep2(b"\x00\x00")))
            await socket.send(encode(Update(Writer().type("hello"))) + encode(SyncStatus(b"\x01")))
            while SyncStatus(b"\x01") not in decode(await socket.recv()):
                pass
        async with websockets.connect(f"ws://{address}/collab/yjs/ben:1", additional_headers=cookie) as socket:
            await socket.wait_closed()
            assert socket.close_code == 4403
        async with websockets.connect(f"ws://{address}/collab/yjs/ann:1") as socket:
            await socket.wait_closed()
            assert socket.close_code == 4401
        async with httpx.AsyncClient(base_url=f"http://{address}/collab", headers=cookie) as client:
            content = await client.get("/v1/documents/ann:1/content", params={"format": "text"})
            assert (content.status_code, content.text) == (200, "hello")
            assert (await client.get("/v1/documents/ben:1")).status_code == 403


def production(folder: Path, **more: Any) -> Settings:
    known = {"allowed_hosts": "docs.example.com", "metrics": False, "database": f"sqlite:///{folder}/c.db"}
    return Settings(environment="production", **known | more)


def test_k01_an_application_in_production_does_not_start_with_what_is_open_and_hears_all_of_it_at_once(
    tmp_path: Path,
) -> None:
    open_ = production(tmp_path, engine="inline", redis="redis://cache", allowed_origins="*")
    with pytest.raises(Misuse) as refused:
        Collab(open_, authenticate=by_cookie)
    for word in ("COLLAB_ENGINE", "COLLAB_BUS_SECRET", "COLLAB_ALLOWED_ORIGINS", "PostgreSQL"):
        assert word in str(refused.value)
    assert "COLLAB_AUTH" not in str(refused.value)
    with pytest.raises(Misuse, match="COLLAB_AUTH=jwt"):
        Collab(production(tmp_path))
    with pytest.raises(Misuse, match="COLLAB_ENGINE"):
        Collab(production(tmp_path), authenticate=by_cookie, engine=InlineEngine())
    Collab(production(tmp_path), authenticate=by_cookie)
    Collab(open_.model_copy(update={"environment": "development"}), authenticate=by_cookie)


async def by_mistake(request: HTTPConnection, document: str | None) -> Access:
    if "user" in request.cookies:
        return await by_cookie(request, document)
    raise KeyError("hunter2")


async def test_i6_a_mistake_in_the_hosts_authenticate_is_a_fault_the_client_may_come_back_from(tmp_path: Path) -> None:
    async with mounted(by_mistake, tmp_path) as address:
        async with websockets.connect(f"ws://{address}/collab/yjs/ann:1") as socket:
            await socket.wait_closed()
            assert (socket.close_code, socket.close_reason) == (CloseCode.FAULT.code, CloseCode.FAULT.reason)
        async with httpx.AsyncClient(base_url=f"http://{address}/collab") as client:
            answer = await client.get("/v1/documents/ann:1")
            assert (answer.status_code, answer.json()["code"]) == (500, "fault")
            assert "hunter2" not in answer.text
            assert "Traceback" not in answer.text
            good = await client.get("/v1/documents/ann:1", headers={"Cookie": "user=ann"})
            assert good.status_code == 404
