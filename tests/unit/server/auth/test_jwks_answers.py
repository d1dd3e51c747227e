"""What a key server may answer, over real connections: a plain small key set, and nothing else."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import structlog

from collab.errors import Unauthenticated
from collab.server.auth import JwksKeys, jwks
from tests.unit.server.auth.signing import Provider, jwk, token
from tests.unit.server.auth.test_jwks import NEW, OLD, Scene

PLAIN = {"keys": [jwk("ES256", kid="old")]}
Answer = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(answer: Answer) -> AsyncIterator[str]:
    """A real HTTP server that answers every request by ``answer``; its address."""

    async def came(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answer(await reader.readuntil(b"\r\n\r\n"), writer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(came, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def response(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def fetched(url: str) -> tuple[JwksKeys, str]:
    """The keys after one fetch from a real server, and what was logged of it."""
    keys = JwksKeys(f"{url}/keys?tenant=hunter2")
    with structlog.testing.capture_logs() as logs:
        keys.start()
        await keys._fetched()
    await keys.close()
    return keys, json.dumps(logs)


async def test_a_plain_answer_from_this_machine_is_taken() -> None:
    requests: list[bytes] = []

    async def answer(request: bytes, writer: asyncio.StreamWriter) -> None:
        requests.append(request)
        writer.write(response(json.dumps(PLAIN).encode(), "Content-Type: application/json"))

    async with listening(answer) as url:
        keys, said = await fetched(url)
    assert [key.id for key in keys.known] == ["old"]
    assert b"accept-encoding: identity" in requests[0].lower()
    assert b"\r\ncookie:" not in requests[0].lower()
    assert "hunter2" not in said


async def test_d05_an_address_named_by_the_token_is_never_asked_for_keys() -> None:
    scene = Scene(Provider(jwk("ES256", OLD, kid="old")))
    asked: list[bytes] = []

    async def answer(request: bytes, writer: asyncio.StreamWriter) -> None:
        asked.append(request)
        writer.write(response(json.dumps({"keys": [jwk("ES256", NEW, kid="evil")]}).encode()))

    async with listening(answer) as url:
        named = {"jku": url, "x5u": url, "jwk": jwk("ES256", NEW, kid="evil")}
        with pytest.raises(Unauthenticated):
            await scene.subject(token(key=NEW, algorithm="ES256", kid="evil", **named))
    assert asked == []
    assert scene.provider.asked == 2  # our own address: at first, and for the unknown id
    await scene.keys.close()


async def test_a_redirect_is_not_followed() -> None:
    paths: list[bytes] = []

    async def answer(request: bytes, writer: asyncio.StreamWriter) -> None:
        paths.append(request.split()[1])
        writer.write(response(json.dumps(PLAIN).encode(), "Location: /elsewhere", status="302 Found"))

    async with listening(answer) as url:
        keys, said = await fetched(url)
    assert keys.known == ()
    assert paths == [b"/keys?tenant=hunter2"]
    assert "302" in said
    assert "hunter2" not in said


@pytest.mark.parametrize(
    "whole",
    [
        response(b" " * (jwks.MAX_BYTES + 1)),
        response(gzip.compress(b" " * 50_000_000), "Content-Encoding: gzip"),
        response(b"<html>"),
        response(b"[" * 100_000),
        response(b"\xff"),
        response(b'{"keys": []}'),
        response(json.dumps({"keys": [jwk("ES256", kid=str(n)) for n in range(51)]}).encode()),
        response(json.dumps(PLAIN).encode(), status="500 Oops"),
        response(json.dumps(PLAIN).encode(), status="206 Partial Content"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
        b"SSH-2.0-x\r\n",
        b"",
    ],
    ids=[
        "too large",
        "a bomb",
        "HTML",
        "nested",
        "no text",
        "no keys",
        "too many",
        "500",
        "206",
        "cut",
        "no HTTP",
        "silence",
    ],
)
async def test_what_is_no_plain_small_key_set_is_not_taken(whole: bytes) -> None:
    async def answer(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(whole)

    async with listening(answer) as url:
        keys, said = await fetched(url)
    assert keys.known == ()
    assert "jwks_failed" in said


async def test_an_endless_answer_is_cut_by_size_and_a_dripping_one_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async def endless(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
            await writer.drain()

    async def dripping(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"1\r\n \r\n")
            await writer.drain()
            await asyncio.sleep(0.01)  # what drips has to drip

    async with listening(endless) as url:
        keys, said = await fetched(url)
        assert (keys.known, "bytes" in said) == ((), True)
    monkeypatch.setattr(jwks, "DEADLINE_S", 0.2)
    async with listening(dripping) as url:
        keys, said = await fetched(url)
        assert (keys.known, "TimeoutError" in said) == ((), True)


async def test_proxies_from_the_environment_are_never_asked_about_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)

    async def answer(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(response(json.dumps(PLAIN).encode()))

    async with listening(answer) as url:
        keys, _ = await fetched(url)
    assert [key.id for key in keys.known] == ["old"]
