"""deploy/README.md: what it names exists, and the backup it describes is the one that was tried."""

from __future__ import annotations

import re
from pathlib import Path

from collab.settings import describe

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "deploy" / "README.md").read_text(encoding="utf-8")


def test_every_variable_is_a_setting() -> None:
    named = set(re.findall(r"COLLAB_[A-Z_]+", TEXT))
    assert len(named) > 5
    assert named <= {setting.variable for setting in describe()}


def test_every_file_is_there() -> None:
    named = set(re.findall(r"`((?:[\w-]+/)*[\w-]+\.(?:py|conf|yml|txt|toml))`", TEXT))
    assert len(named) > 5
    assert {name for name in named if not ((ROOT / name).exists() or (ROOT / "deploy" / name).exists())} == set()


def test_the_backup_commands_are_those_the_test_runs() -> None:
    tried = (ROOT / "tests" / "acceptance" / "test_deploy_backup.py").read_text(encoding="utf-8")
    commands = [line.split() for line in re.findall(r"^    (pg_\w+ .*)$", TEXT, re.MULTILINE)]
    assert [command[0] for command in commands] == ["pg_dump", "pg_restore", "pg_basebackup", "pg_verifybackup"]
    for program, *arguments in commands:
        assert f'"{program}"' in tried
        for option in arguments:
            name, equals, value = option.partition("=")
            a_place = any(mark in value for mark in "./$")
            assert not name.startswith("--") or f"{name}{equals}{'' if a_place else value}" in tried
