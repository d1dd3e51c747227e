"""Settings: named, described, bounded, secret where they must be, and refused together where they contradict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from collab.settings import Settings, describe, markdown_table, sentences

README = Path(__file__).resolve().parents[2] / "README.md"
SECRET = SecretStr("k3Zp0s9QwX7vB2nM5cR8tY1uI4oL6aD_")


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in describe():
        monkeypatch.delenv(setting.variable, raising=False)


@pytest.mark.parametrize("setting", describe(), ids=lambda setting: setting.name)
def test_every_setting_is_described(setting: Any) -> None:
    assert setting.description.endswith((".", "*: any."))
    assert setting.variable == f"COLLAB_{setting.name.upper()}"


def test_every_setting_stands_in_the_readme_as_it_is() -> None:
    written = set(README.read_text(encoding="utf-8").splitlines())
    assert [row for row in markdown_table().splitlines() if row not in written] == []


MEASURED = [name for name in Settings.model_fields if name.rsplit("_", 1)[-1] in {"s", "mib", "bytes"}]


@pytest.mark.parametrize("field", MEASURED)
def test_sizes_and_times_are_numbers_above_a_least_one(field: str) -> None:
    with pytest.raises(ValidationError):
        Settings(**{field: -1})  # type: ignore[arg-type]


def test_the_defaults_may_be_served() -> None:
    assert Settings().objections() == ()


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Settings().port = 1


def test_the_environment_sets_and_arguments_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLLAB_PORT", "1234")
    monkeypatch.setenv("COLLAB_HOST", "::1")
    monkeypatch.setenv("COLLAB_MIGRATE", "true")
    monkeypatch.setenv("COLLAB_LOG_LEVEL", "")
    settings = Settings(host="127.0.0.2")
    assert (settings.port, settings.host, settings.migrate, settings.log_level) == (1234, "127.0.0.2", True, "info")


def test_a_setting_that_is_none_of_ours_is_refused() -> None:
    with pytest.raises(ValidationError):
        Settings(prot=1)  # type: ignore[call-arg]


def test_k05_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(database=SecretStr("postgresql://u:hunter2@db/x?password=hunter2"), jwt_secret=SECRET)
    for text in (repr(settings), str(settings), settings.model_dump_json(), settings.database_shown):
        assert "hunter2" not in text
        assert SECRET.get_secret_value() not in text
    settings = Settings(redis=SecretStr("redis://:hunter2@cache/0?password=hunter2"), bus_secret=SecretStr("hunter2"))
    for text in (repr(settings), settings.model_dump_json(), str(settings.redis_shown), *settings.objections()):
        assert "hunter2" not in text
    monkeypatch.setenv("COLLAB_DATABASE", "mysql://u:hunter2@db/x")
    monkeypatch.setenv("COLLAB_REDIS", "http://u:hunter2@cache")
    with pytest.raises(ValidationError) as caught:
        Settings()
    assert {problem["loc"] for problem in caught.value.errors()} == {("database",), ("redis",)}
    for text in (str(caught.value), *sentences(caught.value)):
        assert "hunter2" not in text


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:///collab.db", "sqlite:///collab.db"),
        ("sqlite:////var/lib/collab.db", "sqlite:////var/lib/collab.db"),
        ("postgresql://u:p@db:5432/x", "postgresql://u@db:5432/x"),
        ("postgres://db/x", "postgres://db/x"),
    ],
)
def test_a_database_is_shown_by_place_and_user(url: str, shown: str) -> None:
    assert Settings(database=SecretStr(url)).database_shown == shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://cache:6379/0", "redis://cache:6379/0"),
        ("rediss://:p@cache", "rediss://@cache"),
        ("redis://u:p@cache/1?ssl_ca_certs=x", "redis://u@cache/1"),
        ("unix:///run/redis.sock?password=p", "unix:///run/redis.sock"),
    ],
)
def test_a_redis_is_shown_by_place_and_user(url: str, shown: str) -> None:
    assert Settings(redis=SecretStr(url)).redis_shown == shown
    assert Settings().redis_shown is None


@pytest.mark.parametrize("given", [{"redis": "cache:6379"}, {"redis": "redis://"}, {"redis_prefix": "a b"}])
def test_what_is_no_redis_and_no_prefix_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Settings(**given)


def test_origins_are_read_from_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLLAB_ALLOWED_ORIGINS", "https://A.example, http://b.example:8080")
    assert Settings().allowed_origins == ("https://a.example", "http://b.example:8080")


@pytest.mark.parametrize(
    "origin", ["a.example", "https://a.example/", "https://*.a.example/x", "ftp://a", "https://u@a"]
)
def test_what_is_no_origin_is_refused(origin: str) -> None:
    with pytest.raises(ValidationError):
        Settings(allowed_origins=(origin,))


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"host": "0.0.0.0"}, "COLLAB_AUTH=jwt"),
        ({"host": "docs.example"}, "COLLAB_ALLOW_OPEN_AUTH"),
        ({"auth": "jwt"}, "COLLAB_JWT_SECRET"),
        ({"auth": "jwt", "jwt_secret": "short"}, "32"),
        ({"auth": "jwt", "jwt_secret": "x" * 40}, "placeholder"),
        ({"drain_spread_s": 20}, "COLLAB_DRAIN_SPREAD_S"),
        ({"redis": "redis://cache"}, "PostgreSQL"),
        ({"bus_secret": "15 bytes ......"}, "16"),
        ({"bus_secret": "x" * 16}, "placeholder"),
        ({"max_frame_bytes": 2048}, "COLLAB_MAX_FRAME_BYTES"),
        ({"unsaved_bytes_per_room": 2**40}, "COLLAB_UNSAVED_BYTES"),
    ],
)
def test_k01_what_must_not_be_served_is_refused_with_a_sentence(given: dict[str, Any], word: str) -> None:
    (objection,) = Settings(**given).objections()
    assert word in objection
    assert objection.endswith(".")


@pytest.mark.parametrize(
    "given",
    [
        {"host": "0.0.0.0", "allow_open_auth": True},
        {"host": "0.0.0.0", "auth": "jwt", "jwt_secret": SECRET},
        {"host": "::1"},
        {"host": "127.9.9.9"},
        {"host": "localhost"},
        {"redis": "redis://cache", "database": "postgresql://u:p@db/x"},
        {"redis": "redis://cache", "database": "postgresql://db/x", "bus_secret": "16 bytes ......."},
    ],
)
def test_what_is_safe_enough_may_be_served(given: dict[str, Any]) -> None:
    assert Settings(**given).objections() == ()
