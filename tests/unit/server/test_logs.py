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
from collab.server.passes import LINK, TICKET, new_secret

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
    # What websockets says at "debug" and uvicorn at "trace".
    uvicorn.debug("< %s: %s", "sec-websocket-protocol", "yjs.v1, collab.ticket.opaque-ticket-value, x")
    uvicorn.debug("< %s: %s", "cookie", "a=b; session=opaque-ticket-value")
    uvicorn.debug("started %s", {"query_string": b"x=1&token=opaque-ticket-value&y=2"})
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
    assert "yjs.v1" in text
    assert "y=2" in text


def test_d15_a_link_or_ticket_reaches_no_line_wherever_it_stands(out: io.StringIO) -> None:
    log = structlog.get_logger("collab.test")
    for secret in (new_secret(LINK), new_secret(TICKET)):
        log.info(
            "offered", subprotocols=["yjs.v1", f"collab.token.{secret}"], path=f"/yjs/d?token={secret}", one=secret
        )
        logging.getLogger("uvicorn.error").info('"WebSocket %s" [accepted]', f"/yjs/d?token={secret}")
        try:
            raise ValueError(f"what is {secret}?")
        except ValueError:
            log.exception("failed")
        assert secret not in out.getvalue()
        assert secret[3:] not in out.getvalue()


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


def test_k06_of_one_cause_ten_lines_a_second_are_written_and_the_rest_counted() -> None:
    stream, now = io.StringIO(), 0.0
    logs.set_up("info", "json", stream=stream)
    (handler,) = logging.getLogger().handlers
    handler.filters[:] = [logs.Sparing(clock=lambda: now)]
    noisy, other = structlog.get_logger("collab.noisy"), structlog.get_logger("collab.other")
    for step in range(40):
        now = step * 0.05
        for number in range(25):
            noisy.warning("bad frame", session=f"s{number}")
            logging.getLogger("uvicorn.error").warning("bad request of %s", number)
        other.warning("bad frame")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    written = [line for line in lines if line["logger"] == "collab.noisy"]
    assert len(written) == len([line for line in lines if line["logger"] == "uvicorn.error"]) == 20
    assert sum(line.get("left_out", 0) for line in written) == 20 * 25 - 10
    assert len([line for line in lines if line["logger"] == "collab.other"]) == 20


def test_k06_what_libraries_make_up_as_events_is_not_remembered_for_ever() -> None:
    sparing = logs.Sparing()
    for number in range(10_000):
        assert sparing.filter(logging.LogRecord("x", logging.INFO, "", 0, f"made up {number}", (), None))
    assert len(sparing._passed) <= 1_000
