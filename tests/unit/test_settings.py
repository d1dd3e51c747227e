"""Settings: named, described, bounded, secret where they must be, and refused together where they contradict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from collab.settings import Settings, describe, markdown_table, sentences
from collab.settings.objections import objections_when_mounted

README = Path(__file__).resolve().parents[2] / "README.md"
JWKS = {"jwt_jwks_url": "https://id.example/keys", "jwt_audience": "collab", "jwt_issuer": "https://id.example"}
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


@pytest.mark.parametrize("named", ["none", "hs256", "RS512", "PS256", "HS256,none"])
def test_d01_no_other_algorithm_can_be_set(named: str) -> None:
    with pytest.raises(ValidationError):
        Settings(jwt_algorithms=named)  # type: ignore[arg-type]


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
        ({"auth": "jwt", "jwt_secret": f"-----BEGIN PUBLIC KEY-----{'x1y2' * 9}"}, "COLLAB_JWT_KEYS"),
        ({"auth": "jwt", "jwt_secret": SECRET, "jwt_secret_old": "short"}, "COLLAB_JWT_SECRET_OLD has 5"),
        ({"auth": "jwt", "jwt_keys": "k.pem", "jwt_secret_old": SECRET}, "COLLAB_JWT_SECRET is not set"),
        ({"auth": "jwt", "jwt_secret": SECRET, "jwt_keys": "k.pem"}, "COLLAB_JWT_SECRET and COLLAB_JWT_KEYS"),
        ({"auth": "jwt", "jwt_secret": SECRET, **JWKS}, "COLLAB_JWT_SECRET and COLLAB_JWT_JWKS_URL"),
        ({"auth": "jwt", "jwt_keys": "k.pem", "jwt_algorithms": "EdDSA,HS256"}, "HS256"),
        ({"auth": "jwt", **JWKS, "jwt_algorithms": "HS256"}, "HS256"),
        ({"auth": "jwt", "jwt_secret": SECRET, "jwt_algorithms": "HS256 RS256"}, "COLLAB_JWT_ALGORITHMS"),
        ({"auth": "jwt", **JWKS, "jwt_jwks_url": "http://id.example/keys"}, "https"),
        ({"auth": "jwt", **JWKS, "jwt_jwks_url": "http://localhost.id.example/keys"}, "https"),
        ({"auth": "jwt", **JWKS, "jwt_jwks_url": "https://u:hunter2@id.example/keys"}, "https"),
        ({"auth": "jwt", **JWKS, "jwt_audience": None}, "COLLAB_JWT_AUDIENCE"),
        ({"auth": "jwt", **JWKS, "jwt_issuer": None}, "COLLAB_JWT_ISSUER"),
        ({"drain_spread_s": 20}, "COLLAB_DRAIN_SPREAD_S"),
        ({"redis": "redis://cache"}, "PostgreSQL"),
        ({"bus_secret": "15 bytes ......"}, "16"),
        ({"bus_secret": "x" * 16}, "placeholder"),
        ({"max_frame_bytes": 2048}, "COLLAB_MAX_FRAME_BYTES"),
        ({"unsaved_bytes_per_room": 2**40}, "COLLAB_UNSAVED_BYTES"),
        ({"metrics_port": 8000}, "COLLAB_METRICS_PORT"),
    ],
)
def test_k01_what_must_not_be_served_is_refused_with_a_sentence(given: dict[str, Any], word: str) -> None:
    (objection,) = Settings(**given).objections()
    assert word in objection
    assert objection.endswith(".")
    assert "hunter2" not in objection


@pytest.mark.parametrize(
    "given",
    [
        {"host": "0.0.0.0", "allow_open_auth": True},
        {"host": "0.0.0.0", "auth": "jwt", "jwt_secret": SECRET},
        {"host": "0.0.0.0", "auth": "jwt", "jwt_secret": SECRET, "jwt_secret_old": SECRET, "jwt_algorithms": "HS256"},
        {"host": "0.0.0.0", "auth": "jwt", "jwt_keys": "k.pem", "jwt_algorithms": "EdDSA, ES256"},
        {"host": "0.0.0.0", "auth": "jwt", **JWKS},
        {"host": "0.0.0.0", "auth": "jwt", **JWKS, "jwt_jwks_url": "http://127.0.0.1:9000/keys"},
        {"host": "0.0.0.0", "auth": "jwt", **JWKS, "jwt_jwks_url": "http://[::1]/keys"},
        {"host": "::1"},
        {"host": "127.9.9.9"},
        {"host": "localhost"},
        {"redis": "redis://cache", "database": "postgresql://u:p@db/x"},
        {"redis": "redis://cache", "database": "postgresql://db/x", "bus_secret": "16 bytes ......."},
    ],
)
def test_what_is_safe_enough_may_be_served(given: dict[str, Any]) -> None:
    assert Settings(**given).objections() == ()


PRODUCTION: dict[str, Any] = {
    "environment": "production",
    "host": "0.0.0.0",
    "auth": "jwt",
    "jwt_secret": SECRET,
    "public_url": "https://docs.example.com",
    "metrics_port": 9464,
    "database": "postgresql://collab:Zk2wq8Lr@db/collab",
    "redis": "redis://cache",
    "bus_secret": "another secret of 30 bytes ...",
}


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"public_url": "http://localhost:8000"},
        {"redis": None, "bus_secret": None},
        {"metrics_port": None, "metrics": False},
        {"allowed_origins": "https://app.example.com"},
    ],
)
def test_k01_a_production_server_with_everything_set_may_be_served(given: dict[str, Any]) -> None:
    assert Settings(**PRODUCTION | given).objections() == ()


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"auth": "open"}, "COLLAB_AUTH=jwt"),
        ({"auth": "open", "host": "127.0.0.1", "allow_open_auth": True}, "COLLAB_AUTH=jwt"),
        ({"public_url": None}, "COLLAB_PUBLIC_URL"),
        ({"public_url": "http://docs.example.com"}, "https"),
        ({"public_url": "http://localhost.evil.example"}, "https"),
        ({"allowed_origins": "*"}, "COLLAB_ALLOWED_ORIGINS"),
        ({"engine": "inline"}, "COLLAB_ENGINE"),
        ({"bus_secret": None}, "COLLAB_BUS_SECRET"),
        ({"metrics_port": None}, "COLLAB_METRICS_PORT"),
        ({"metrics_port": None, "host": "127.0.0.1"}, "COLLAB_METRICS_PORT"),
        ({"jwt_secret": "change-me-change-me-change-me-1234567"}, "COLLAB_JWT_SECRET"),
        ({"jwt_secret": "My-Super-Secret-of-many-bytes-123456"}, "placeholder"),
        ({"bus_secret": "PLACEHOLDER-1234567890"}, "COLLAB_BUS_SECRET"),
        ({"database": "postgresql://collab:collab@db/collab"}, "COLLAB_DATABASE"),
        ({"database": "postgresql://collab:changeme99@db/collab"}, "COLLAB_DATABASE"),
        ({"redis": "redis://:password@cache"}, "COLLAB_REDIS"),
    ],
)
def test_k01_a20_production_refuses_what_is_open_default_or_plain(given: dict[str, Any], word: str) -> None:
    (objection,) = Settings(**PRODUCTION | given).objections()
    assert word in objection
    assert objection.endswith(".")


def test_k01_every_objection_is_told_at_once() -> None:
    settings = Settings(environment="production", engine="inline", allowed_origins=("*",), host="0.0.0.0")
    assert len(settings.objections()) == 5


MOUNTED: dict[str, Any] = {
    "environment": "production",
    "allowed_hosts": "docs.example.com",
    "metrics": False,
    "database": "postgresql://collab:Zk2wq8Lr@db/collab",
}


def mounted(given: dict[str, Any], *, own_access: bool = True, own_store: bool = False) -> tuple[str, ...]:
    settings = Settings(**MOUNTED | given)
    inline = settings.engine == "inline"
    return objections_when_mounted(settings, own_access=own_access, own_store=own_store, inline=inline)


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"engine": "inline"}, "COLLAB_ENGINE"),
        ({"redis": "redis://cache"}, "COLLAB_BUS_SECRET"),
        ({"redis": "redis://cache", "bus_secret": "15 bytes ......"}, "16"),
        ({"redis": "redis://cache", "bus_secret": SECRET, "database": "sqlite:///collab.db"}, "PostgreSQL"),
        ({"database": "postgresql://collab:collab@db/collab"}, "COLLAB_DATABASE"),
        ({"allowed_origins": "*"}, "COLLAB_ALLOWED_ORIGINS"),
        ({"allowed_hosts": ""}, "COLLAB_ALLOWED_HOSTS"),
        ({"metrics": True}, "COLLAB_METRICS"),
        ({"drain_spread_s": 20}, "COLLAB_DRAIN_SPREAD_S"),
        ({"unsaved_bytes_per_room": 2**40}, "COLLAB_UNSAVED_BYTES"),
    ],
)
def test_k01_what_must_not_be_mounted_in_production_is_refused_with_a_sentence(
    given: dict[str, Any], word: str
) -> None:
    (objection,) = mounted(given)
    assert word in objection
    assert objection.endswith(".")
    assert mounted(given | {"environment": "development"}) == ()


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"auth": "jwt"},
        {"auth": "jwt", "jwt_secret": "changeme"},
        {"host": "0.0.0.0", "metrics_port": 8000, "max_frame_bytes": 2048},
        {"allowed_hosts": "", "public_url": "http://docs.example.com"},
        {"metrics": True, "metrics_port": 9464},
        {"redis": "redis://cache", "bus_secret": SECRET},
    ],
)
def test_k01_what_the_application_itself_decides_is_not_objected_to(given: dict[str, Any]) -> None:
    assert mounted(given) == ()


def test_k01_what_is_mounted_without_its_own_users_needs_tokens_and_keys() -> None:
    (open_,) = mounted({}, own_access=False)
    assert "COLLAB_AUTH=jwt" in open_
    (keyless,) = mounted({"auth": "jwt"}, own_access=False)
    assert "COLLAB_JWT_SECRET" in keyless
    assert mounted({"auth": "jwt", "jwt_secret": SECRET}, own_access=False) == ()


def test_k01_a_store_of_the_applications_own_is_its_own_business() -> None:
    default = {"redis": "redis://cache", "bus_secret": SECRET, "database": "postgresql://collab:collab@db/collab"}
    assert len(mounted(default)) == 1
    assert mounted(default, own_store=True) == mounted({"redis": None, "database": "sqlite:///c.db"}) == ()


@pytest.mark.parametrize(
    "given", [{}, {"public_url": "http://localhost:8000"}, {"metrics_port": None, "metrics": False}]
)
def test_k01_what_may_be_served_is_not_objected_to_again(given: dict[str, Any]) -> None:
    assert Settings(**PRODUCTION | given).objections() == ()
    assert mounted(PRODUCTION | given, own_access=False) == ()


@pytest.mark.parametrize("host", ["docs.example.com:443", "http://docs.example.com", "a b", "*", "a/b", ""])
def test_a04_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(ValidationError):
        Settings(allowed_hosts=(host,))


def test_a04_hosts_are_known_in_production_and_where_they_are_named() -> None:
    assert Settings().known_hosts is None
    assert Settings(allowed_hosts="A.example, [::1]").known_hosts == {  # type: ignore[arg-type]
        *("localhost", "127.0.0.1", "[::1]", "a.example")
    }
    known = Settings(**PRODUCTION | {"public_url": "https://Docs.example.com:8443/", "host": "::"}).known_hosts
    assert known == {"localhost", "127.0.0.1", "[::1]", "[::]", "docs.example.com"}


@pytest.mark.parametrize(
    ("given", "trusted"),
    [
        (None, ("127.0.0.1", "::1")),
        ("10.0.0.0/8, 192.0.2.7,2001:db8::/32", ("10.0.0.0/8", "192.0.2.7", "2001:db8::/32")),
        ("none", ()),
        ("*", ("*",)),
    ],
)
def test_a19_trusted_proxies_are_addresses_and_networks(
    monkeypatch: pytest.MonkeyPatch, given: str | None, trusted: tuple[str, ...]
) -> None:
    if given is not None:
        monkeypatch.setenv("COLLAB_TRUSTED_PROXIES", given)
    assert Settings().trusted_proxies == trusted


@pytest.mark.parametrize("given", ["proxy.example", "10.0.0.1/8", "*,10.0.0.1", "none,10.0.0.1", "10.0.0.256"])
def test_a19_what_would_trust_nobody_or_somebody_else_is_refused(given: str) -> None:
    with pytest.raises(ValidationError):
        Settings(trusted_proxies=given)  # type: ignore[arg-type]
