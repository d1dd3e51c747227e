"""Log lines: one per event, for people or machines, and never a token in them."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import jwt
import pytest
import structlog

from collab.server import logs

TOKEN = jwt.encode({"sub": "ann"}, "k3Zp0s9QwX7vB2nM5cR8tY1uI4oL6aD_", "HS256")


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture(params=["console", "json"])
def out(request: pytest.FixtureRequest) -> io.StringIO:
    stream = io.StringIO()
    logs.set_up("debug", request.param, stream=stream)
    return stream


def test_d15_a_token_reaches_no_line_wherever_it_stands(out: io.StringIO) -> None:
    uvicorn = logging.getLogger("uvicorn.error")
    uvicorn.info('%s - "WebSocket %s" [accepted]', "127.0.0.1:5", f"/yjs/d?token={TOKEN}&x=1")
    uvicorn.info('"WebSocket /yjs/d?token=opaque-ticket-value" 403')
    logging.getLogger("uvicorn.access").info(
        '%s - "%s %s HTTP/%s" %d', "1.2.3.4", "GET", f"/v1?token={TOKEN}", "1.1", 200
    )
    logging.getLogger("other").warning("got Authorization: Bearer opaque-ticket-value and %s", TOKEN)
    log = structlog.get_logger("collab.test")
    log.info("offered", subprotocols=["yjs.v1", f"collab.token.{TOKEN}"], header=f"Bearer {TOKEN}")
    try:
        raise ValueError(TOKEN)
    except ValueError:
        log.exception("failed")
        logging.getLogger("uvicorn.error").exception("failed")
    text = out.getvalue()
    assert text.count("/yjs/d") == 2
    assert "ValueError" in text
    assert TOKEN not in text
    assert TOKEN.split(".")[1] not in text
    assert "opaque-ticket-value" not in text


def test_g04_an_event_is_one_line_without_control_characters_and_bounded(out: io.StringIO) -> None:
    structlog.get_logger("collab.test").warning("joined", document="a\nFAKE line\r\x1b[31m\u2028x", long="y" * 100_000)
    text = out.getvalue()
    assert len(text.splitlines()) == 1
    assert "\x1b[31m" not in text
    assert len(text) < 3 * logs.MAX_VALUE_CHARS


def test_machines_get_json_with_time_level_and_fields() -> None:
    stream = io.StringIO()
    logs.set_up("info", "json", stream=stream)
    with structlog.contextvars.bound_contextvars(session="s1"):
        structlog.get_logger("collab.test").info("joined", document="d", size=3, gone=None)
    logging.getLogger("uvicorn.error").warning("from %s", "outside", extra={"port": 5, "color_message": "x"})
    ours, theirs = map(json.loads, stream.getvalue().splitlines())
    assert ours.pop("timestamp").endswith("Z")
    expected = {"event": "joined", "level": "info", "logger": "collab.test", "document": "d", "size": 3, "gone": None}
    assert ours == {**expected, "session": "s1"}
    assert "color_message" not in theirs
    assert (theirs["event"], theirs["port"], theirs["level"]) == ("from outside", 5, "warning")


def test_less_than_the_level_is_not_logged() -> None:
    stream = io.StringIO()
    logs.set_up("warning", stream=stream)
    structlog.get_logger("collab.test").info("quiet")
    logging.getLogger("uvicorn.error").info("quiet")
    structlog.get_logger("collab.test").warning("loud")
    assert stream.getvalue().count("\n") == 1
    assert "loud" in stream.getvalue()


def test_setting_up_twice_says_things_once() -> None:
    stream = io.StringIO()
    logs.set_up(stream=io.StringIO())
    logs.set_up(stream=stream)
    logging.getLogger("uvicorn").info("once")
    assert stream.getvalue().count("once") == 1
