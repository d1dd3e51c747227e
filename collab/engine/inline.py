"""The engine in this process: for tests, and for embedding collab among people who trust each other.

It gives the same answers as `isolated`, at once, and contains panics; a native crash takes the process with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from collab.engine.integrator import MAX_DOCUMENT_BYTES
from collab.engine.port import Diff, Digest, Followed, Integration, Job, JobAnswer, Loaded
from collab.engine.replicas import Replicas
from collab.errors import CollabError, EngineDied


class InlineEngine:
    """`collab.engine.port.Engine` without a process around it. Each call holds up the event loop until it is done."""

    def __init__(self, *, max_document_bytes: int = MAX_DOCUMENT_BYTES) -> None:
        self._replicas = Replicas(max_document_bytes=max_document_bytes)
        self._closed = False

    async def start(self) -> None:
        """Nothing to start; here so that both engines are started alike."""

    async def load(self, document: str, updates: Sequence[bytes]) -> Loaded:
        """See `Engine.load`."""
        return self._open().load(document, updates)

    async def integrate(self, document: str, updates: Sequence[bytes], *, probe: bool = False) -> Integration:
        """See `Engine.integrate`."""
        return self._open().integrate(document, updates, probe=probe)

    def follow(self, document: str, updates: Sequence[bytes], done: Followed) -> None:
        """See `Engine.follow`."""
        answer: Integration | CollabError
        try:
            answer = self._open().follow(document, updates)
        except CollabError as error:
            answer = error
        asyncio.get_running_loop().call_soon(done, answer)

    async def diff(self, document: str, state_vector: bytes) -> Diff:
        """See `Engine.diff`."""
        return self._open().diff(document, state_vector)

    async def digest(self, document: str) -> Digest:
        """See `Engine.digest`."""
        return self._open().digest(document)

    async def forget(self, document: str) -> None:
        """See `Engine.forget`."""
        self._replicas.forget(document)

    async def run(self, job: Job) -> JobAnswer:
        """See `Engine.run`."""
        return self._open().run(job)

    async def close(self) -> None:
        """Let go of every document; later calls raise `EngineDied`."""
        self._closed = True
        self._replicas.close()

    def _open(self) -> Replicas:
        if self._closed:
            raise EngineDied("engine is closed")
        return self._replicas
