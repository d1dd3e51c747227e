"""`python -m tests.attacks.audit`: known holes in what this is built of, asked of pip-audit and npm audit (K04).

Needs the network and `pip-audit` (`pip install pip-audit`); neither is part of a test run. Exit status 1 when something
is known, 0 otherwise; what could not be asked is said and is no failure, so a machine without a network may run this.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.node import bin_folder

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "tests" / "requirements.txt"
LOCKS = ("clients/web", "tests/interop", "tests/interop/content")
TIMEOUT_S = 300
Run = Callable[..., subprocess.CompletedProcess[str]]


@dataclass(frozen=True, slots=True)
class Report:
    """What one tool said."""

    about: str
    holes: tuple[str, ...] = ()
    not_asked: str = ""
    """Why there is no answer; empty when there is one."""

    def __str__(self) -> str:
        if self.not_asked:
            return f"{self.about}: not asked: {self.not_asked}"
        return "\n  ".join((f"{self.about}: {len(self.holes)} known", *self.holes))


def python_packages(run: Run = subprocess.run) -> Report:
    """Ask about every pinned Python package."""
    about = str(REQUIREMENTS.relative_to(ROOT))
    tool = shutil.which("pip-audit") or shutil.which("pip-audit", path=str(Path(sys.executable).parent))
    if tool is None:
        return Report(about, not_asked="pip-audit is not installed")
    command = [tool, "--requirement", str(REQUIREMENTS), "--require-hashes", "--disable-pip", "--format", "json"]
    answer = _answer(run, command, dict(os.environ), ROOT)
    packages = answer.get("dependencies") if isinstance(answer, dict) else None
    if not packages:
        return Report(about, not_asked="no answer from the index")
    # An index without advisories knows no package, and pip-audit calls that a success.
    asked = [package for package in packages if "skip_reason" not in package]
    if len(asked) < len(packages) // 2:
        return Report(about, not_asked=f"the index knows {len(asked)} of {len(packages)} packages")
    holes = (f"{one['name']} {one['version']}: {hole['id']}" for one in asked for hole in one.get("vulns", ()))
    return Report(about, tuple(holes))


def node_packages(folder: str, run: Run = subprocess.run) -> Report:
    """Ask about every package of one lock file."""
    environment = {**os.environ, "PATH": f"{bin_folder()}{os.pathsep}{os.environ.get('PATH', '')}"}
    command = [str(bin_folder() / "npm"), "audit", "--package-lock-only", "--json"]
    answer = _answer(run, command, environment, ROOT / folder)
    found = answer.get("vulnerabilities") if isinstance(answer, dict) else None
    if found is None:
        return Report(folder, not_asked="no answer from the registry")
    return Report(folder, tuple(f"{name}: {one['severity']}" for name, one in found.items()))


def _answer(run: Run, command: list[str], environment: dict[str, str], folder: Path) -> Any:
    try:
        done = run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
        return json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None


def outcome(reports: Iterable[Report]) -> int:
    """Print them; the exit status of the whole."""
    reports = list(reports)
    for report in reports:
        print(report)
    return int(any(report.holes for report in reports))


if __name__ == "__main__":
    sys.exit(outcome([python_packages(), *map(node_packages, LOCKS)]))
