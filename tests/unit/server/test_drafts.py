"""Bodies that describe a document to create: read here or by the engine, they say the same."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from fastapi import HTTPException
from fastapi.exceptions import RequestValidationError
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from collab.engine.content import run_draft
from collab.engine.draft import MAX_REST_BYTES
from collab.engine.inline import InlineEngine
from collab.engine.port import Draft, Drafted
from collab.engine.wire import LENGTH, Op, frame, job_fields, pack_answer, read_answer, read_job, unframe
from collab.errors import DocumentQuarantined, EngineDied, InvalidContent, Misuse
from collab.server.jobs import Jobs
from collab.server.rest.drafts import READ_HERE_BYTES, content_of, described, drafted
from collab.server.rest.schemas import NewContent, NewDocument

DEEP = b'{"name":"d","content":{"format":"json","type":"array","value":'
BODIES = [
    b"",
    b" ",
    b"null",
    b"[]",
    b"7",
    b"{",
    b"\xff",
    b'{"name":"d"}',
    b'\xef\xbb\xbf{"name":"d"}',
    '{"name":"d"}'.encode("utf-16"),
    b'{"name":"d","name":"e","content":{"format":"text","value":"x","format":"html"}}',
    b'{"name":"d","meta":{"a":NaN}}',
    b'{"name":7,"title":[],"x":1}',
    b'{"name":"d","content":null}',
    b'{"name":"d","content":[]}',
    b'{"name":"d","content":{}}',
    b'{"name":"d","content":{"format":"text","value":"x","type":"text"}}',
    b'{"name":"d","content":{"format":"text","value":7},"title":7}',
    b'{"name":"d","content":{"format":"text","value":"\\ud800"}}',
    b'{"name":"d","content":{"format":"text","value":"x","root":"\\ud800"}}',
    b'{"name":"d","content":{"format":"text","value":"x","root":""}}',
    b'{"name":"d","content":{"format":["text"],"value":"x","type":{}}}',
    b'{"name":"d","content":{"format":"update","value":"x"}}',
    b'{"name":"d","content":{"format":"text","value":"x","owner_id":1}}',
    b'{"name":"d","content":{"format":"json","value":[NaN]}}',
    b'{"name":"d","content":{"format":"json","value":[1e999]}}',
    b'{"name":"d","content":{"format":"json","value":"\\ud800"}}',
    b'{"name":"d","content":{"format":"json","value":7}}',
    b'{"name":"d","content":{"format":"json","value":' + b"9" * 5_000 + b"}}",
    DEEP + b"[" * 90 + b"]" * 90 + b"}}",
    DEEP + b"[" * 200 + b"]" * 200 + b"}}",
    DEEP + b"[" * 201 + b"]" * 201 + b"}}",
    b"[" * 10_000,
]
texts = st.text(max_size=9) | st.sampled_from(["d", "text", "json", "html", "markdown", "xml", "\ud800", "\0", ""])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
contents = st.fixed_dictionaries(
    {"format": st.sampled_from(["json", "text", "html", "markdown"]) | values, "value": values},
    optional={"root": texts | values, "type": st.sampled_from(["xml", "text", "map", "array"]) | values, "x": values},
)
bodies = st.fixed_dictionaries(
    {"name": texts | values}, optional={"title": texts | values, "meta": values, "content": contents | values}
)


class WiredEngine(InlineEngine):
    """Jobs and answers pass the wire to the engine's process and back."""

    async def run(self, job: Any) -> Any:
        done = await super().run(read_job(unframe(frame([job_fields(job)])[LENGTH.size :])[0]))
        return read_answer(Op.RUN, (), unframe(frame([pack_answer(1, done)])[LENGTH.size :])[0])


def jobs() -> Jobs:
    return Jobs(WiredEngine(), clock=time.monotonic)


def said(draft: Drafted) -> tuple[Any, ...]:
    """What becomes of a request."""
    try:
        new = described(draft)
        return "created", new.model_dump(), content_of(draft, new)
    except RequestValidationError as error:
        return "invalid", [(found["loc"], found["msg"]) for found in error.errors()]
    except (HTTPException, InvalidContent) as error:
        return type(error).__name__, str(error)


async def said_of(body: bytes) -> tuple[Any, ...]:
    """The same, asserting that it does not depend on who reads the body."""
    here = said(await drafted(body, jobs(), "ann"))
    assert here == said(run_draft(Draft(body)))
    return here


@pytest.mark.parametrize("body", BODIES, ids=lambda body: repr(body[:50]))
async def test_e11_a_body_says_the_same_wherever_it_is_read(body: bytes) -> None:
    small = await said_of(body)
    if body:
        padded = b" " * (READ_HERE_BYTES + 1) + body.removeprefix(b"\xef\xbb\xbf")
        large = said(await drafted(padded, jobs(), "ann"))
        assert large[0] == small[0]
        if small[0] == "created":
            assert large == small


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(body=bodies.map(lambda body: json.dumps(body).encode()) | st.binary(max_size=30))
@example(body=b'{"name":"d","content":{"format":"text","value":"x","type":"text"}}')
async def test_e11_any_body_says_the_same_wherever_it_is_read(body: bytes) -> None:
    await said_of(body)


async def test_content_is_never_taken_for_none() -> None:
    """Should the engine and the form of the body disagree about what content is, nothing is created."""
    said_of_all = [await said_of(body) for body in BODIES]
    assert {kind for kind, *_ in said_of_all} == {"created", "invalid", "InvalidContent"}
    updates = [more[1] for kind, *more in said_of_all if kind == "created" and more[0]["content"]]
    assert len(updates) >= 3
    assert all(updates)
    new = NewDocument(name="d", content=NewContent(format="text", value=None))
    with pytest.raises(Misuse):
        content_of(Drafted(b"{}"), new)


async def test_a_rest_that_is_no_rest_is_413() -> None:
    for body in (b'{"name":"d","title":"%s"}' % (b"x" * MAX_REST_BYTES), b"[" + b"[]," * 100_000 + b"[]]"):
        kind, reason = said(await drafted(body, jobs(), "ann"))
        assert (kind, reason.partition(":")[0]) == ("HTTPException", "413")


async def test_the_longest_rest_that_is_valid_is_taken() -> None:
    """Characters that take six bytes in an escape and one in what is kept."""
    meta = {"a": "\x7f" * 8_000}
    title = "\U0001f600" * 300
    body = json.dumps({"name": "d" * 200, "title": title, "meta": meta, "content": {"format": "text", "value": "x"}})
    kind, new, update = said(await drafted(body.encode(), jobs(), "ann"))
    assert (kind, new["title"], new["meta"]) == ("created", title, meta)
    assert update


async def test_f29_who_sends_what_kills_engines_is_left_alone_for_a_while() -> None:
    class Dying(InlineEngine):
        async def run(self, job: Any) -> Any:
            raise EngineDied("out of memory")

    dying = Jobs(Dying(), clock=time.monotonic)
    large = b" " * (READ_HERE_BYTES + 1) + b"{}"
    for author, error in (("ann", EngineDied), ("ann", EngineDied), ("ann", DocumentQuarantined), ("ben", EngineDied)):
        with pytest.raises(error):
            await drafted(large, dying, author)
