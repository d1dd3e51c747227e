"""The commands on PostgreSQL, with a password that is awkward on purpose."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from collab.cli import app
from tests.support.postgres import PASSWORD, postgres_server, postgres_url

__all__ = ["postgres_server", "postgres_url"]


def run(url: str, *arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, arguments, env={"COLLAB_DATABASE": url, "COLLAB_ENGINE": "inline"})
    assert result.exit_code == code, result.output
    assert PASSWORD not in result.output
    assert "p%40ss" not in result.output
    return result


@pytest.mark.postgres
def test_an_empty_database_is_named_by_doctor_migrated_on_request_and_then_used(
    postgres_url: str, tmp_path: Path
) -> None:
    assert "collab migrate" in run(postgres_url, "doctor", code=1).stdout
    assert "collab migrate" in run(postgres_url, "export", "d", code=1).stderr
    assert "is at schema" in run(postgres_url, "migrate").stderr
    assert "is at schema" in run(postgres_url, "migrate").stderr
    assert "answers; schema" in run(postgres_url, "doctor").stdout
    (tmp_path / "d.md").write_text("# Title", encoding="utf-8")
    run(postgres_url, "import", str(tmp_path / "d.md"))
    assert run(postgres_url, "export", "d", "--format", "text").stdout.strip() == "Title"


@pytest.mark.postgres
def test_a_wrong_password_is_told_without_it(postgres_url: str) -> None:
    wrong = postgres_url.replace("p%40ss", "p%40sx")
    assert wrong != postgres_url
    for command in (["doctor"], ["migrate"], ["export", "d"]):
        result = run(wrong, *command, code=1)
        assert "p%40sx" not in result.output
        assert "p@sx" not in result.output
        assert "Traceback" not in result.output
