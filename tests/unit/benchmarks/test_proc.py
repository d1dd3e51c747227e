"""What a tree of processes used is CPU time and nothing else of what /proc says."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks import proc

WAITS_UNTIL_READ = "import sys; print(flush=True); sys.stdin.read()"
WORKS = "import time\nwhile time.process_time() < 0.5: pass"


def _cpu_ms(program: str) -> float:
    """What the program had used when it said a line."""
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout
    with process:
        process.stdout.readline()
        used = proc.cpu_ms(process.pid)
        process.communicate(b"")
    return used


def test_a_child_that_was_waited_for_counts_and_one_that_idles_does_not() -> None:
    alone = _cpu_ms(WAITS_UNTIL_READ)
    start = "import subprocess, sys\n"
    worked = f"{start}subprocess.run([sys.executable, '-c', {WORKS!r}])\n{WAITS_UNTIL_READ}"
    assert _cpu_ms(worked) - alone >= 490
    sleep = "children = [subprocess.Popen(['sleep', '60']) for _ in range(3)]"
    idle = f"{start}{sleep}\n{WAITS_UNTIL_READ}\nfor child in children: child.kill(); child.wait()"
    assert _cpu_ms(idle) - alone == pytest.approx(0, abs=300)
