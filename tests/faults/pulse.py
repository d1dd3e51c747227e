"""Asks URLs the same thing again and again, from a process of its own, and remembers how long each answer took.

A test that types and merges in one process would measure itself. `Pulse` starts this file as a script; its times are
monotonic seconds, which all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import IO, Self
from urllib.parse import urlsplit

ANSWER_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Beat:
    """One question."""

    url: str
    at: float
    seconds: float
    status: int
    """0 when no answer came."""


class Pulse:
    """Asks every one of ``urls`` every ``every_s``, each by itself. Use as an async context manager."""

    def __init__(self, *urls: str, every_s: float = 0.1) -> None:
        self._urls = urls
        self._every_s = every_s
        self._process: asyncio.subprocess.Process | None = None
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __aexit__

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, __file__, str(self._every_s), *self._urls, stdin=asyncio.subprocess.PIPE, stdout=self._file
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        self._file.close()

    def beats(self, since: float = 0.0, before: float = float("inf")) -> list[Beat]:
        """What was asked within these moments and is answered by now."""
        self._file.seek(0)
        lines = self._file.read().decode().split("\n")[:-1]  # the last may be half written
        beats = [Beat(*json.loads(line)) for line in lines]
        self._file.seek(0, 2)
        return [beat for beat in beats if since <= beat.at < before]

    def seconds(self, since: float = 0.0, before: float = float("inf")) -> list[float]:
        """How long the answers took."""
        return [beat.seconds for beat in self.beats(since, before)]


async def _ask(url: str) -> int:
    parts = urlsplit(url)
    assert parts.hostname is not None
    target = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write(f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        return int(answer.split(b" ", 2)[1]) if answer else 0
    finally:
        writer.close()


async def _ask_on(url: str, every_s: float) -> None:
    while True:
        at, status = time.monotonic(), 0
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(ANSWER_WITHIN_S):
                status = await _ask(url)
        seconds = time.monotonic() - at
        print(json.dumps([url, at, seconds, status]), flush=True)
        await asyncio.sleep(max(0.0, every_s - seconds))


async def _main(every_s: float, urls: list[str]) -> None:
    await asyncio.gather(*(_ask_on(url, every_s) for url in urls))


if __name__ == "__main__":
    asyncio.run(_main(float(sys.argv[1]), sys.argv[2:]))
