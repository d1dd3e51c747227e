"""The bytes between gateway and engine process: batches of calls one way, batches of answers the other.

A frame is a 4-byte length and a msgpack list. The child trusts what its parent sends; the parent trusts nothing: an
answer of a wrong shape raises `BrokenAnswer` and costs the child its life. Both ends call this module, nobody else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from struct import Struct
from typing import Any

import msgpack

from collab.engine.digest import HASH_BYTES
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
    JobAnswer,
    Loaded,
    Outcome,
    Render,
    Revert,
    Verdict,
)
from collab.errors import CloseCode, CollabError, EngineDied, InvalidContent, MalformedMessage, Misuse

LENGTH = Struct("<I")
"""Head of every frame: how many bytes follow."""

MARK = Struct("<QQ")
"""What the child keeps in shared memory: the call it works on (0: none), and 1 + the index of the update in it."""

NO_CALL = 0
"""Number of what nobody waits for; calls count from 1."""

MAX_ANSWER_BYTES = 256 * 1024 * 1024
"""Longest frame a parent takes. Large answers travel alone, so this is ten documents of the largest size."""

MAX_DETAIL_CHARS = 200

KEPT_BYTES = 1024 * 1024
"""A packer that has written a larger frame is let go, and its buffer with it."""


class Op(IntEnum):
    """What a call asks for."""

    LOAD = 0
    INTEGRATE = 1
    DIFF = 2
    FORGET = 3
    RUN = 4
    LOWER_PRIORITY = 5
    DIGEST = 6
    FOLLOW = 7


class BrokenAnswer(Exception):
    """The child sent what no healthy child sends."""


Answer = Loaded | Integration | Diff | Digest | JobAnswer | None

_PLAIN = (
    INTEGRATED,
    Outcome(Verdict.INTEGRATED, empty=True),
    *(
        Outcome(verdict, empty=empty)
        for verdict in (Verdict.REDUNDANT, Verdict.PENDING, Verdict.STILL_PENDING)
        for empty in (False, True)
    ),
)
"""Outcomes that travel as their index here, the usual one first; those of refused updates travel whole."""
_ONLY_UPDATE = True
"""Stands for the merged bytes of a call's only update: its caller has them."""
_JOBS: tuple[Callable[..., Job], ...] = (Fold, Render, Compose, Revert, Draft)
_ERRORS: tuple[type[CollabError], ...] = (Misuse, MalformedMessage, InvalidContent)
_DIED, _UNEXPECTED = len(_ERRORS), len(_ERRORS) + 1
_OK = -1


_packer = msgpack.Packer(use_bin_type=True)


def frame(items: Sequence[object]) -> bytes:
    """Encode one batch. Making a packer, with its 256 KiB, costs more than a small batch: one is kept."""
    global _packer
    body: bytes = _packer.pack(items)
    if len(body) > KEPT_BYTES:
        _packer = msgpack.Packer(use_bin_type=True)
    return LENGTH.pack(len(body)) + body


class FrameCutter:
    """Cuts a stream into frames, whatever the pieces it comes in."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._received = bytearray()

    def cut(self, data: bytes) -> list[bytes]:
        """Take the next piece; return what follows the length of every frame now complete. Raises `BrokenAnswer`."""
        received = self._received
        if not received and len(data) >= LENGTH.size and LENGTH.unpack_from(data)[0] == len(data) - LENGTH.size:
            return [data[LENGTH.size :]]  # nearly always
        received += data
        bodies: list[bytes] = []
        while len(received) >= LENGTH.size:
            (length,) = LENGTH.unpack_from(received)
            if length > self._max_bytes:
                received.clear()
                raise BrokenAnswer("frame too long")
            if len(received) < LENGTH.size + length:
                break
            bodies.append(bytes(memoryview(received)[LENGTH.size : LENGTH.size + length]))
            del received[: LENGTH.size + length]
        return bodies


def unframe(body: bytes | memoryview) -> list[Any]:
    """Decode what follows the length. Raises `BrokenAnswer`."""
    try:
        items = msgpack.unpackb(body, raw=False, use_list=True, strict_map_key=True)
    except Exception as error:  # msgpack raises five unrelated kinds
        raise BrokenAnswer("not msgpack") from error
    if not isinstance(items, list):
        raise BrokenAnswer("not a batch")
    return items


def job_fields(job: Job) -> list[object]:
    """Take a job apart for the wire."""
    match job:
        case Fold():
            return [0, job.updates]
        case Render():
            return [1, job.updates, job.format, job.root, job.type]
        case Compose():
            return [2, job.content, job.format, job.root, job.type]
        case Revert():
            return [3, job.current, job.target]
        case Draft():
            return [4, job.body]


def read_job(fields: list[Any]) -> Job:
    """Put a job together again (in the child)."""
    kind, *values = fields
    job: Job = _JOBS[kind](*(tuple(value) if isinstance(value, list) else value for value in values))
    return job


def pack_answer(call: int, answer: Answer) -> list[object]:
    """Encode a result (in the child)."""
    match answer:
        case Integration():
            only = len(answer.outcomes) == 1 and answer.merged is not None and not answer.brought
            fields = [call, _OK, [*map(_pack_outcome, answer.outcomes)], _ONLY_UPDATE if only else answer.merged]
            if answer.clocks or answer.crowded or answer.brought:
                fields += [*answer.clocks.items()], answer.crowded, [*answer.brought.items()]
            return fields
        case Loaded():
            return [call, _OK, answer.state_vector, answer.waiting, answer.refused]
        case Diff():
            return [call, _OK, answer.update, answer.state_vector]
        case Digest():
            return [call, _OK, answer.hash, answer.state_vector]
        case Folded():
            return [call, _OK, answer.update, answer.state_vector, answer.covered]
        case Drafted():
            return [call, _OK, answer.rest, answer.update, *_pack_flaw(answer.flaw)]
        case _:
            return [call, _OK, answer]


def _pack_outcome(outcome: Outcome) -> object:
    if outcome.code is None:
        return _PLAIN.index(outcome)
    return [outcome.code.name, outcome.detail[:MAX_DETAIL_CHARS], outcome.empty]


def _pack_flaw(flaw: Flaw | None) -> list[object]:
    return [None, "", ""] if flaw is None else [flaw.kind, flaw.what[:MAX_DETAIL_CHARS], flaw.where]


def pack_error(call: int, error: Exception) -> list[object]:
    """Encode what a call raised (in the child)."""
    detail = str(error)[:MAX_DETAIL_CHARS]
    if isinstance(error, EngineDied):
        return [call, _DIED, detail, error.culprit]
    for number, kind in enumerate(_ERRORS):
        if isinstance(error, kind):
            return [call, number, detail]
    return [call, _UNEXPECTED, f"{type(error).__name__}: {detail}"[:MAX_DETAIL_CHARS]]


def read_call_id(fields: object) -> int:
    """Say which call an answer belongs to. Raises `BrokenAnswer`."""
    if not isinstance(fields, list) or len(fields) < 3:
        raise BrokenAnswer("not an answer")
    return _int(fields[0])


def read_answer(op: Op, updates: Sequence[bytes], fields: list[Any]) -> Answer | CollabError:
    """Decode the answer to a call of kind ``op`` on ``updates``. Raises `BrokenAnswer`."""
    status, *body = fields[1:]
    count = len(updates)
    try:
        if status != _OK:
            return _read_error(_int(status), body, count)
        match op:
            case Op.INTEGRATE | Op.FOLLOW:
                outcomes, merged, *rest = body
                if not isinstance(outcomes, list) or len(outcomes) != count:
                    raise BrokenAnswer("one outcome per update")
                if merged is _ONLY_UPDATE:
                    (merged,) = updates
                whole = None if merged is None else _bytes(merged)
                return Integration(tuple(map(_outcome, outcomes)), whole, *_read_rest(count, *rest))
            case Op.LOAD:
                state_vector, waiting, refused = body
                return Loaded(_bytes(state_vector), _indexes(waiting, count), _indexes(refused, count))
            case Op.DIFF:
                update, state_vector = body
                return Diff(_bytes(update), _bytes(state_vector))
            case Op.DIGEST:
                digest, state_vector = body
                if len(_bytes(digest)) != HASH_BYTES:
                    raise BrokenAnswer("hash of another length")
                return Digest(digest, _bytes(state_vector))
            case Op.RUN:
                return _read_job_answer(body, count)
            case _:
                return None
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise BrokenAnswer(str(error)[:MAX_DETAIL_CHARS]) from error


def _read_job_answer(body: list[Any], count: int) -> JobAnswer:
    match body:
        case [made]:
            return _bytes(made)
        case [update, state_vector, covered]:
            return Folded(_bytes(update), _bytes(state_vector), _indexes(covered, count))
        case [rest, update, *flaw]:
            if len(_bytes(rest)) > MAX_REST_BYTES:
                raise BrokenAnswer("rest too long")
            return Drafted(rest, None if update is None else _bytes(update), _flaw(*flaw))
        case _:
            raise BrokenAnswer("not what a job gives")


def _read_rest(
    count: int, clocks: object = (), crowded: object = False, brought: object = ()
) -> tuple[dict[int, int], bool, dict[int, bytes]]:
    """What the answer to an integration of ``count`` updates seldom holds."""
    if not isinstance(clocks, (list, tuple)) or type(crowded) is not bool or not isinstance(brought, (list, tuple)):
        raise BrokenAnswer("clocks")
    _indexes([index for index, _ in brought], count)
    pieces = {index: _bytes(piece) for index, piece in brought}
    return {_int(client): _int(clock) for client, clock in clocks}, crowded, pieces


def _read_error(status: int, body: list[Any], count: int) -> CollabError:
    detail = body[0]
    if not isinstance(detail, str) or len(detail) > MAX_DETAIL_CHARS:
        raise BrokenAnswer("detail")
    if status == _DIED:
        culprit = body[1]
        return EngineDied(detail, culprit=None if culprit is None else _indexes([culprit], count)[0])
    if status == _UNEXPECTED:
        return EngineDied(f"engine failed: {detail}")
    return _ERRORS[status](detail)


def _outcome(fields: object) -> Outcome:
    if isinstance(fields, list):
        code, detail, empty = fields
        if not isinstance(detail, str) or len(detail) > MAX_DETAIL_CHARS or not isinstance(empty, bool):
            raise BrokenAnswer("outcome")
        return Outcome(Verdict.REFUSED, CloseCode[code], detail, empty)
    return _PLAIN[_int(fields)]


def _flaw(kind: object, what: object, where: object) -> Flaw | None:
    if kind is None:
        return None
    if not isinstance(what, str) or not isinstance(where, str) or max(len(what), len(where)) > MAX_DETAIL_CHARS:
        raise BrokenAnswer("flaw")
    match kind:
        case "form" | "size" | "content":
            return Flaw(kind, what, where)
        case _:
            raise BrokenAnswer("kind of flaw")


def _bytes(value: object) -> bytes:
    if type(value) is not bytes:
        raise BrokenAnswer("not bytes")
    return value


def _int(value: object) -> int:
    if type(value) is not int or value < 0:
        raise BrokenAnswer("not a number")
    return value


def _indexes(values: object, count: int) -> tuple[int, ...]:
    if not isinstance(values, list) or any(_int(value) >= count for value in values):
        raise BrokenAnswer("index out of range")
    return tuple(values)
