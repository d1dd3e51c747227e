"""Prometheus and Grafana: their files are sound, alerts fire when they should, every metric they name is a node's."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from collab.node.counters import Counters, Kinds
from collab.server.metrics import Metrics

ROOT = Path(__file__).resolve().parents[3]
DEPLOY = ROOT / "deploy"
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana/dashboards/collab.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
RULES = [rule for group in yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"] for rule in group["rules"]]
OTHERS = frozenset({"instance", "job", "le"})
"""Labels that Prometheus and histograms bring."""


def promtool(*arguments: str, cwd: Path = DEPLOY) -> None:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("no promtool on this machine (Debian: prometheus)")
    done = subprocess.run([program, *arguments], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def exposed() -> dict[str, set[str]]:
    """Series of a node -> its labels, every kind counted once so that it shows."""
    counters = Counters()
    for field in fields(Counters):
        value = getattr(counters, field.name)
        if isinstance(value, Kinds):
            value.add("kind")
    families = text_string_to_metric_families(Metrics(counters).exposition().decode())
    return {sample.name: set(sample.labels) for family in families for sample in family.samples} | {"up": set()}


def named(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:up|(?:collab|process)_\w+)\b", expression))


def test_prometheus_takes_its_configuration_and_rules() -> None:
    promtool("check", "config", "prometheus.yml")


def test_alerts_fire_when_they_should_and_only_then() -> None:
    promtool("test", "rules", str(Path(__file__).with_name("alerts.test.yml")))


def test_every_alert_is_tried() -> None:
    tried = yaml.safe_load(Path(__file__).with_name("alerts.test.yml").read_text())
    fired = {case["alertname"] for test in tried["tests"] for case in test["alert_rule_test"] if case.get("exp_alerts")}
    assert fired == {rule["alert"] for rule in RULES}


def test_every_query_of_the_dashboard_can_be_read(tmp_path: Path) -> None:
    plain = [query.replace("$__rate_interval", "1m").replace("$node", ".*") for query in QUERIES]
    rules = [{"record": f"query_{number}", "expr": query} for number, query in enumerate(plain)]
    (tmp_path / "queries.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool("check", "rules", "queries.yml", cwd=tmp_path)


@pytest.mark.parametrize("expression", [*QUERIES, *(rule["expr"] for rule in RULES)])
def test_every_metric_and_label_is_one_of_a_node(expression: str) -> None:
    series = exposed()
    assert named(expression)
    assert named(expression) <= set(series)
    labels = {label for metric in named(expression) for label in series[metric]} | OTHERS
    grouped = {label.strip() for group in re.findall(r"\bby \(([^)]*)\)", expression) for label in group.split(",")}
    assert grouped | set(re.findall(r"[{,]\s*(\w+)\s*[=!]", expression)) <= labels


@pytest.mark.parametrize("target", [target for panel in PANELS for target in panel["targets"]], ids=lambda t: t["expr"])
def test_every_legend_names_a_label_its_query_keeps(target: dict[str, Any]) -> None:
    for label in re.findall(r"{{(\w+)}}", target["legendFormat"]):
        kept = re.findall(r"\bby \((\w+)\)", target["expr"])
        assert label in kept or (label == "instance" and not kept and "sum(" not in target["expr"])


def test_every_panel_says_what_it_shows_and_stands_by_itself() -> None:
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in DASHBOARD["panels"]]
    assert len(set(places)) == len(places)
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(places)
    assert all(panel["description"].endswith(".") for panel in PANELS)


def test_the_dashboard_asks_the_data_source_that_is_provisioned() -> None:
    provisioned = DEPLOY / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioned / "datasources" / "prometheus.yml").read_text())["datasources"]
    used = {target["datasource"]["uid"] for panel in PANELS for target in panel["targets"]}
    used |= {variable["datasource"]["uid"] for variable in DASHBOARD["templating"]["list"]}
    assert used == {source["uid"]}


def test_grafana_finds_the_files_where_compose_mounts_them() -> None:
    grafana = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["grafana"]
    mounts = dict(mount.split(":")[:2] for mount in grafana["volumes"])
    provisioned = DEPLOY / "grafana" / "provisioning"
    (provider,) = yaml.safe_load((provisioned / "dashboards" / "collab.yml").read_text())["providers"]
    assert mounts["./deploy/grafana/dashboards"] == provider["options"]["path"]
    assert mounts["./deploy/grafana/provisioning"] == "/etc/grafana/provisioning"
    home = Path(grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (str(home.parent), home.name) == (provider["options"]["path"], "collab.json")
