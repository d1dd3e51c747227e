"""Odd requests of every shape: whatever comes, REST answers with a problem or a success, never with a fault."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collab.bus import alone
from collab.engine.inline import InlineEngine
from collab.node import Hub
from collab.server.auth import Origins, open_access
from collab.server.guard import BodyLimits, Rest
from collab.server.http import api
from collab.server.refusals import Refusals
from collab.store import MemoryStore

FORMATS = ["update", "json", "text", "html", "markdown"]
TYPES = ["xml", "text", "map", "array"]
odd_text = st.text(max_size=30) | st.sampled_from(
    ["\x00", "\ud800", "..", "%00", "\u202e", "constructor", "-1", "1e9", ""]
)
names = st.sampled_from(["d", "e", "d:1", "~", "a" * 200]) | odd_text
query = st.dictionaries(
    st.sampled_from(["limit", "cursor", "prefix", "format", "root", "type", "before", "token", "x"]),
    odd_text | st.integers().map(str) | st.sampled_from(FORMATS + TYPES),
    max_size=4,
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | odd_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(odd_text, inner, max_size=4),
    max_leaves=12,
)
prosemirror = st.recursive(
    st.fixed_dictionaries({"type": st.sampled_from(["text", "paragraph", "x"]), "text": odd_text}),
    lambda inner: st.fixed_dictionaries(
        {"type": st.sampled_from(["doc", "paragraph", "heading"]), "content": st.lists(inner, max_size=3)},
        optional={"attrs": json_values, "marks": json_values},
    ),
    max_leaves=8,
)
content = st.fixed_dictionaries(
    {"format": st.sampled_from(FORMATS), "value": odd_text | json_values | prosemirror},
    optional={"root": odd_text, "type": st.sampled_from(TYPES)},
)
bodies = (
    st.fixed_dictionaries(
        {"name": names}, optional={"title": odd_text | json_values, "meta": json_values, "content": content}
    )
    | st.dictionaries(st.sampled_from(["title", "meta", "label", "name", "x"]), json_values, max_size=3)
    | json_values
)
ids = st.integers().map(str) | odd_text
paths = st.one_of(
    st.just("/v1/documents"),
    st.tuples(names, st.sampled_from(["", "/content", "/updates", "/snapshots", "/x"])).map(
        lambda parts: f"/v1/documents/{_quoted(parts[0])}{parts[1]}"
    ),
    st.tuples(names, ids | st.just("1"), st.sampled_from(["", "/content", "/restore"])).map(
        lambda parts: f"/v1/documents/{_quoted(parts[0])}/snapshots/{_quoted(parts[1])}{parts[2]}"
    ),
)
media_types = st.sampled_from(["application/json", "application/octet-stream", "text/plain", "application/json; a=b"])
raw = st.binary(max_size=200) | bodies.map(lambda body: json.dumps(body).encode())


def _quoted(text: str) -> str:
    return quote(text.encode("utf-8", "surrogatepass"), safe="")


class Node:
    """A node kept over all examples of a run, so that documents and damage gather."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._run(self._open())

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run_until_complete(work)

    async def _open(self) -> None:
        self.engine = InlineEngine()
        self.hub = Hub(node="n", epoch=1, engine=self.engine, store=MemoryStore(), bus=alone())
        self.hub.start()
        rest = Rest(self.hub, open_access, Origins(), Refusals(self.hub.counters))
        app = api(rest, version="0", limits=BodyLimits(usual=100_000, content=200_000))
        transport = httpx.ASGITransport(app, raise_app_exceptions=True)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://collab.test")

    def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        answer: httpx.Response = self._run(self.client.request(method, path, **more))
        return answer

    def close(self) -> None:
        self._run(self.client.aclose())
        self._run(self.hub.close())
        self._run(self.engine.close())
        self._loop.close()


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    node = Node()
    yield node
    node.close()


@settings(
    max_examples=400,
    deadline=timedelta(seconds=20),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    method=st.sampled_from(["GET", "POST", "PATCH", "DELETE", "PUT", "HEAD", "OPTIONS"]),
    path=paths,
    query=query,
    body=raw,
    media_type=media_types,
)
def test_e08_no_request_is_answered_with_a_fault(
    node: Node, method: str, path: str, query: dict[str, str], body: bytes, media_type: str
) -> None:
    text = urlencode({key: value.encode("utf-8", "surrogatepass") for key, value in query.items()})
    answer = node.request(method, f"{path}?{text}", content=body, headers={"Content-Type": media_type})
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400 and method != "HEAD":
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == answer.status_code


@settings(
    max_examples=200,
    deadline=timedelta(seconds=20),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(body=content, form=st.sampled_from(FORMATS), kind=st.sampled_from([None, *TYPES]))
def test_whatever_content_was_taken_can_be_read_or_is_refused_with_a_sentence(
    node: Node, body: dict[str, Any], form: str, kind: str | None
) -> None:
    node.created = getattr(node, "created", 0) + 1  # type: ignore[attr-defined]
    name = f"made-{node.created}"  # type: ignore[attr-defined]
    encoded = json.dumps({"name": name, "content": body}).encode()
    created = node.request("POST", "/v1/documents", content=encoded, headers={"Content-Type": "application/json"})
    assert created.status_code in {201, 400, 422}, created.text
    if created.status_code == 201:
        query = {"format": form} | ({"type": kind} if kind else {})
        read = node.request("GET", f"/v1/documents/{name}/content", params=query)
        assert read.status_code in {200, 422}, read.text
        if form != "update" and read.status_code == 200:
            read.content.decode("utf-8")
