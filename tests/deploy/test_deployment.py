"""Rules, dashboard, chart, manifests and units name only what exists: metrics, commands, keys, pages, versions."""

import configparser
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from propylon.config.reading.load import load
from propylon.telemetry.families import FAMILIES, Kind
from propylon.version import __version__

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm" / "propylon"
RULES = yaml.safe_load((DEPLOY / "prometheus" / "rules.yaml").read_text())
DASHBOARD = json.loads((DEPLOY / "grafana" / "propylon.json").read_text())
MANIFESTS = {
    one["kind"]: one
    for one in yaml.safe_load_all((DEPLOY / "kubernetes" / "propylon.yaml").read_text())
}
SUFFIXES = {
    Kind.COUNTER: ("_total",),
    Kind.HISTOGRAM: ("_bucket", "_count", "_sum"),
    Kind.GAUGE: ("",),
}


def families() -> dict[str, set[str]]:
    """Every series that the gateway has, and its labels."""
    return {
        family.name + suffix: {*family.labels} | ({"le"} if suffix == "_bucket" else set())
        for family in FAMILIES
        for suffix in SUFFIXES[family.kind]
    }


def expressions() -> list[str]:
    """Every expression of the rules and the dashboard."""
    rules = [rule["expr"] for group in RULES["groups"] for rule in group["rules"]]
    targets = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    queries = [one["query"]["query"] for one in DASHBOARD["templating"]["list"][1:]]
    return rules + targets + queries


def test_only_metrics_that_exist_are_named() -> None:
    """A panel or an alert on a series that is never there would show nothing, and nobody would notice."""
    known = families()
    records = {
        rule["record"] for group in RULES["groups"] for rule in group["rules"] if "record" in rule
    }
    named = {name for text in expressions() for name in re.findall(r"\bpropylon[\w:]*", text)}
    assert named - {"propylon"} - known.keys() - records == set()


def test_only_labels_that_exist_are_named() -> None:
    """The same for labels; `job` and `instance` are Prometheus' own."""
    known = {label for labels in families().values() for label in labels}
    # Prometheus renames the label of an instance of a service, because it names the gateway so.
    known |= {"job", "exported_instance"}
    selected = {
        name
        for text in expressions()
        for block in re.findall(r"\{([^}]*)\}", text)
        for name in re.findall(r"(\w+)\s*(?:=|!|=~)", block)
    }
    grouped = {
        name.strip()
        for text in expressions()
        for block in re.findall(r"\bby \(([^)]*)\)", text)
        for name in block.split(",")
    }
    assert (selected | grouped) - known == set()


def test_each_alert_has_its_runbook() -> None:
    """The page is there, with the paragraph that the alert names."""
    alerts = [rule for group in RULES["groups"] for rule in group["rules"] if "alert" in rule]
    assert alerts
    for alert in alerts:
        path, _, anchor = (
            alert["annotations"]["runbook_url"].partition("/blob/main/")[2].partition("#")
        )
        headings = re.findall(r"(?m)^#+ (.*)", (ROOT / path).read_text())
        assert anchor == alert["alert"].lower()
        assert alert["alert"] in headings


def test_the_chart_carries_the_rules() -> None:
    """Helm reads no file outside of the chart, so there is a copy."""
    rules = (DEPLOY / "prometheus" / "rules.yaml").read_text()
    assert (
        CHART / "rules.yaml"
    ).read_text() == rules, "cp deploy/prometheus/rules.yaml deploy/helm/propylon/"


def test_versions_agree() -> None:
    """The chart and the manifests name the version of this code."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)
    container = MANIFESTS["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == f"propylon:{__version__}"


@pytest.mark.parametrize("written", ["manifest", "chart"])
def test_the_configuration_in_the_cluster_is_valid(written: str, tmp_path: Path) -> None:
    """The ConfigMap's file loads, and the pod has the time that it asks for."""
    if written == "manifest":
        text = MANIFESTS["ConfigMap"]["data"]["propylon.yaml"]
        grace = MANIFESTS["Deployment"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    else:
        values = yaml.safe_load((CHART / "values.yaml").read_text())
        text, grace = yaml.safe_dump(values["config"]), values["terminationGracePeriodSeconds"]
    file = tmp_path / "propylon.yaml"
    file.write_text(text)
    server = load(file, {"PROPYLON_HOST": "::"}).config.server
    assert server.host == "::"
    assert grace > server.drain_delay + server.drain


def test_the_manifests_and_the_chart_have_the_same_kinds() -> None:
    """What one of them has, the other has, too; the chart's alerts are an extra."""
    templates = [path.read_text() for path in (CHART / "templates").glob("*.yaml")]
    kinds = {found for text in templates for found in re.findall(r"(?m)^kind: (\w+)$", text)}
    assert kinds - {"PrometheusRule"} == MANIFESTS.keys()
    hardening = (
        "readOnlyRootFilesystem: true",
        "runAsNonRoot: true",
        "automountServiceAccountToken: false",
    )
    deployment = (CHART / "templates" / "deployment.yaml").read_text()
    assert [line for line in hardening if line not in deployment] == []


def unit(name: str) -> dict[str, Any]:
    """A unit's last values; systemd lets keys repeat."""
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(DEPLOY / "systemd" / name)
    return {key: value for section in parser.sections() for key, value in parser[section].items()}


def test_the_service_waits_for_the_drain() -> None:
    """The unit gives the time that a drain may take: systemd kills what takes longer."""
    service = unit("propylon.service")
    server = load(None, {}).config.server
    assert float(service["TimeoutStopSec"]) > server.drain_delay + server.drain
    assert service["DynamicUser"] == "yes"
    assert unit("propylon.socket")["ListenStream"] == "[::]:8000"
