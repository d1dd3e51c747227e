"""What `python -m tests.attacks.audit` makes of the answers of its tools (K04); the default run has no network."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.attacks import audit


def answering(text: str) -> audit.Run:
    def run(*command: Any, **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, stdout=text, stderr="")

    return run


def package(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "version": "1", **more}


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "shutil", SimpleNamespace(which=lambda *_, **__: "pip-audit"))
    monkeypatch.setattr(audit, "bin_folder", lambda: Path("node"))


def test_k04_a_known_hole_is_a_failure() -> None:
    known = {"dependencies": [package("a", vulns=[{"id": "CVE-1"}]), package("b", vulns=[])]}
    report = audit.python_packages(answering(json.dumps(known)))
    assert report.holes == ("a 1: CVE-1",)
    assert audit.outcome([report]) == 1
    found = audit.node_packages("clients/web", answering('{"vulnerabilities":{"x":{"severity":"high"}}}'))
    assert audit.outcome([found]) == 1


@pytest.mark.parametrize("text", ["", "nonsense", "{}", '{"message":"405","error":{}}', "null", "[]"])
def test_k04_no_answer_is_said_and_is_no_failure(text: str) -> None:
    reports = [audit.python_packages(answering(text)), audit.node_packages("clients/web", answering(text))]
    assert all(report.not_asked for report in reports)
    assert audit.outcome(reports) == 0


def test_k04_an_index_that_knows_no_package_has_not_answered() -> None:
    unknown = {"dependencies": [package("a", skip_reason="not found"), package("b", skip_reason="not found")]}
    assert "0 of 2" in audit.python_packages(answering(json.dumps(unknown))).not_asked


def test_k04_nothing_known_is_a_success() -> None:
    known = {"dependencies": [package("a", vulns=[])]}
    assert audit.outcome([audit.python_packages(answering(json.dumps(known)))]) == 0
    assert str(audit.node_packages("clients/web", answering('{"vulnerabilities":{}}'))) == "clients/web: 0 known"
