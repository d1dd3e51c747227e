"""`python3 tests`: everything that must hold, on a machine with nothing but Python 3.11 or newer.

Makes `.venv` when it is missing, installs the exact versions of `tests/requirements.txt` and this checkout, then runs
linters, type checker, import contracts and pytest, which runs twice at the same time, each with a part of the tests:
most of them wait more than they compute. Arguments this does not know go to pytest, which then runs once. Standard
library only.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
import time
import tomllib
import venv
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
REQUIREMENTS = ROOT / "tests" / "requirements.txt"
COMPILE = (
    "uv pip compile pyproject.toml tests/requirements.in --extra test --universal --python-version 3.11 "
    "--generate-hashes --no-emit-index-url --no-header --no-annotate --output-file tests/requirements.txt"
)
BESIDE = ["tests/acceptance", "tests/attacks", "tests/browser", "tests/faults"]
"""What the second pytest has: tests of servers in processes of their own. The first has all the others."""
LINT: dict[str, list[str]] = {
    "ruff check": ["ruff", "check", "."],
    "ruff format": ["ruff", "format", "--check", "."],
    "mypy": ["mypy"],
    "import contracts": ["lint-imports"],
}


@dataclass
class Steps:
    """What was run, for how long, and whether it succeeded."""

    results: list[tuple[str, float, bool]] = field(default_factory=list)

    def run(self, name: str, command: list[str]) -> bool:
        """Run one of the environment's programs and note the outcome."""
        print(f"\n=== {name}: {' '.join(command)}", flush=True)
        started = time.perf_counter()
        ok = subprocess.run([str(BIN / command[0]), *command[1:]], check=False).returncode == 0
        self.results.append((name, time.perf_counter() - started, ok))
        return ok

    def run_beside(self, name: str, command: list[str], beside: tuple[str, list[str]]) -> None:
        """Run two at the same time; what the one ``beside`` prints is shown when both are through."""
        other, other_command = beside
        with ThreadPoolExecutor(1) as thread:
            hidden = thread.submit(_quietly, other_command)
            self.run(name, command)
            print(f"\n=== {other}, meanwhile: {' '.join(other_command)}", flush=True)
            seconds, ok, output = hidden.result()
        print(output, end="", flush=True)
        self.results.append((other, seconds, ok))

    def report(self) -> int:
        """Print one line per step; the exit status of the whole."""
        print("\n=== summary")
        for name, seconds, ok in self.results:
            print(f"{'ok    ' if ok else 'FAILED'} {name} ({seconds:.1f} s)")
        return 0 if all(ok for _, _, ok in self.results) else 1


def _quietly(command: list[str]) -> tuple[float, bool, str]:
    """Run one of the environment's programs: how long it took, whether it succeeded, what it printed."""
    started = time.perf_counter()
    done = subprocess.run(
        [str(BIN / command[0]), *command[1:]],
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    return time.perf_counter() - started, done.returncode == 0, done.stdout


def main() -> int:
    """Install what changed, run every step even after one failed, and say which did."""
    arguments, for_pytest = options().parse_known_args()
    os.chdir(ROOT)
    if missing := not_pinned():
        print(f"tests/requirements.txt lacks {', '.join(missing)}. Run:\n  {COMPILE}", file=sys.stderr)
        return 1
    if not VENV.exists():
        make_venv()
    steps = Steps()
    if not install(steps):
        return steps.report()
    if arguments.only != "pytest":
        for name, command in LINT.items():
            steps.run(name, command)
    if arguments.only != "lint":
        test(steps, for_pytest)
    return steps.report()


def test(steps: Steps, for_pytest: list[str]) -> None:
    """Run pytest as asked; with no wishes, as two processes beside each other."""
    pytest = ["python", "-m", "pytest"]
    if for_pytest:
        steps.run("pytest", [*pytest, *for_pytest])
        return
    # The cache is the first one's: both would write what failed last into the same file.
    second = [*pytest, "-p", "no:cacheprovider", *BESIDE]
    steps.run_beside("pytest", [*pytest, *(f"--ignore={path}" for path in BESIDE)], ("pytest beside it", second))


def options() -> argparse.ArgumentParser:
    """The few arguments that are not pytest's."""
    parser = argparse.ArgumentParser(prog="python3 tests", description=__doc__, allow_abbrev=False)
    parser.add_argument("--only", choices=["lint", "pytest"], help="run only this half")
    return parser


def make_venv() -> None:
    """Create `.venv` with pip in it, or say what the system's Python lacks."""
    print(f"=== making {VENV.name} with Python {sys.version.split()[0]}", flush=True)
    try:
        venv.create(VENV, with_pip=True, symlinks=os.name != "nt")
    except subprocess.CalledProcessError:
        sys.exit("This Python cannot make environments with pip; on Debian: apt-get install python3-venv")


def install(steps: Steps) -> bool:
    """Install the pinned requirements, then the checkout (which builds the page), each only when it changed."""
    pip = ["python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    checkout = [*pip, "--no-deps", "--no-build-isolation", "--editable", "."]
    jobs = {
        "requirements": ([REQUIREMENTS], [*pip, "--require-hashes", "--requirement", "tests/requirements.txt"]),
        "checkout": ([REQUIREMENTS, *sources_of_the_build()], checkout),
    }
    for name, (inputs, command) in jobs.items():
        stamp, now = VENV / f".collab-{name}", digest(inputs)
        if stamp.exists() and stamp.read_text() == now:
            continue
        if not steps.run(f"install {name}", command):
            return False
        stamp.write_text(now)
    return True


def sources_of_the_build() -> list[Path]:
    """Every file whose change asks for a new installation of the checkout."""
    page = ROOT / "clients" / "web"
    built = {"node_modules", "dist"}
    pages = (path for path in page.rglob("*") if path.is_file() and not built & set(path.relative_to(page).parts))
    return sorted(path for path in (ROOT / "pyproject.toml", ROOT / "hatch_build.py", *pages) if path.exists())


def digest(files: Iterable[Path]) -> str:
    """One hash over names and contents."""
    total = hashlib.sha256()
    for path in files:
        total.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return total.hexdigest()


def not_pinned() -> list[str]:
    """Names that pyproject.toml asks for and tests/requirements.txt does not pin."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    asked = [*project["project"]["dependencies"], *project["project"]["optional-dependencies"]["test"]]
    asked += project["build-system"]["requires"]
    pinned = {line.split("==")[0] for line in REQUIREMENTS.read_text().splitlines() if "==" in line}
    raw = (re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0] for requirement in asked)
    return sorted({re.sub(r"[-_.]+", "-", name).lower() for name in raw} - pinned)


if __name__ == "__main__":
    sys.exit(main())
