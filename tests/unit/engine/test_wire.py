"""The gateway believes nothing a child says: any answer decodes to what was asked for, or raises BrokenAnswer."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collab.engine.draft import MAX_REST_BYTES
from collab.engine.port import (
    INTEGRATED,
    Compose,
    Diff,
    Digest,
    Draft,
    Drafted,
    Flaw,
    Fold,
    Folded,
    Integration,
    Job,
    Loaded,
    Outcome,
    Render,
    Revert,
    Verdict,
)
from collab.engine.wire import (
    KEPT_BYTES,
    LENGTH,
    Answer,
    BrokenAnswer,
    FrameCutter,
    Op,
    frame,
    job_fields,
    pack_answer,
    pack_error,
    read_answer,
    read_call_id,
    read_job,
    unframe,
)
from collab.errors import CloseCode, CollabError, EngineDied, InvalidContent, MalformedMessage, Misuse

UPDATES = [b"one", b"two", b"three"]
REFUSED = Outcome(Verdict.REFUSED, CloseCode.QUOTA, "document is full")
ANSWERS: list[tuple[Op, int, Answer]] = [
    (Op.INTEGRATE, 1, Integration((INTEGRATED,), UPDATES[0])),
    (Op.INTEGRATE, 3, Integration((INTEGRATED,) * 3, b"merged")),
    (Op.INTEGRATE, 1, Integration((INTEGRATED,), None)),
    (
        Op.INTEGRATE,
        3,
        Integration((Outcome(Verdict.PENDING), Outcome(Verdict.PENDING, empty=True), INTEGRATED), b"merged"),
    ),
    (Op.INTEGRATE, 2, Integration((Outcome(Verdict.INTEGRATED, empty=True), REFUSED), b"merged")),
    (Op.INTEGRATE, 1, Integration((Outcome(Verdict.REDUNDANT),), None)),
    (Op.INTEGRATE, 1, Integration((Outcome(Verdict.STILL_PENDING, empty=True),), None)),
    (Op.LOAD, 3, Loaded(b"\x00", (1,), (0, 2))),
    (Op.DIFF, 1, Diff(b"update", b"vector")),
    (Op.DIGEST, 0, Digest(b"hash of 16 bytes", b"vector")),
    (Op.RUN, 2, Folded(b"update", b"vector", (0, 1))),
    (Op.RUN, 0, b"rendered"),
    (Op.RUN, 1, Drafted(b"{}", b"update")),
    (Op.RUN, 1, Drafted(b"{}", None, Flaw("content", "too large"))),
    (Op.RUN, 1, Drafted(b"", None, Flaw("form", "JSON decode error", "17"))),
    (Op.FORGET, 0, None),
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**40) | st.binary(max_size=8) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=12,
)


def over_the_wire(fields: list[object]) -> list[Any]:
    """What arrives when ``fields`` are the only answer in a batch."""
    arrived: list[Any] = unframe(frame([fields])[LENGTH.size :])[0]
    return arrived


@pytest.mark.parametrize(("op", "count", "answer"), ANSWERS)
def test_an_answer_arrives_as_it_was_sent(op: Op, count: int, answer: Answer) -> None:
    fields = over_the_wire(pack_answer(7, answer))
    assert read_call_id(fields) == 7
    assert read_answer(op, UPDATES[:count], fields) == answer


@pytest.mark.parametrize("error", [Misuse("a"), MalformedMessage("b"), InvalidContent("c"), EngineDied("d", culprit=1)])
def test_an_error_arrives_as_it_was_raised(error: CollabError) -> None:
    arrived = read_answer(Op.INTEGRATE, UPDATES[:2], over_the_wire(pack_error(7, error)))
    assert type(arrived) is type(error)
    assert str(arrived) == str(error)
    assert getattr(arrived, "culprit", None) == getattr(error, "culprit", None)


def test_an_error_nobody_foresaw_arrives_as_engine_died() -> None:
    assert isinstance(read_answer(Op.LOAD, (), over_the_wire(pack_error(7, KeyError("surprise")))), EngineDied)


@pytest.mark.parametrize(
    "job",
    [
        Fold((b"a", b"b")),
        Render((b"a",), "html", "root", "xml"),
        Compose(b"text", "json", None, "map"),
        Draft(b"{}"),
        Revert((b"a",), (b"b", b"c")),
    ],
)
def test_a_job_arrives_as_it_was_sent(job: Job) -> None:
    assert read_job(over_the_wire(job_fields(job))) == job


@given(data=st.binary(max_size=200))
def test_any_bytes_unframe_or_are_broken(data: bytes) -> None:
    with suppress(BrokenAnswer):
        assert isinstance(unframe(data), list)


@given(op=st.sampled_from(Op), count=st.integers(0, 3), fields=VALUES)
def test_any_fields_are_an_answer_or_broken(op: Op, count: int, fields: Any) -> None:
    with suppress(BrokenAnswer):
        read_call_id(fields)
        read_answer(op, UPDATES[:count], fields)


@given(op=st.sampled_from(Op), count=st.integers(0, 3), status=st.integers(-2, 6), body=st.lists(VALUES, max_size=4))
def test_any_body_is_what_the_call_promises_or_broken(op: Op, count: int, status: int, body: list[Any]) -> None:
    try:
        answer = read_answer(op, UPDATES[:count], [1, status, *body])
    except BrokenAnswer:
        return
    match answer:
        case Integration():
            assert op is Op.INTEGRATE
            assert len(answer.outcomes) == count
            assert answer.merged is None or type(answer.merged) is bytes
        case Loaded():
            assert all(0 <= index < count for index in (*answer.waiting, *answer.refused))
        case Digest():
            assert (len(answer.hash), type(answer.state_vector)) == (16, bytes)
        case EngineDied():
            assert answer.culprit is None or 0 <= answer.culprit < count


def test_an_index_beyond_what_was_asked_is_broken() -> None:
    with pytest.raises(BrokenAnswer):
        read_answer(Op.LOAD, UPDATES[:1], over_the_wire(pack_answer(1, Loaded(b"\x00", (1,), ()))))


@pytest.mark.parametrize(
    ("count", "body"),
    [
        (2, [[0, 0], True]),  # no only update
        (1, [[0, 0], True]),
        (1, [[8], None]),
        (1, [[-1], None]),
        (1, [[False], None]),
        (1, [b"\x00", None]),
        (1, [[["NO CODE", "", False]], None]),
        (1, [[["QUOTA", "", 0]], None]),
        (1, [[0], 1]),
        (1, [[0], False]),
    ],
)
def test_outcomes_that_mean_nothing_are_broken(count: int, body: list[Any]) -> None:
    with pytest.raises(BrokenAnswer):
        read_answer(Op.INTEGRATE, UPDATES[:count], [1, -1, *body])


@pytest.mark.parametrize(
    "body",
    [
        [b"{}", None, "form", "x"],
        ["{}", None, None, "", ""],
        [b"{}", 7, None, "", ""],
        [b"{}", None, "another", "x", ""],
        [b"{}", None, "form", 7, ""],
        [b"{}", None, "form", "x" * 201, ""],
        [b"{}", None, "form", "x", "y" * 201],
        [b" " * (MAX_REST_BYTES + 1), None, None, "", ""],
    ],
)
def test_a_body_taken_apart_otherwise_than_asked_is_broken(body: list[Any]) -> None:
    with pytest.raises(BrokenAnswer):
        read_answer(Op.RUN, UPDATES[:1], [1, -1, *body])


def test_a_frame_is_cut_out_of_any_pieces() -> None:
    batches: list[list[object]] = [[[1, b"x" * 10]], [], [[2, b"y" * KEPT_BYTES]], [[3, "z"]]]
    frames = [frame(batch) for batch in batches]
    stream = b"".join(frames)
    chunks = ([stream[at : at + size] for at in range(0, len(stream), size)] for size in (97, 64 * 1024, len(stream)))
    for pieces in (frames, *chunks):
        cutter = FrameCutter(len(stream))
        assert [unframe(body) for piece in pieces for body in cutter.cut(piece)] == batches


def test_a_frame_longer_than_allowed_is_broken_before_it_has_come() -> None:
    with pytest.raises(BrokenAnswer):
        FrameCutter(100).cut(LENGTH.pack(101) + b"x")


@pytest.mark.parametrize("digest", [b"", b"x" * 15, b"x" * 17])
def test_a_hash_of_another_length_is_broken(digest: bytes) -> None:
    with pytest.raises(BrokenAnswer):
        read_answer(Op.DIGEST, (), over_the_wire(pack_answer(1, Digest(digest, b"\x00"))))


def test_a_batch_is_a_list() -> None:
    with pytest.raises(BrokenAnswer):
        unframe(msgpack.packb({"call": 1}))
