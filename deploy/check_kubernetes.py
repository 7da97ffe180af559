"""Validate the manifests and the rendered chart against the schemas of Kubernetes: `make check-deploy` calls this.

The chart is rendered by Helm's own code (helm-python-sdk), with its defaults and with every value set.
"""

import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml
from helm_python.chart import Chart, lint

FOLDER = Path(__file__).parent
CHART = FOLDER / "helm" / "propylon"
# The oldest that the chart says it is for, and the newest that the validator knows.
VERSIONS = ("1.29", "1.37")
# Not of Kubernetes itself: there is no schema of it here.
FOREIGN = {"PrometheusRule"}
EVERYTHING: dict[str, Any] = {
    "image": {"repository": "registry.example.com/propylon", "tag": "1.0.0"},
    "imagePullSecrets": [{"name": "registry"}],
    "config": {
        "services": {"a": {"url": "http://a:8000"}},
        "routes": [{"path": "/a", "service": "a"}],
    },
    "secretName": "propylon",
    "env": [{"name": "LOG_LEVEL", "value": "warning"}],
    "service": {"type": "LoadBalancer", "annotations": {"example.com/internal": "true"}},
    "network": {
        "from": [
            {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}}}
        ],
        "egress": [{"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}], "ports": [{"port": 443}]}],
    },
    "podAnnotations": {"example.com/team": "edge"},
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "edge", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "alerts": {"enabled": True, "labels": {"release": "prometheus"}},
}


def rendered(values: dict[str, Any]) -> str:
    """Return all manifests of the chart as one text."""
    with Chart.load(CHART) as chart:
        found = chart.render(values=values, name="edge", namespace="edge")
    return "\n---\n".join(str(text) for name, text in found.items() if name.endswith(".yaml"))


def check(name: str, text: str) -> list[str]:
    """Validate each document of a text; return what kinds there were."""
    kinds = []
    for document in yaml.safe_load_all(text):
        if document is None:
            continue
        kinds.append(document["kind"])
        if document["kind"] in FOREIGN:
            continue
        for version in VERSIONS:
            kubernetes_validate.validate(document, version, strict=True)
    print(f"{name}: {', '.join(kinds)}: valid for Kubernetes {' and '.join(VERSIONS)}")
    return kinds


def main() -> int:
    """Check everything; the first problem ends it with a traceback that names it."""
    check("manifests", (FOLDER / "kubernetes" / "propylon.yaml").read_text())
    found = lint(CHART)
    print(f"helm lint: {found}")
    check("chart", rendered({}))
    everything = check("chart with every value", rendered(EVERYTHING))
    return 0 if set(everything) >= FOREIGN else 1


if __name__ == "__main__":
    sys.exit(main())
