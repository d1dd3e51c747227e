"""nginx.conf against what it must agree with: collab's settings, uvicorn's times. What it does is tried in
`tests/acceptance/test_deploy_nginx.py`."""

from __future__ import annotations

import re
from pathlib import Path

import uvicorn

from collab.server.auth import MAX_TOKEN_CHARS
from collab.settings import Settings

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"
FOLDER = DEPLOY / "nginx"
CONF = (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
UNITS = {"": 1, "s": 1, "h": 3600, "k": 1024, "m": 1024 * 1024}
LONGEST_SILENCE_S = 15
"""SPEC R11."""


def values(directive: str) -> list[str]:
    found = re.findall(rf"^\s*{directive} (.+);", CONF, re.MULTILINE)
    assert found, directive
    return found


def amount(written: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([smhk]?)", written.split()[-1]).groups()  # type: ignore[union-attr]
    return int(number) * UNITS[unit]


def test_the_largest_body_is_that_of_the_settings() -> None:
    assert [amount(size) for size in values("client_max_body_size")] == [Settings().max_import_bytes]


def test_r11_a_quiet_socket_outlives_a_lost_keep_alive() -> None:
    (patience,) = values("proxy_read_timeout")
    assert amount(patience) >= 2 * LONGEST_SILENCE_S


def test_a_socket_tries_its_own_node_whatever_happened_to_others() -> None:
    """What nginx would do otherwise: see the comment in nginx.conf, and the test of rolling restarts."""
    servers = re.findall(r"^server .*$", (FOLDER / "sockets.conf").read_text(), re.MULTILINE)
    assert servers
    assert all("max_fails=0" in server for server in servers)


def test_nginx_lets_go_of_an_idle_connection_before_the_node_does() -> None:
    (kept,) = values("keepalive_timeout")
    assert amount(kept) < uvicorn.Config("none:none").timeout_keep_alive


def test_the_longest_token_fits_into_a_request_line() -> None:
    (size,) = values("large_client_header_buffers")
    assert amount(size) > MAX_TOKEN_CHARS + 1024


def test_every_client_of_a_full_node_finds_two_connections() -> None:
    assert amount(values("worker_connections")[0]) >= 2 * Settings().max_sessions
