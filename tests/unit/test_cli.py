"""The command line: what each command does, and that every mistake is told in one sentence."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from pycrdt import Doc, Text
from typer.testing import CliRunner, Result

from collab import __version__
from collab.cli import app, doctor
from collab.settings import Settings, describe
from collab.store import open_store
from collab.store.port import LogEntry
from tests.support.redis import RedisServer, redis_server
from tests.unit.server.auth.signing import PRIVATE, pem, private_pem

__all__ = ["redis_server"]

SECRET = "k3Zp0s9QwX7vB2nM5cR8tY1uI4oL6aD_"
SECRETS = {"jwt_secret", "jwt_secret_old", "bus_secret"}
LISTED: dict[str, Any] = {
    "name": "d",
    "file": "00000001.update",
    "title": None,
    "meta": {},
    "sha256": "",
    "waiting": [],
}
Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in an empty folder with an SQLite database of its own and the inline engine."""
    for variable in [name for name in os.environ if name.startswith("COLLAB_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("COLLAB_DATABASE", f"sqlite:///{tmp_path}/test.db")
    monkeypatch.setenv("COLLAB_ENGINE", "inline")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, code: int = 0, **environment: str) -> Result:
        result = CliRunner().invoke(app, list(arguments), env=environment, catch_exceptions=False)
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.output
        return result

    return run


class TestServe:
    @pytest.fixture
    def served(self, monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
        served: list[Settings] = []

        def serve(settings: Settings) -> bool:
            served.append(settings)
            return True

        monkeypatch.setattr("collab.server.run.serve", serve)
        return served

    def test_it_says_where_the_editor_is_and_what_it_uses(self, run: Run, served: list[Settings]) -> None:
        said = run("serve", "--port", "9000", COLLAB_DATABASE="postgresql://u:hunter2@db/x").stderr
        assert "http://127.0.0.1:9000/" in said
        assert "postgresql://u@db/x" in said
        assert "open: this machine may" in said
        assert "hunter2" not in said
        assert "this node has no others" in said
        assert served[0].port == 9000

    def test_it_says_over_which_redis_nodes_talk(self, run: Run, served: list[Settings]) -> None:
        url = "redis://:hunter2@cache/0"
        said = run("serve", "--redis", url, COLLAB_DATABASE="postgresql://u@db/x").stderr
        assert "Bus       redis://@cache/0" in said
        assert "hunter2" not in said
        assert served[0].redis is not None
        assert served[0].redis.get_secret_value() == url

    @pytest.mark.parametrize("setting", [s for s in describe() if s.name not in SECRETS], ids=lambda s: s.name)
    def test_every_setting_is_an_option_and_a_variable(self, run: Run, served: list[Settings], setting: Any) -> None:
        option = f"--{setting.name.replace('_', '-')}"
        shown = run("serve", "--help", COLUMNS="500").output
        assert option in shown
        assert setting.variable in shown
        if setting.kind == "bool":
            flipped = f"--no-{option[2:]}" if setting.default == "true" else option
            run("serve", flipped)
            assert str(getattr(served[0], setting.name)).lower() != setting.default
        elif setting.default:
            run("serve", option, setting.default)
            run("serve", **{setting.variable: setting.default})
            assert len(served) == 2
            assert served[0] == served[1]

    def test_secrets_have_no_option(self, run: Run) -> None:
        shown = run("serve", "--help", COLUMNS="500").output
        assert [secret for secret in SECRETS if f"--{secret.replace('_', '-')}" in shown] == []

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["--host", "0.0.0.0"], "COLLAB_AUTH=jwt"),
            (["--auth", "jwt"], "COLLAB_JWT_SECRET"),
            (["--drain-spread-s", "30"], "COLLAB_DRAIN_TIMEOUT_S"),
            (["--port", "x"], "COLLAB_PORT"),
            (["--environment", "production"], "COLLAB_PUBLIC_URL"),
            (["--auth", "none"], "COLLAB_AUTH"),
            (["--database", "mysql://u:hunter2@h/x"], "COLLAB_DATABASE"),
            (["--nonsense"], "nonsense"),
        ],
    )
    def test_a_wrong_command_line_starts_nothing_and_is_told_in_a_sentence(
        self, run: Run, served: list[Settings], arguments: list[str], words: str
    ) -> None:
        result = run("serve", *arguments, code=2)
        assert words in result.stderr
        assert "hunter2" not in result.output
        assert served == []

    def test_what_could_not_be_saved_ends_with_failure(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("collab.server.run.serve", lambda _: False)
        assert "collab: Stopped before" in run("serve", code=1).stderr

    def test_a_fault_of_our_own_shows_no_traceback(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        def serve(_: Settings) -> bool:
            raise ZeroDivisionError

        monkeypatch.setattr("collab.server.run.serve", serve)
        assert "a fault of collab itself: ZeroDivisionError" in run("serve", code=1).stderr


class TestTransfer:
    def fill(self, run: Run, tmp_path: Path, count: int = 3) -> None:
        for number in range(count):
            source = tmp_path / f"acme:{number}.md"
            source.write_text(f"# Title {number}\n\nText *{number}*.", encoding="utf-8")
            run("import", str(source))

    def test_migrate_makes_the_schema_and_may_be_repeated(self, run: Run, tmp_path: Path) -> None:
        assert "is at schema" in run("migrate").stderr
        assert "is at schema" in run("migrate").stderr
        with sqlite3.connect(tmp_path / "test.db") as database:
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
        database.close()
        assert {"documents", "updates"} <= tables

    def test_a_file_becomes_a_document_and_comes_back_in_every_format(self, run: Run, tmp_path: Path) -> None:
        self.fill(run, tmp_path, 1)
        assert "# Title 0" in run("export", "acme:0", "--format", "markdown").stdout
        assert "<h1>Title 0</h1>" in run("export", "acme:0", "--format", "html").stdout
        assert json.loads(run("export", "acme:0", "--format", "json").stdout)["type"] == "doc"
        run("export", "acme:0", "-o", "out.yjs")
        run("import", "out.yjs", "--as", "copy")
        assert (
            run("export", "copy", "--format", "markdown").stdout
            == run("export", "acme:0", "--format", "markdown").stdout
        )

    def test_everything_exported_can_be_imported_elsewhere(self, run: Run, tmp_path: Path) -> None:
        self.fill(run, tmp_path, 3)
        assert "3 documents in" in run("export", "--all", "out").stderr
        elsewhere = {"COLLAB_DATABASE": f"sqlite:///{tmp_path}/other.db"}
        assert "3 documents created" in run("import", "out", **elsewhere).stderr
        for number in range(3):
            here = run("export", f"acme:{number}", "--format", "html").stdout
            assert run("export", f"acme:{number}", "--format", "html", **elsewhere).stdout == here

    def test_nothing_is_overwritten(self, run: Run, tmp_path: Path) -> None:
        self.fill(run, tmp_path, 2)
        run("export", "--all", "out")
        (tmp_path / "new.md").write_text("new", encoding="utf-8")
        manifest = json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))
        manifest["documents"][0]["name"] = "aaa"
        (tmp_path / "out" / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
        assert "Nothing was imported, since acme:1 exist" in run("import", "out", code=1).stderr
        assert "no document named aaa" in run("export", "aaa", code=1).stderr
        assert "1 documents created, 1 were there already" in run("import", "out", "--skip-existing").stderr
        assert "Title 0" in run("export", "aaa", "--format", "text").stdout

    def test_l2_an_update_that_waits_for_another_survives_the_move(self, run: Run, tmp_path: Path) -> None:
        writer: Doc[Text] = Doc()
        text = writer.get("t", type=Text)
        updates: list[bytes] = []
        subscription = writer.observe(lambda event: updates.append(event.update))
        text += "early, "
        text += "late"
        writer.unobserve(subscription)
        here, there = f"sqlite:///{tmp_path}/test.db", f"sqlite:///{tmp_path}/other.db"

        async def add(url: str, number: int, update: bytes) -> None:
            store = await open_store(url)
            await store.log.append([LogEntry("d", update, "n", number)])
            await store.close()

        asyncio.run(add(here, 1, updates[1]))
        run("export", "--all", "out")
        run("import", "out", COLLAB_DATABASE=there)
        asyncio.run(add(there, 2, updates[0]))
        shown = run("export", "d", "--format", "text", "--root", "t", COLLAB_DATABASE=there).stdout
        assert shown.strip() == "early, late"

    def test_a_changed_file_is_noticed(self, run: Run, tmp_path: Path) -> None:
        self.fill(run, tmp_path, 1)
        run("export", "--all", "out")
        (tmp_path / "out" / "00000001.update").write_bytes(b"\x00\x00")
        elsewhere = {"COLLAB_DATABASE": f"sqlite:///{tmp_path}/other.db"}
        assert "checksum differs" in run("import", "out", code=1, **elsewhere).stderr

    @pytest.mark.parametrize(
        "manifest",
        [
            "no json",
            "[]",
            '{"collab_export": 2, "documents": []}',
            '{"collab_export": 1, "documents": [{"name": "d"}]}',
            json.dumps({"collab_export": 1, "documents": [{**LISTED, "file": "../../etc/passwd"}]}),
            json.dumps({"collab_export": 1, "documents": [{**LISTED, "name": "../d"}]}),
            json.dumps({"collab_export": 1, "documents": [{**LISTED, "waiting": [{**LISTED, "file": "/etc/passwd"}]}]}),
        ],
    )
    def test_a_manifest_that_is_none_of_ours_imports_nothing(self, run: Run, tmp_path: Path, manifest: str) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "manifest.json").write_text(manifest, encoding="utf-8")
        result = CliRunner().invoke(app, ["import", "out"])
        assert result.exit_code in {1, 2}
        assert result.stderr.startswith("collab: ")
        assert result.stderr.count("\n") == 1

    def test_an_export_that_did_not_end_has_no_manifest(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        assert "no manifest.json" in run("import", "out", code=1).stderr

    def test_an_export_does_not_mix_with_other_files(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "mine.txt").write_text("x", encoding="utf-8")
        assert "not empty" in run("export", "--all", "out", code=2).stderr

    @pytest.mark.parametrize(
        ("arguments", "code", "words"),
        [
            (["export"], 2, "Name one document"),
            (["export", "d", "--all", "out"], 2, "Name one document"),
            (["export", "never"], 1, "no document named never"),
            (["export", "../x"], 2, "document name"),
            (["import", "nowhere"], 2, "nowhere"),
            (["import", "data.bin"], 2, "--format"),
            (["import", "data.bin", "--format", "update"], 1, "collab: "),
            (["export", "d", "--database", "sqlite:////nowhere/at/all.db"], 1, "collab: "),
            (["migrate", "--database", "sqlite:////nowhere/at/all.db"], 1, "collab: "),
        ],
    )
    def test_mistakes_are_told_in_a_sentence(
        self, run: Run, tmp_path: Path, arguments: list[str], code: int, words: str
    ) -> None:
        (tmp_path / "data.bin").write_bytes(b"\xff\xff\xff")
        assert words in run(*arguments, code=code).stderr


class TestToken:
    def claims(self, result: Result) -> dict[str, Any]:
        claims: dict[str, Any] = jwt.decode(result.stdout.strip(), SECRET, ["HS256"], options={"verify_aud": False})
        return claims

    def test_a_token_says_who_and_what_and_until_when(self, run: Run) -> None:
        given = ["--name", "Ann", "--color", "#aabbcc", "--document", "acme:*=write", "--document", "b=read"]
        claims = self.claims(run("token", "ann", *given, "--minutes", "5", COLLAB_JWT_SECRET=SECRET))
        assert claims["exp"] - claims["iat"] == 300
        assert (claims["sub"], claims["name"], claims["color"]) == ("ann", "Ann", "#aabbcc")
        assert claims["documents"] == {"acme:*": "write", "b": "read"}
        assert "access" not in claims

    def test_alone_it_may_write_everything_and_fits_what_is_configured(self, run: Run) -> None:
        environment = {"COLLAB_JWT_SECRET": SECRET, "COLLAB_JWT_AUDIENCE": "collab", "COLLAB_JWT_ISSUER": "us"}
        claims = self.claims(run("token", "ann", **environment))
        assert (claims["access"], claims["aud"], claims["iss"]) == ("write", "collab", "us")

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["--access", "owner"], "none of read, comment, write, admin"),
            (["--document", "x"], "PATTERN=ROLE"),
            (["--color", "red"], "color"),
        ],
    )
    def test_a_token_that_would_be_refused_is_not_made(self, run: Run, arguments: list[str], words: str) -> None:
        assert words in run("token", "ann", *arguments, code=2, COLLAB_JWT_SECRET=SECRET).stderr

    def test_without_a_key_there_is_no_token(self, run: Run) -> None:
        assert "COLLAB_JWT_SECRET" in run("token", "ann", code=2).stderr
        assert "32" in run("token", "ann", code=2, COLLAB_JWT_SECRET="short").stderr

    @pytest.mark.parametrize("algorithm", sorted(PRIVATE))
    def test_a_private_key_signs_too(self, run: Run, tmp_path: Path, algorithm: str) -> None:
        file, public = tmp_path / "key.pem", tmp_path / "public.pem"
        file.write_bytes(private_pem(PRIVATE[algorithm]))
        public.write_bytes(pem(PRIVATE["RS256"]) + pem(PRIVATE[algorithm]))
        for environment in ({}, {"COLLAB_JWT_KEYS": str(public)}):
            made = run("token", "ann", "--key", str(file), "--key-id", "k1", **environment).stdout.strip()
            header = jwt.get_unverified_header(made)
            assert (header["alg"], header["kid"]) == (algorithm, "k1")
            assert jwt.decode(made, PRIVATE[algorithm].public_key(), [algorithm])["sub"] == "ann"

    def test_a_key_that_the_server_does_not_have_or_that_is_none_signs_nothing(self, run: Run, tmp_path: Path) -> None:
        file, public = tmp_path / "key.pem", tmp_path / "public.pem"
        file.write_bytes(private_pem(PRIVATE["EdDSA"]))
        public.write_bytes(pem(PRIVATE["RS256"]))
        keys = {"COLLAB_JWT_KEYS": str(public)}
        assert "no key of an algorithm" in run("token", "ann", "--key", str(file), code=2, **keys).stderr
        assert "--key" in run("token", "ann", code=2, **keys).stderr
        assert "private key" in run("token", "ann", "--key", str(public), code=2).stderr
        assert "nowhere" in run("token", "ann", "--key", str(tmp_path / "nowhere"), code=1).stderr

    def test_a_token_for_longer_than_the_server_allows_is_not_made(self, run: Run) -> None:
        environment = {"COLLAB_JWT_SECRET": SECRET, "COLLAB_JWT_MAX_LIFETIME_S": "900"}
        assert "900 s" in run("token", "ann", code=2, **environment).stderr
        assert self.claims(run("token", "ann", "--minutes", "15", **environment))["sub"] == "ann"


class TestDoctor:
    def lines(self, result: Result) -> dict[str, list[str]]:
        lines: dict[str, list[str]] = {}
        for line in result.stdout.splitlines():
            level, subject, sentence = line.split(maxsplit=2)
            assert sentence.endswith("."), line
            lines.setdefault(subject, []).append(f"{level} {sentence}")
        return lines

    def test_a_fresh_machine_is_fine_and_nothing_is_made(self, run: Run, tmp_path: Path) -> None:
        lines = self.lines(run("doctor"))
        assert lines["database"][0].startswith("ok")
        assert lines["engine"] == ["ok The inline engine works."]
        assert list(tmp_path.iterdir()) == []

    def test_a_migrated_database_is_shown_with_its_schema(self, run: Run) -> None:
        run("migrate")
        assert "schema" in self.lines(run("doctor"))["database"][0]

    @pytest.mark.parametrize(
        ("environment", "subject", "words"),
        [
            ({"COLLAB_DATABASE": "sqlite:////nowhere/at/all.db"}, "database", "does not exist"),
            ({"COLLAB_DATABASE": "postgresql://u:hunter2@127.0.0.1:1/x"}, "database", "127.0.0.1"),
            ({"COLLAB_HOST": "0.0.0.0"}, "settings", "COLLAB_AUTH=jwt"),
            ({"COLLAB_AUTH": "jwt"}, "settings", "COLLAB_JWT_SECRET"),
            ({"COLLAB_REDIS": "redis://:hunter2@127.0.0.1:1/0"}, "redis", "127.0.0.1:1/0 carries nothing"),
            ({"COLLAB_REDIS": "redis://:hunter2@127.0.0.1/0?x=y"}, "redis", "options that redis-py knows"),
            ({"COLLAB_REDIS": "redis://127.0.0.1:1"}, "settings", "PostgreSQL"),
        ],
    )
    def test_what_must_be_changed_fails_with_a_sentence(
        self, run: Run, environment: dict[str, str], subject: str, words: str
    ) -> None:
        result = run("doctor", code=1, **environment)
        assert any(line.startswith("bad") and words in line for line in self.lines(result)[subject]), result.output
        assert "hunter2" not in result.output

    def test_a_redis_that_works_is_fine_and_one_that_strangers_may_use_is_a_warning(
        self, run: Run, redis_server: RedisServer
    ) -> None:
        unsigned = self.lines(run("doctor", code=1, COLLAB_REDIS=redis_server.url))["redis"]
        assert [line.partition(" ")[0] for line in unsigned] == ["ok", "warn"]
        assert "ms from node to node" in unsigned[0]
        assert "COLLAB_BUS_SECRET" in unsigned[1]
        signed = {"COLLAB_REDIS": redis_server.url, "COLLAB_BUS_SECRET": SECRET, "COLLAB_REDIS_SHARDED": "true"}
        assert [line.partition(" ")[0] for line in self.lines(run("doctor", code=1, **signed))["redis"]] == ["ok"]

    def test_a_misspelt_variable_is_named(self, run: Run) -> None:
        assert any("COLLAB_DATBASE" in line for line in self.lines(run("doctor", COLLAB_DATBASE="x"))["settings"])

    def test_an_engine_that_does_not_start_is_bad(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        async def start(_: object) -> None:
            raise OSError("no memory")

        monkeypatch.setattr("collab.engine.inline.InlineEngine.start", start)
        assert "bad" in self.lines(run("doctor", code=1))["engine"][0]

    def test_too_few_open_files_are_a_warning_that_says_how_many(self, run: Run) -> None:
        lines = self.lines(run("doctor", COLLAB_MAX_SESSIONS="900000000"))
        assert "900000200" in lines["files"][0]
        assert lines["files"][0].startswith("warn")

    def test_an_old_library_is_bad(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(doctor.OLDEST, "pycrdt", (99, 0, 0))
        assert "99.0.0 or newer" in self.lines(run("doctor", code=1))["pycrdt"][0]


def test_the_version_is_shown(run: Run) -> None:
    assert run("--version").stdout == f"collab {__version__}\n"
