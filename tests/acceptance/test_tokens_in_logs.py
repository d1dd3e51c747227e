"""D15: whoever reads the logs, of `collab serve` or of an application that logs as it does, finds no token in them."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import structlog
import websockets

from collab.server import logs
from collab.server.auth import JwtAccess
from tests.acceptance.conftest import SECRET, token
from tests.acceptance.test_mount import mounted
from tests.support.server import RunningServer

OPAQUE = "opaque-hunter2-ticket"


def secrets_of(text: str) -> set[str]:
    """What must not be found of a token: its claims, its signature, the whole."""
    return {text, *text.split(".")[1:]}


async def knock(http: str, ws: str) -> set[str]:
    """Show tokens, good and bad, wherever one can stand; what must then be nowhere."""
    good, expired, longer = token(access="write"), token(access="write", exp=1), token(access="write", name="x" * 99)
    bad = [expired, good[:-4], f"{good}x", f"{longer}{'A' * 9000}", OPAQUE, quote(f"{OPAQUE} {OPAQUE}"), "."]
    async with httpx.AsyncClient(base_url=http, trust_env=False) as client:
        for text in (good, *bad):
            for path in ("/v1/documents", "/v1/documents/d", "/nowhere"):
                await client.get(path, headers={"Authorization": f"Bearer {text}"})
                await client.get(f"{path}?token={text}&x=1")
                await client.post(f"{path}?x=1&token={text}", json={"name": text})
        await client.get(f"/v1/documents/{good}", headers={"Authorization": f"Bearer {good}"})
    for text in (good, *bad[:3], OPAQUE):
        given: tuple[tuple[str, dict[str, Any]], ...] = (
            (f"{ws}/d?token={text}", {}),
            (f"{ws}/d?x=1&token={quote(text)}", {"origin": "https://evil.example"}),
            (f"{ws}/d", {"additional_headers": {"Authorization": f"Bearer {text}"}}),
            (f"{ws}/d", {"subprotocols": ["yjs.v1", f"collab.token.{text}"]}),
        )
        for url, more in given:
            with contextlib.suppress(websockets.InvalidStatus, websockets.ConnectionClosed):
                async with websockets.connect(url, proxy=None, **more) as socket:
                    await socket.recv()
    return {OPAQUE, SECRET} | {part for text in (good, expired, longer) for part in secrets_of(text)}


@pytest.mark.parametrize("form", ["console", "json"])
async def test_d15_collab_serve_logs_no_token(form: str) -> None:
    environment = {
        "COLLAB_AUTH": "jwt",
        "COLLAB_JWT_SECRET": SECRET,
        "COLLAB_LOG_LEVEL": "debug",
        "COLLAB_LOG_FORMAT": form,
    }
    with RunningServer.start(env=environment) as server:
        found = await knock(server.url, server.ws_url)
        assert server.terminate() == 0
        assert "session_joined" in server.output
        assert [text for text in found if text in server.output] == []


@pytest.fixture
def said() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    logs.set_up("debug", stream=stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


async def test_d15_uvicorns_access_log_through_our_handler_has_no_token(said: io.StringIO, tmp_path: Path) -> None:
    async with mounted(JwtAccess(SECRET), tmp_path, access_log=True, log_level="trace") as address:
        found = await knock(f"http://{address}/collab", f"ws://{address}/collab/yjs")
    text = said.getvalue()
    assert "GET /collab/v1/documents/d?..." in text
    assert '"WebSocket /collab/yjs/d?..."' in text
    assert [secret for secret in found if secret in text] == []
