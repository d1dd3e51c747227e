"""The engine process: reads calls from its parent, executes them one after another, answers.

Started by `process` as ``python -m collab.engine.child`` with two inherited descriptors. It opens no file, no network
connection and no second process; it dies with its parent, and with anything native code does to it.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import mmap
import os
import resource
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from typing import Any

from collab.engine.replicas import Replicas
from collab.engine.wire import MARK, Answer, FrameCutter, Op, frame, pack_answer, pack_error, read_job, unframe

STACK_BYTES = 512 * 1024 * 1024
"""Address space for the working thread's stack, but no more than a quarter of what the child may have; used only as
deep as a document nests. Measured: native code survives a million levels on it, and 15,000 on the usual 8 MiB."""

FLUSH_AFTER_S = 0.001
"""An answer does not wait longer than this for the rest of its batch. Guessed."""

HEAVY_BYTES = 8 * 1024
"""Before a call of this size, and after an answer of this size, the answers so far are sent."""

NICE = 5
"""How much a child of the heavy lane gives way."""

GC_THRESHOLDS = 100_000, 50, 100
"""When garbage in circles is looked for. A load makes objects by the hundred thousand and no circles; looking through
them again and again took a third of its time (measured: 100,000 updates)."""

_PR_SET_PDEATHSIG = 1
_PIECE_BYTES = 64 * 1024
"""Read at once. Twice as much, and malloc asks the kernel for it every time (measured: 15 us instead of 2)."""


class Child:
    """One engine process' state: its socket, its progress mark, its replicas."""

    def __init__(self, connection: socket.socket, mark: mmap.mmap, max_document_bytes: int) -> None:
        self._socket = connection
        self._mark = mark
        self._call = 0
        self._replicas = Replicas(progress=self._progress, max_document_bytes=max_document_bytes)

    def serve(self) -> None:
        """Answer calls until the parent closes its end."""
        self._socket.sendall(frame([]))  # ready
        frames = FrameCutter(sys.maxsize)
        while piece := self._socket.recv(_PIECE_BYTES):
            for body in frames.cut(piece):
                self._execute_all(unframe(body))

    def _execute_all(self, calls: list[list[Any]]) -> None:
        answers: list[list[object]] = []
        sent_at = time.monotonic()
        for call in calls:
            if answers and (
                time.monotonic() - sent_at > FLUSH_AFTER_S
                or call[1] > HEAVY_BYTES
                or _bytes_in(answers[-1]) > HEAVY_BYTES
            ):
                self._socket.sendall(frame(answers))
                answers.clear()
                sent_at = time.monotonic()
            answers.append(self._execute(*call))
        self._socket.sendall(frame(answers))

    def _execute(self, call: int, _size: int, op: int, *arguments: Any) -> list[object]:
        self._call = call
        MARK.pack_into(self._mark, 0, call, 0)
        try:
            return pack_answer(call, self._perform(op, *arguments))
        except Exception as error:  # goes to the parent, which raises it where the call was made
            return pack_error(call, error)
        finally:
            MARK.pack_into(self._mark, 0, 0, 0)

    def _perform(self, op: int, *arguments: Any) -> Answer:
        replicas = self._replicas
        match op:
            case Op.INTEGRATE:
                document, updates, probe = arguments
                return replicas.integrate(document, updates, probe=probe)
            case Op.FOLLOW:
                return replicas.follow(*arguments)
            case Op.DIFF:
                return replicas.diff(*arguments)
            case Op.DIGEST:
                return replicas.digest(*arguments)
            case Op.LOAD:
                document, updates, careful = arguments
                return replicas.load(document, updates, careful=careful)
            case Op.FORGET:
                replicas.forget(*arguments)
                return None
            case Op.LOWER_PRIORITY:
                os.nice(NICE)
                return None
            case _:
                return replicas.run(read_job(*arguments))

    def _progress(self, index: int) -> None:
        MARK.pack_into(self._mark, 0, self._call, index + 1)


def _bytes_in(answer: list[object]) -> int:
    return sum(len(value) for value in answer if isinstance(value, bytes))


def main() -> None:
    """Confine this process and serve."""
    parser = argparse.ArgumentParser()
    for name in ("socket", "mark", "parent", "memory-bytes", "max-document-bytes"):
        parser.add_argument(f"--{name}", type=int, required=True)
    options = parser.parse_args()
    _confine(options.memory_bytes, options.parent)
    connection = socket.socket(fileno=options.socket)
    mark = mmap.mmap(options.mark, MARK.size)
    os.close(options.mark)
    child = Child(connection, mark, options.max_document_bytes)
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    threading.stack_size(min(STACK_BYTES, options.memory_bytes // 4))
    worker = threading.Thread(target=child.serve, name="engine")
    worker.start()
    _be_silent()
    worker.join()


def _confine(memory_bytes: int, parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when it is over
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":  # elsewhere there is neither a limit that works nor a signal from a dying parent
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        # Sent a call, it must not take the core from the gateway, which still has others to write to: with hostile
        # clients about, that cost every room 3 to 7 ms at a time.
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    if os.getppid() != parent:
        sys.exit("parent is gone")


def _be_silent() -> None:
    """Native panics print to stderr, with pieces of documents: from here on nobody reads it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.dup2(nowhere, sys.stderr.fileno())
    os.close(nowhere)


if __name__ == "__main__":
    main()
