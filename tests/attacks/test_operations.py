"""Attacks on whoever runs the server (K02 to K06, D15): labels, log volume, secrets where none belong."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections import defaultdict
from datetime import datetime
from pathlib import Path

import httpx
import pytest

from collab.server.logs import LINES_PER_SECOND
from collab.settings import Settings
from tests.attacks.conftest import Ground
from tests.attacks.log_lines import log_lines
from tests.attacks.peer import Peer
from tests.support import issued, wire
from tests.support.door import TestDoors
from tests.support.plain import PLAIN
from tests.support.raw import RawSocket, client_frame
from tests.support.server import RunningServer
from tests.support.tokens import token

ROOT = Path(__file__).resolve().parents[2]
SECRETS = {
    "private key": r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----\s+[A-Za-z0-9+/=]{20}",
    "AWS key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "GitHub token": r"\bgh[pousr]_[A-Za-z0-9]{36}\b|\bgithub_pat_[A-Za-z0-9_]{60,}",
    "Slack token": r"\bxox[abprs]-[A-Za-z0-9-]{20,}",
    "Stripe key": r"\b[sr]k_live_[A-Za-z0-9]{20,}",
    "Google key": r"\bAIza[0-9A-Za-z_-]{35}\b",
    "npm token": r"\bnpm_[A-Za-z0-9]{36}\b",
    "PyPI token": r"\bpypi-AgE[A-Za-z0-9_-]{40,}",
    "JWT": r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{20,}",
    "address with a password": r"\b[a-z]{3,12}(?:\+[a-z]+)?://[^\s:/@\"'`{}<>$]+:[^\s:/@\"'`{}<>$]{12,}@",
}


def test_k05_no_file_of_the_repository_holds_a_secret() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    files = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    if not files:  # an exported tree
        built = {"node_modules", "dist", ".venv"}
        files = [path for path in ROOT.rglob("*") if path.is_file() and not built & set(path.parts)]
    found = [
        f"{path.relative_to(ROOT)}: {kind}"
        for path in files
        if path.is_file()
        for kind, pattern in SECRETS.items()
        if re.search(pattern, path.read_text(errors="replace"))
    ]
    assert found == []


@pytest.mark.parametrize("kind", SECRETS)
def test_k05_the_scanner_finds_one_of_each(kind: str) -> None:
    examples = {
        "private key": "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIEpAIBAAKCAQEA0Z3VS5JJcds3",
        "AWS key": "AKIA" + "IOSFODNN7EXAMPLE",
        "GitHub token": "ghp_" + "a1" * 18,
        "Slack token": "xoxb-" + "1" * 24,
        "Stripe key": "sk_live_" + "a" * 24,
        "Google key": "AIza" + "B" * 35,
        "npm token": "npm_" + "c3" * 18,
        "PyPI token": "pypi-AgE" + "d" * 44,
        "JWT": token(),
        "address with a password": "postgresql" + "://collab:correct-horse-battery@db/collab",
    }
    assert re.search(SECRETS[kind], f"x = '{examples[kind]}'")


KEY, PASSWORD = "a-key-of-more-than-thirty-two-bytes!", "correct horse battery"
QUOTED = PASSWORD.replace(" ", "%20")
ENVIRONMENT = {
    "COLLAB_AUTH": "jwt",
    "COLLAB_JWT_SECRET": KEY,
    "COLLAB_BUS_SECRET": KEY[::-1],
    "COLLAB_DATABASE": f"postgresql://collab:{QUOTED}@127.0.0.1:1/collab",
    "COLLAB_REDIS": f"redis://:{QUOTED}@127.0.0.1:1/0",
}


def test_k05_settings_show_no_secret_however_they_are_printed() -> None:
    fields = {name.removeprefix("COLLAB_").lower(): value for name, value in ENVIRONMENT.items()}
    settings = Settings(**fields)  # type: ignore[arg-type]
    shown = (repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json(), f"{vars(settings)}")
    for text in (*shown, settings.database_shown, str(settings.redis_shown)):
        for secret in (KEY, KEY[::-1], PASSWORD, QUOTED):
            assert secret not in text


def test_k05_a_server_that_cannot_start_names_no_secret() -> None:
    with pytest.raises(RuntimeError) as failed:
        RunningServer.start(env=ENVIRONMENT)
    said = str(failed.value)
    assert "127.0.0.1" in said
    for secret in (KEY, KEY[::-1], PASSWORD, QUOTED):
        assert secret not in said


def test_k02_a_flood_of_questions_about_health_is_answered(ground: Ground) -> None:
    """That readiness is believed for a second is proved in unit/server/test_health.py."""
    with httpx.Client(base_url=ground.door.http, **PLAIN, timeout=30) as rest:
        for path in ("/livez", "/readyz") * 100:
            assert rest.get(path).status_code == 200


def test_k03_rooms_users_and_types_make_no_new_series(guarded: Ground) -> None:
    def series() -> set[str]:
        text = httpx.get(f"{guarded.door.http}/metrics", **PLAIN).text
        return {line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")}

    def visit(number: int) -> None:
        with Peer(guarded.door.beside(f"k03:{number}"), token=token(sub=f"user-{number}", access="write")) as peer:
            peer.send(*(wire.varuint(2**20 + number) + b"\x00" for _ in range(3)))
            peer.catch_up()

    visit(0)
    before = series()
    for number in range(1, 40):
        visit(number)
    assert series() == before


async def test_k06_whoever_errs_as_fast_as_he_can_fills_no_disk(doors: TestDoors) -> None:
    door = await doors.open(COLLAB_LOG_FORMAT="json")
    port = door.server.port

    def attack() -> None:
        for _ in range(60):
            with RawSocket(port) as raw:
                raw.upgrade(port, f"/yjs/{door.document}")
                raw.send(client_frame(b"\xff"))
                raw.closing()
            with RawSocket(port) as raw:
                raw.send(b"NOT HTTP\r\n\r\n")
                raw.rest()

    await asyncio.gather(*(asyncio.to_thread(attack) for _ in range(4)))
    assert await door.terminate() == 0
    causes: dict[tuple[str, str], list[float]] = defaultdict(list)
    left_out = 0
    for line in log_lines(door.server.output):
        causes[line["logger"], line["event"]].append(datetime.fromisoformat(line["timestamp"]).timestamp())
        left_out += line.get("left_out", 0)
    assert any("session_closed" in event for _, event in causes)
    for cause, times in causes.items():
        for first, last in zip(times, times[LINES_PER_SECOND:], strict=False):
            assert last - first > 0.9, cause


def test_d15_a_log_that_holds_what_was_issued_is_found(tmp_path: Path) -> None:
    """The check that ends every run of tests, on a log of its own."""
    given, clean, dirty = token(sub="nobody"), tmp_path / "clean.log", tmp_path / "dirty.log"
    clean.write_text(f"2026 session_joined token={given[:8]}... eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9\n")
    assert issued.leaks([clean]) == []
    for part, what in ((given, "token"), (given.split(".")[1], "token"), (issued.marked("x"), "document text")):
        dirty.write_text(f"first\nsecond {part} third\n")
        leaks = issued.leaks([dirty])
        assert leaks
        assert all(str(dirty) in leak and part not in leak for leak in leaks)
        assert any(what in leak for leak in leaks)
