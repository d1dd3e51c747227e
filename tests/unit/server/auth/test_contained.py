"""Somebody else's `authenticate`: what is ours passes, everything else is a fault without a word about it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import structlog
from starlette.requests import HTTPConnection

from collab.errors import CloseCode, CollabError, Forbidden, Misuse, StoreUnavailable, Unauthenticated, close_code_for
from collab.room.session import Identity, Role
from collab.server.auth import Access, contained
from collab.server.problems import problem_of
from tests.unit.server.auth.signing import connection


def theirs(outcome: Any) -> Any:
    async def authenticate(_: HTTPConnection, __: str | None) -> Any:
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    return contained(authenticate)


async def test_a_good_answer_passes_as_it_is() -> None:
    access = Access(Identity("ann"), {"*": Role.READ})
    assert await theirs(access)(connection(), "d") is access


@pytest.mark.parametrize("error", [Unauthenticated("Sign in."), Forbidden("No."), StoreUnavailable("later")])
async def test_i6_what_collab_raises_passes_as_it_is(error: CollabError) -> None:
    with pytest.raises(type(error)) as raised:
        await theirs(error)(connection(), "d")
    assert raised.value is error


@pytest.mark.parametrize(
    "outcome",
    [
        KeyError("hunter2"),
        RuntimeError("hunter2"),
        TimeoutError("hunter2"),
        None,
        {"sub": "hunter2"},
        Access(Identity(7), {}),  # type: ignore[arg-type]
        Access(Identity(""), {}),
        Access(Identity("ann"), {"*": "write"}),  # type: ignore[dict-item]
    ],
    ids=repr,
)
async def test_i6_anything_else_is_a_fault_that_says_nothing(outcome: Any) -> None:
    with structlog.testing.capture_logs() as logs, pytest.raises(Misuse) as raised:
        await theirs(outcome)(connection(), "d")
    assert close_code_for(raised.value) is CloseCode.FAULT
    assert b"hunter2" not in problem_of(raised.value).body
    assert problem_of(raised.value).status_code == 500
    assert [line["event"] for line in logs] == ["authenticate_failed"]


async def test_i6_a_deadline_around_it_cuts_it() -> None:
    waiting = asyncio.Event()

    async def slow(_: HTTPConnection, __: str | None) -> Access:
        waiting.set()
        await asyncio.Event().wait()
        raise AssertionError

    task = asyncio.create_task(contained(slow)(connection(), "d"))  # type: ignore[arg-type]
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
