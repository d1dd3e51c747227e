"""Runs the page's own unit tests (`npm test`): its state machine, its names and colours, its reading of tokens."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support import node

WEB = Path(__file__).resolve().parent.parent.parent / "clients" / "web"


@pytest.fixture(scope="module")
def packages() -> None:
    """What the build of the page installed, or what it would install."""
    if not (WEB / "node_modules" / ".bin" / "tsc").exists():
        npm("ci", "--no-audit", "--no-fund", "--ignore-scripts")


@pytest.mark.usefixtures("packages")
def test_k1_the_pages_state_machine_and_what_it_shows_of_peers() -> None:
    npm("test")


def npm(*arguments: str) -> None:
    folder = node.bin_folder()
    done = subprocess.run(
        [str(folder / "npm"), *arguments],
        cwd=WEB,
        env={**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
