"""SECURITY.md, THREAT_MODEL.md and the list of attacks: what they name is there, and proofs they claim are tests."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass
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


TESTS = ROOT / "tests"
ATTACKS = (TESTS / "attacks" / "README.md").read_text(encoding="utf-8")
IN_SECTION = {"2": "test_updates", "3": "test_presence", "5": "test_rest"}
"""Sections of the list of attacks that say where a test is when a row does not."""


@dataclass(frozen=True, slots=True)
class Attack:
    """A row of the list of attacks."""

    section: str
    cells: list[str]

    @property
    def ids(self) -> list[str]:
        """The attacks it is about, in small letters."""
        found: list[str] = []
        for part in self.cells[0].lower().split(", "):
            first, _, last = part.partition(" to ")
            found += (f"{first[0]}{number:02}" for number in range(int(first[1:]), int((last or first)[1:]) + 1))
        return found

    @property
    def home(self) -> Path | None:
        """Where its tests are unless it says otherwise."""
        return self.path_of(IN_SECTION[self.section]) if self.section in IN_SECTION else None

    def claims(self) -> Iterator[tuple[Path, set[str]]]:
        """Each file it names, and what ids follow that."""
        at = self.home
        for piece in re.split(r"(`[^`]+`)", self.cells[2]):
            if re.fullmatch(r"`(?:\w+/)*test_\w+`", piece):
                at = self.path_of(piece.strip("`"))
                yield at, set()
            elif ids := set(re.findall(r"\b[a-uw-z]\d{1,2}\b", "" if piece.startswith("`") else piece)):
                assert at is not None, f"{ids} of which file?"
                yield at, ids

    def path_of(self, name: str) -> Path:
        """Where a file is: in the section's folder unless it has one of its own."""
        folder = "unit/server/auth" if self.section == "4" else "attacks"
        return TESTS / f"{name if '/' in name else f'{folder}/{name}'}.py"


def attacks() -> Iterator[Attack]:
    """Every row of the sections."""
    for section in ATTACKS.split("\n## ")[1:]:
        rows = [line for line in section.splitlines() if line.startswith("|")]
        for line in rows[2:]:
            yield Attack(section.partition(".")[0], [cell.strip() for cell in line.strip("|").split(" | ")])


def proved_in(file: Path) -> set[str]:
    """Ids that the names of a file's tests carry, or of the cases they are run with."""
    text = file.read_text(encoding="utf-8")
    names = re.findall(r"def (test_\w+)", text) + re.findall(r"\"((?:[a-z]\d\d-)+)", text)
    return {found for name in names for found in re.findall(r"(?<![a-z0-9])[a-z]\d{1,2}(?=[_-])", name)}


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
        missing = {each.lower() for each in ids} - proved_in(ROOT / file)
        assert missing == set(), f"{file} has no test of {missing}"


@pytest.mark.parametrize("row", [*attacks()], ids=lambda row: row.cells[0])
def test_every_attack_has_a_proof_that_is_a_test_or_says_why_not(row: Attack) -> None:
    assert len(row.cells) == 3
    assert all(re.fullmatch(r"[a-hk]\d\d", each) for each in row.ids)
    claimed = [*row.claims()]
    for file, ids in claimed:
        assert ids <= proved_in(file), f"{file} has no test of {ids - proved_in(file)}"
    told = "refused" in row.cells[2] or re.search(r"`(ruff|python -m [\w.]+)`", row.cells[2])
    assert claimed or told or (row.home and set(row.ids) <= proved_in(row.home)), "proved by nothing"


def test_every_command_of_the_list_of_attacks_is_there() -> None:
    modules = set(re.findall(r"python -m ([\w.]+)", ATTACKS))
    files = set(re.findall(r"pytest ([\w/.]+)", ATTACKS)) | set(re.findall(r"\(`(\w+\.py)`\)", ATTACKS))
    assert len(modules) > 4
    assert {one for one in modules if importlib.util.find_spec(one) is None} == set()
    assert {one for one in files if not (ROOT / one).exists() and not (TESTS / "attacks" / one).exists()} == set()


def test_every_rule_that_is_named_is_in_the_specification() -> None:
    rules = set(re.findall(r"^- \*\*([A-Z]\d+)\*\*", (ROOT / "collab" / "SPEC.md").read_text(), re.MULTILINE))
    named = re.findall(r"SPEC ((?:[A-Z]\d+(?:, )?)+)", TEXTS["THREAT_MODEL.md"])
    assert named
    assert {rule for group in named for rule in re.findall(r"[A-Z]\d+", group)} <= rules
