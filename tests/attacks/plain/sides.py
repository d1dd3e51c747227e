"""The two processes a program of plain updates is given to: the engine's code with yrs, and stock Yjs in Node.

A process that dies or hangs is itself a finding; it is started again for the next program.
"""

from __future__ import annotations

import asyncio
import json
import mmap
import sys
import tempfile
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from typing import Any, Self

from tests.attacks.plain.engine_child import MARK, READING
from tests.support import node

PATIENCE_S = 10.0
"""How long one program may take before it counts as a hang. Measured: 0.05 s."""
LINE_BYTES = 256 * 1024 * 1024
SCRIPT = node.INTEROP / "plain.mjs"


@dataclass(frozen=True, slots=True)
class Program:
    """A document, and batches of plain updates for it."""

    base: tuple[bytes, ...]
    batches: tuple[tuple[bytes, ...], ...]
    order: tuple[int, ...]
    """Another order of the updates that clients may see."""
    look: bool = True
    """Whether the document is read after each batch, not only after the last."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What went wrong with a program."""

    kind: str
    at: int | None
    """Index of the update, where known."""
    detail: str

    @property
    def crash(self) -> bool:
        """Whether somebody failed; otherwise replicas only differ."""
        return " differ" not in self.kind


class Died(Exception):
    """A process ended or did not answer in time; the message says which of the two."""


@dataclass(eq=False, slots=True)
class Side:
    """One process that answers a line of JSON with a line of JSON."""

    command: tuple[str, ...]
    _process: asyncio.subprocess.Process | None = None
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def call(self, request: dict[str, Any]) -> Any:
        """Send ``request``; return the answer. Raises `Died`."""
        async with self._lock:
            process = self._process or await self._start()
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                async with asyncio.timeout(PATIENCE_S):
                    process.stdin.write(json.dumps(request).encode() + b"\n")
                    await process.stdin.drain()
                    line = await process.stdout.readline()
            except (TimeoutError, ConnectionError) as error:
                status = await self._end()
                raise Died("hangs" if isinstance(error, TimeoutError) else f"dies ({status})") from error
            if not line:
                raise Died(f"dies ({await self._end()})")
            return json.loads(line)

    async def close(self) -> None:
        """End the process."""
        if self._process is not None:
            await self._end()

    async def _start(self) -> asyncio.subprocess.Process:
        # What goes to stderr, panics and Yjs's warnings, is in the findings too.
        self._process = await asyncio.create_subprocess_exec(
            *self.command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=LINE_BYTES,
        )
        return self._process

    async def _end(self) -> int:
        process, self._process = self._process, None
        assert process is not None
        if process.returncode is None:
            process.kill()
        return await process.wait()


class Sides:
    """Both. Use as an async context manager."""

    async def __aenter__(self) -> Self:
        modules = await asyncio.to_thread(node.packages)
        assert modules.is_dir()
        self._marked = tempfile.NamedTemporaryFile()  # noqa: SIM115 - lives as long as the processes
        self._marked.truncate(MARK.size)
        self._mark = mmap.mmap(self._marked.fileno(), MARK.size)
        self._yrs = Side((sys.executable, "-m", "tests.attacks.plain.engine_child", self._marked.name))
        self._yjs = Side((node.node(), str(SCRIPT)))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._yrs.close()
        await self._yjs.close()
        self._mark.close()
        self._marked.close()

    async def make(self, seed: int, shape: str) -> bytes:
        """Have Yjs write an honest document."""
        return b64decode(await self._yjs.call({"op": "make", "seed": seed, "shape": shape}))

    async def describe(self, base: list[bytes]) -> list[list[Any]]:
        """Return the structs of a document: client, clock, length, kind, home and position."""
        described: list[list[Any]] = await self._yjs.call({"op": "describe", "base": _encoded(base)})
        return described

    async def check(self, program: Program) -> list[Finding]:
        """Give ``program`` to both and compare; return what went wrong, of each kind the first."""
        base, batches = _encoded(program.base), [_encoded(batch) for batch in program.batches]
        yrs, findings = await self._check_yrs(base, batches, look=program.look)
        yjs = {"op": "check", "base": base, "batches": batches, "order": program.order, "yrs": yrs}
        try:
            findings += [Finding(**found) for found in await self._yjs.call(yjs)]
        except Died as died:
            findings.append(Finding(f"yjs {died}", None, ""))
        return findings

    async def _check_yrs(
        self, base: list[str], batches: list[list[str]], *, look: bool
    ) -> tuple[dict[str, Any], list[Finding]]:
        try:
            answer: dict[str, Any] = await self._yrs.call({"base": base, "batches": batches, "look": look})
        except Died as died:
            (at,) = MARK.unpack_from(self._mark)
            where = " while it is read" if at == READING else ""
            return {"batches": []}, [Finding(f"yrs {died}{where}", None if at == READING else at, "")]
        return answer, [Finding(**problem) for problem in answer["problems"]]


def _encoded(updates: list[bytes] | tuple[bytes, ...]) -> list[str]:
    return [b64encode(update).decode() for update in updates]
