"""docker-compose.yml: what it names exists, what it sets is a setting, and nothing is open that need not be.

No Docker engine takes part: the file is read as Compose would read it, with only the variables given it asks for.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from collab.node.hub import GOODBYE_TIMEOUT
from collab.settings import ENV_PREFIX, Settings, describe

ROOT = Path(__file__).resolve().parents[3]
UVICORN_GRACE_S = 5
"""`timeout_graceful_shutdown` in collab/server/run.py."""


GIVEN = {name: f"{name}-0123456789abcdef" for name in ("POSTGRES_PASSWORD", "COLLAB_JWT_SECRET", "COLLAB_BUS_SECRET")}
"""What an operator must give."""


def interpolated(value: Any) -> Any:
    """``value`` with what is given, else the default of every variable, as Compose does it: after YAML was read."""
    if isinstance(value, dict):
        return {key: interpolated(member) for key, member in value.items()}
    if isinstance(value, list):
        return [interpolated(member) for member in value]
    if not isinstance(value, str):
        return value
    asked = re.sub(r"\$\{(\w+):\?[^}]*\}", lambda found: GIVEN[found[1]], value)
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", asked)


COMPOSE = interpolated(yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8")))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
NODES = sorted(name for name, service in SERVICES.items() if "build" in service and "command" not in service)


def environment(name: str) -> dict[str, str]:
    return dict(SERVICES[name].get("environment", {}))


def meet(one: str, other: str) -> bool:
    return bool(set(SERVICES[one]["networks"]) & set(SERVICES[other]["networks"]))


def test_there_are_two_nodes_and_they_are_alike() -> None:
    assert NODES == ["collab1", "collab2"]
    assert SERVICES["collab1"] == SERVICES["collab2"]


@pytest.mark.parametrize("service", [*NODES, "migrate"])
def test_every_variable_is_a_setting_and_together_they_may_be_served(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {setting.variable for setting in describe()}
    for variable in settings:
        monkeypatch.delenv(variable, raising=False)
    for variable, value in environment(service).items():
        assert isinstance(value, str), f"{variable} is not a text: {value!r}"
        assert variable in settings or not variable.startswith(ENV_PREFIX)
        monkeypatch.setenv(variable, value)
    settings = Settings(host="0.0.0.0")
    assert settings.environment == "production"
    assert settings.objections() == ()


def test_k01_nothing_secret_has_a_default() -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    asked = re.findall(r"\$\{(\w+)(:[-?])", text)
    assert {name for name, how in asked if how == ":?"} == set(GIVEN)
    assert {name for name, how in asked if how != ":?"} == {"COLLAB_PUBLIC_URL"}


@pytest.mark.parametrize("service", SERVICES)
def test_what_a_service_waits_for_can_come_true(service: str) -> None:
    for other, how in SERVICES[service].get("depends_on", {}).items():
        awaited = SERVICES[other]
        if how["condition"] == "service_completed_successfully":
            assert awaited["restart"] == "no"
        else:
            assert how["condition"] == "service_healthy"
            assert "test" in awaited.get("healthcheck", {}) or other in NODES  # theirs is in the image


def test_nodes_start_on_a_schema_that_one_service_has_made() -> None:
    assert SERVICES["migrate"]["command"] == ["collab", "migrate"]
    assert SERVICES["migrate"]["depends_on"]["postgres"]["condition"] == "service_healthy"
    for node in NODES:
        assert SERVICES[node]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
        assert "COLLAB_MIGRATE" not in environment(node)


@pytest.mark.parametrize("service", SERVICES)
def test_every_network_volume_and_file_is_there(service: str) -> None:
    assert set(SERVICES[service]["networks"]) <= set(COMPOSE["networks"])
    for mount in SERVICES[service].get("volumes", ()):
        source, _, rest = mount.partition(":")
        if source.startswith("."):
            assert (ROOT / source).exists(), source
            assert rest.endswith(":ro"), f"{source} could be changed from inside"
        else:
            assert source in COMPOSE["volumes"]


def test_every_volume_is_used() -> None:
    mounted = {mount.partition(":")[0] for service in SERVICES.values() for mount in service.get("volumes", ())}
    assert set(COMPOSE["volumes"]) <= mounted


@pytest.mark.parametrize("service", [*NODES, "migrate"])
def test_a_node_can_reach_what_it_is_told_to_use(service: str) -> None:
    given = environment(service)
    hosts = [urlsplit(given[variable]).hostname for variable in ("COLLAB_DATABASE", "COLLAB_REDIS")]
    assert hosts == ["postgres", "redis"]
    assert all(host is not None and meet(service, host) for host in hosts)


def test_the_database_is_opened_with_the_password_it_was_made_with() -> None:
    made = environment("postgres")
    url = urlsplit(environment("collab1")["COLLAB_DATABASE"])
    wanted = (made["POSTGRES_USER"], made["POSTGRES_PASSWORD"], f"/{made['POSTGRES_DB']}")
    assert (url.username, url.password, url.path) == wanted


def test_nginx_and_prometheus_know_every_node() -> None:
    nodes = [f"{node}:8000" for node in NODES]
    for group in ("sockets", "requests"):
        listed = (ROOT / "deploy" / "nginx" / f"{group}.conf").read_text()
        assert re.findall(r"^server (\S+)", listed, re.MULTILINE) == nodes
    scraped = yaml.safe_load((ROOT / "deploy" / "prometheus.yml").read_text())
    port = environment("collab1")["COLLAB_METRICS_PORT"]
    assert scraped["scrape_configs"][0]["static_configs"][0]["targets"] == [f"{node}:{port}" for node in NODES]
    assert port not in (ROOT / "deploy" / "nginx.conf").read_text()
    assert all(meet(watcher, node) for watcher in ("nginx", "prometheus") for node in NODES)


def test_only_nginx_and_the_dashboard_are_published_and_only_to_this_machine() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert sorted(published) == ["grafana", "nginx"]
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_nobody_but_nodes_reaches_the_database_and_redis() -> None:
    assert COMPOSE["networks"]["data"]["internal"] is True
    for inside in ("postgres", "redis"):
        assert SERVICES[inside]["networks"] == ["data"]
    assert sorted(name for name in SERVICES if "data" in SERVICES[name]["networks"]) == sorted(
        [*NODES, "migrate", "postgres", "redis"]
    )


@pytest.mark.parametrize("node", NODES)
def test_n7_a_node_is_given_longer_than_it_may_take_to_leave(node: str) -> None:
    grace = SERVICES[node]["stop_grace_period"]
    assert grace.endswith("s")
    drain_s = float(environment(node).get("COLLAB_DRAIN_TIMEOUT_S", Settings.model_fields["drain_timeout_s"].default))
    assert float(grace.removesuffix("s")) > drain_s + GOODBYE_TIMEOUT + UVICORN_GRACE_S


@pytest.mark.parametrize("service", [*NODES, "migrate", "nginx", "redis"])
def test_what_faces_people_can_write_nowhere_and_may_do_nothing(service: str) -> None:
    given = SERVICES[service]
    assert given["read_only"] is True
    assert given["cap_drop"] == ["ALL"]
    assert given["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("service", SERVICES)
def test_every_image_names_its_version(service: str) -> None:
    given = SERVICES[service]
    assert "build" in given or re.fullmatch(r"[a-z/]+:v?\d[\w.-]*", given["image"])
