"""The child's loop, run in this process on a socket pair: what it answers, and in which frames."""

from __future__ import annotations

import mmap
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from collab.engine.child import HEAVY_BYTES, Child
from collab.engine.wire import LENGTH, MARK, Op, frame, read_answer, unframe
from collab.errors import EngineDied, Misuse
from tests.unit.engine.histories import NOTHING_KNOWN, inserted


class Parent:
    """The other end of a child's socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._stream = connection.makefile("rb")

    def send(self, *calls: list[object]) -> None:
        self._socket.sendall(frame(calls))

    def receive(self) -> list[Any]:
        (length,) = LENGTH.unpack(self._stream.read(LENGTH.size))
        return unframe(self._stream.read(length))

    def close(self) -> None:
        self._stream.close()
        self._socket.close()


@pytest.fixture
def parent() -> Iterator[Parent]:
    """A parent whose child is ready."""
    ours, theirs = socket.socketpair()
    with theirs, mmap.mmap(-1, MARK.size) as mark:
        child = threading.Thread(target=Child(theirs, mark, 1 << 20).serve)
        child.start()
        parent = Parent(ours)
        assert parent.receive() == [], "ready"
        yield parent
        parent.close()
        child.join()
        assert MARK.unpack_from(mark) == (0, 0), "works on nothing"


def test_large_answers_travel_alone(parent: Parent) -> None:
    parent.send([1, 0, Op.LOAD, "d", [inserted("x" * HEAVY_BYTES)], False])
    parent.receive()
    parent.send(*([number, 0, Op.DIFF, "d", NOTHING_KNOWN] for number in range(2, 6)))
    assert [[answer[0] for answer in parent.receive()] for _ in range(4)] == [[2], [3], [4], [5]]


def test_a_call_that_fails_leaves_the_others_alone(parent: Parent) -> None:
    parent.send([1, 0, Op.DIFF, "d", NOTHING_KNOWN], [2, 0, Op.LOAD, "d", "no list of updates", False])
    answers: list[Any] = []
    while len(answers) < 2:
        answers += parent.receive()
    assert isinstance(read_answer(Op.DIFF, [NOTHING_KNOWN], answers[0]), Misuse)
    assert isinstance(read_answer(Op.LOAD, [], answers[1]), EngineDied)
    parent.send([3, 0, Op.LOAD, "d", [], False])
    assert [answer[0] for answer in parent.receive()] == [3]


def test_a_batch_that_arrives_in_pieces_is_one_batch(parent: Parent) -> None:
    batch = frame([[1, 0, Op.LOAD, "d", [inserted("ab")], False]])
    for byte in batch:
        parent._socket.sendall(bytes([byte]))
    assert [answer[0] for answer in parent.receive()] == [1]
