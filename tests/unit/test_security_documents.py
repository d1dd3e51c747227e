"""SECURITY.md and THREAT_MODEL.md: what they name is there, and every proof they claim is the name of a test."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from collab.settings import describe

ROOT = Path(__file__).resolve().parents[2]
TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("SECURITY.md", "THREAT_MODEL.md")}
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in TEXTS["THREAT_MODEL.md"].partition("## Threat, practice, proof, rest")[2].splitlines()
    if line.startswith("| ") and not line.startswith("| threat")
]


def proofs(cell: str) -> list[tuple[str, list[str]]]:
    """Each file of a cell with the ids that follow it."""
    return [(file, ids.split()) for file, ids in re.findall(r"`([^`]+)`([^`]*)", cell)]


@pytest.mark.parametrize("name", TEXTS)
def test_every_file_and_setting_is_there(name: str) -> None:
    text = TEXTS[name]
    files = set(re.findall(r"`((?:[\w-]+/)+(?:[\w.-]+\.\w+)?)`", text)) | set(re.findall(r"\]\(([\w./]+)\)", text))
    assert len(files) > 1
    assert {file for file in files if not (ROOT / file).exists()} == set()
    assert set(re.findall(r"COLLAB_[A-Z_]+", text)) <= {setting.variable for setting in describe()}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_every_threat_has_a_practice_and_a_proof_that_is_a_test(row: list[str]) -> None:
    threat, practice, proof = row[:3]
    assert threat
    assert practice
    claimed = proofs(proof)
    assert claimed, "no proof"
    for file, ids in claimed:
        assert ids, f"{file} proves what?"
        tests = re.findall(r"def (test_\w+)", (ROOT / file).read_text(encoding="utf-8"))
        missing = [each for each in ids if not any(f"_{each.lower()}_" in test for test in tests)]
        assert missing == [], f"{file} has no test of {missing}"


def test_every_rule_that_is_named_is_in_the_specification() -> None:
    rules = set(re.findall(r"^- \*\*([A-Z]\d+)\*\*", (ROOT / "collab" / "SPEC.md").read_text(), re.MULTILINE))
    named = re.findall(r"SPEC ((?:[A-Z]\d+(?:, )?)+)", TEXTS["THREAT_MODEL.md"])
    assert named
    assert {rule for group in named for rule in re.findall(r"[A-Z]\d+", group)} <= rules
