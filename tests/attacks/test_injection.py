"""Attacks on store, bus and logs through what a client may write (G01 to G04)."""

from __future__ import annotations

from urllib.parse import quote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collab.bus.channels import Names
from collab.errors import InvalidName
from collab.protocol.names import canonical_name
from tests.attacks.conftest import Ground
from tests.attacks.handshakes import HANDSHAKES, SMUGGLING
from tests.attacks.log_lines import log_lines
from tests.support.door import TestDoors
from tests.support.plain import PLAIN
from tests.support.raw import RawSocket, upgrade_request

SQL = [
    "'",
    '"',
    "' OR '1'='1",
    "'; DROP TABLE updates; --",
    "\\'; DELETE FROM documents; --",
    "%' UNION SELECT bytes FROM updates --",
    "1; PRAGMA writable_schema=1",
    "%",
    "_",
    "%%%",
    "$1",
    ":name",
    "?",
    "{0}",
    "%s%n",
    "\u2019 OR 1=1",
    "*/",
    "E'\\x27'",
]


@pytest.mark.parametrize("text", SQL)
def test_g01_what_looks_like_sql_is_text_or_is_refused(ground: Ground, text: str) -> None:
    name, all_of_them = ground.door.document, "/v1/documents"
    url = f"{all_of_them}/{name}"
    with httpx.Client(base_url=f"{ground.door.http}", **PLAIN, timeout=30) as rest:
        meta = {"note": text, text: "key"}
        made = rest.post(all_of_them, json={"name": name, "title": text, "meta": meta})
        assert made.status_code == 201, made.text
        assert (made.status_code, made.json()["title"], made.json()["meta"]) == (201, text, meta)
        taken = rest.post(f"{url}/snapshots", json={"label": text})
        assert (taken.status_code, taken.json()["label"]) == (201, text)
        assert rest.patch(url, json={"title": f"{text}{text}"}).json()["title"] == text * 2
        for query in ({"prefix": text}, {"cursor": text}, {"limit": text}, {"sort": text}):
            answer = rest.get(all_of_them, params=query)
            assert answer.status_code in {200, 422}
            if "prefix" in query and answer.status_code == 200:
                # Of the characters that mean something to LIKE only the underscore is one of names.
                assert all(found["name"].startswith(text) for found in answer.json()["documents"])
        for query in ({"root": text}, {"format": text}, {"type": text}):
            assert rest.get(f"{url}/content", params=query).status_code in {200, 422}
        assert rest.get(url).json()["title"] == text * 2
        assert rest.get(f"{url}/snapshots/{quote(text, safe='')}").status_code in {404, 405, 422}


@given(st.text(max_size=60), st.text(max_size=60))
def test_g02_two_names_never_share_a_channel_and_none_is_a_pattern(one: str, other: str) -> None:
    names = []
    for text in (one, other, f"{one}:{other}", f"{one}*"):
        try:
            names.append(canonical_name(text))
        except InvalidName:
            continue
    channels = Names("collab")
    found = [channels.document(name) for name in names]
    assert len(set(found)) == len(set(names))
    assert not [channel for channel in found if any(character in channel for character in b"*?[\\\r\n\x00 ")]


async def test_g04_whatever_is_asked_for_a_log_line_is_one_object_of_json(doors: TestDoors) -> None:
    door = await doors.open(COLLAB_LOG_FORMAT="json", COLLAB_LOG_LEVEL="debug")
    port = door.server.port
    forged = "%0a%7b%22level%22%3a%22error%22%2c%22event%22%3a%22forged%22%7d%0d%1b%5b31m"
    for request in (
        *(shape.make(port, f"/yjs/{door.document}") for shape in (*SMUGGLING, *HANDSHAKES)),
        upgrade_request(port, f"/yjs/{forged}"),
        upgrade_request(port, f"/elsewhere/{forged}"),
        upgrade_request(
            port, f"/yjs/{door.document}", 'User-Agent: "}\t{"event":"forged"', f"X-Forwarded-For: {forged}"
        ),
        f"GET /v1/documents/{forged} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode(),
        b'GET /livez HTTP/1.1\r\n{"event":"forged"}: x\r\n\r\n',
    ):
        with RawSocket(port) as raw:
            raw.send(request)
            raw.head()
    assert await door.terminate() == 0
    lines = log_lines(door.server.output)
    assert len(lines) > 10
    assert {"forged", "error"}.isdisjoint({line["event"] for line in lines} | {line["level"] for line in lines})
    assert not [line for line in lines if "\x1b" in str(line) or "\n" in str(list(line.values()))]
