"""Executes engine calls, synchronously: the core both adapters share.

`inline` calls it directly, `child` on behalf of the gateway. A panic costs the one document it happened in; a native
crash costs the process, which is why `isolated` keeps this out of the gateway.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar, TypeVarTuple

from collab.engine.integrator import MAX_DOCUMENT_BYTES
from collab.engine.native import NativeDoc, NativePanic
from collab.engine.port import Diff, Digest, Draft, Fold, Folded, Integration, Job, JobAnswer, Loaded
from collab.engine.replica import Progress, Replica
from collab.errors import CollabError, EngineDied, Misuse

Arguments = TypeVarTuple("Arguments")
Answer = TypeVar("Answer")


def ignore_progress(_index: int) -> None:
    """Progress nobody watches."""


class Replicas:
    """All documents one engine holds. ``progress`` is told the index of every update before native code works on it."""

    def __init__(self, *, progress: Progress = ignore_progress, max_document_bytes: int = MAX_DOCUMENT_BYTES) -> None:
        self._progress = progress
        self._max_document_bytes = max_document_bytes
        self._replicas: dict[str, Replica | None] = {}
        self._at: int | None = None

    def load(self, document: str, updates: Sequence[bytes], *, careful: bool = False) -> Loaded:
        """Hold a replica of ``document`` made of ``updates``.

        With ``careful`` each update is first tried alone, so that one that kills the process is named by ``progress``.
        """
        self.forget(document)
        return self._losing(document, self._load, document, updates, careful)

    def _load(self, document: str, updates: Sequence[bytes], careful: bool) -> Loaded:
        if careful:
            self._try_each(updates)
        replica = self._replicas[document] = Replica(max_bytes=self._max_document_bytes)
        return replica.load(updates, self._mark)

    def integrate(self, document: str, updates: Sequence[bytes], *, probe: bool = False) -> Integration:
        """Apply ``updates`` in order to a loaded document, or say what would happen."""
        replica = self._loaded(document)
        return self._losing(document, replica.probe if probe else replica.integrate, updates, self._mark)

    def follow(self, document: str, updates: Sequence[bytes]) -> Integration:
        """`integrate`, merging nothing."""
        integrate = self._loaded(document).integrate
        return self._losing(document, lambda: integrate(updates, self._mark, merged=False))

    def diff(self, document: str, state_vector: bytes) -> Diff:
        """Return what a replica with ``state_vector`` lacks."""
        return self._losing(document, self._loaded(document).diff, state_vector)

    def digest(self, document: str) -> Digest:
        """Return what the replica hashes to."""
        return self._losing(document, self._loaded(document).digest)

    def forget(self, document: str) -> None:
        """Let go of ``document``."""
        replica = self._replicas.pop(document, None)
        if replica is not None:
            replica.close()

    def run(self, job: Job) -> JobAnswer:
        """Do a job. Raises `InvalidContent`."""
        try:
            if isinstance(job, Fold):
                return fold(job.updates)
            from collab.engine.content import run_content_job, run_draft  # not needed on the live lane: starts faster

            return run_draft(job) if isinstance(job, Draft) else run_content_job(job)
        except NativePanic as error:
            raise EngineDied(f"native code panicked in {type(job).__name__}") from error

    def close(self) -> None:
        """Let go of every document."""
        for document in list(self._replicas):
            self.forget(document)

    def _loaded(self, document: str) -> Replica:
        try:
            replica = self._replicas[document]
        except KeyError:
            raise Misuse(f"document was never loaded: {document}") from None
        if replica is None:
            raise EngineDied("document was lost to a panic; load it again")
        return replica

    def _mark(self, index: int) -> None:
        self._at = index
        self._progress(index)

    def _losing(self, document: str, work: Callable[[*Arguments], Answer], *arguments: *Arguments) -> Answer:
        """Do ``work``. A panic, or what should be impossible, loses the document: its replica is not to be trusted."""
        self._at = None
        try:
            return work(*arguments)
        except CollabError:
            raise
        except Exception as error:
            self.forget(document)
            self._replicas[document] = None
            raise EngineDied(f"replica failed: {error}"[:200], culprit=self._at) from error

    def _try_each(self, updates: Sequence[bytes]) -> None:
        doc = NativeDoc()
        for index, update in enumerate(updates):
            self._mark(index)
            try:
                doc.apply(update)
            except (NativePanic, ValueError):
                doc.close()
                doc = NativeDoc()
        doc.close()


def fold(updates: Sequence[bytes]) -> Folded:
    """Build one compact update out of ``updates`` in a fresh document."""
    replica = Replica()
    try:
        loaded = replica.load(updates, ignore_progress)
        left_out = {*loaded.waiting, *loaded.refused}
        covered = tuple(index for index in range(len(updates)) if index not in left_out)
        return Folded(replica.full_update(), loaded.state_vector, covered)
    finally:
        replica.close()
