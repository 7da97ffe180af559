"""What /metrics says of a gateway that was used, on both edges: the numbers are those of what was done."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import parser

from tests.support import answers
from tests.support.client import RawClient, ask, request
from tests.support.gateway import EDGES, Gateway
from tests.support.tokens import SECRET, authorized
from tests.support.upstream import Arrived, Peer, Script, Upstream
from tests.support.waiting import wait

ADMIN = authorized("operator", scope="admin")
CIRCUIT = {"failure_threshold": 2, "min_throughput": 1, "recovery_timeout": "10m"}
AT_ONCE = {"attempts": 3, "backoff": "1ms", "max_backoff": "1ms"}


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    """The upstream of all services."""
    with Upstream() as made:
        yield made


@pytest.fixture(autouse=True)
def up(upstream: Upstream) -> Upstream:
    """The same, without what another case has scripted."""
    upstream.reset()
    return upstream


@pytest.fixture(scope="module", params=EDGES)
def gateway(
    request: pytest.FixtureRequest, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """A gateway on each edge."""
    folder: Path = tmp_path_factory.mktemp("metrics")
    url = f"http://127.0.0.1:{upstream.port}"
    config = {
        "auth": {"jwt": {"secret": SECRET}, "tokens": {"enabled": False}},
        "defaults": {"auth": "none"},
        "services": {
            "again": {"url": url, "retry": AT_ONCE},
            "dead": {"url": "http://127.0.0.1:1", "retry": {"attempts": 1}, "circuit": CIRCUIT},
            "pair": {
                "instances": [url, "http://127.0.0.1:1"],
                "ejection": {"failures": 1, "time": "10m"},
                "retry": AT_ONCE,
            },
        },
        "routes": [{"path": f"/{name}", "service": name} for name in ("again", "dead", "pair")],
    }
    made = Gateway(request.param, config, folder)
    try:
        made.wait_ready()
        yield made
    finally:
        made.kill()


def in_turn(*statuses: str) -> Script:
    """Answer one request after the other with these."""
    scripts = iter([answers.plain(status) for status in statuses])

    def script(peer: Peer, arrived: Arrived) -> None:
        next(scripts)(peer, arrived)

    return script


def read(gateway: Gateway, name: str, **labels: str) -> float:
    """The sum of the samples of that name with these labels."""
    text = ask(gateway.port, target="/metrics", headers=ADMIN).body.decode()
    return sum(
        sample.value
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def test_retries(gateway: Gateway, up: Upstream) -> None:
    """Each by what the attempt before ended with."""
    up.on("/again", in_turn("503 Busy", "502 Bad", "200 OK"))
    before = read(gateway, "propylon_retries_total", service="again")
    assert ask(gateway.port, target="/again").status == 200
    wait(lambda: read(gateway, "propylon_retries_total", service="again") == before + 2)
    for status in ("502", "503"):
        assert read(gateway, "propylon_retries_total", service="again", reason=status) >= 1


def test_breaker(gateway: Gateway) -> None:
    """0 while it is closed; 2, and one transition, when it has opened."""
    assert read(gateway, "propylon_circuit_state", service="dead") == 0
    assert read(gateway, "propylon_circuit_state", service="again") == 0
    statuses = [ask(gateway.port, target="/dead").status for _ in range(3)]
    assert statuses == [502, 502, 503]
    assert read(gateway, "propylon_circuit_state", service="dead") == 2
    assert read(gateway, "propylon_circuit_transitions_total", service="dead", to="open") == 1
    assert read(gateway, "propylon_circuit_transitions_total", service="dead") == 1


def test_instances(gateway: Gateway) -> None:
    """The one that nobody answers at is ejected, and counts as one that is not up."""
    for _ in range(2):
        assert ask(gateway.port, target="/pair").status == 200
    assert read(gateway, "propylon_instance_up", service="pair", instance="127.0.0.1:1") == 0
    assert read(gateway, "propylon_instance_up", service="pair") == 1
    assert read(gateway, "propylon_instance_ejections_total", service="pair") == 1
    assert read(gateway, "propylon_retries_total", service="pair", reason="connect-failure") == 1


def test_connections_and_process(gateway: Gateway, up: Upstream) -> None:
    """What is open is told within a second or two, and is gone when it has ended; the process's figures are there."""
    ours = 1.0 if gateway.edge == "fast" else 0.0  # elsewhere the server has the connections
    # The one that asks is open; one of the case before may still be.
    wait(lambda: read(gateway, "propylon_open_connections") == ours)
    with RawClient(gateway.port) as client:
        client.send(request("GET", "/again"))
        assert client.read().status == 200
        wait(lambda: read(gateway, "propylon_open_connections") == 2 * ours)
        wait(lambda: read(gateway, "propylon_upstream_connections", service="again") >= 1)
    wait(lambda: read(gateway, "propylon_open_connections") == ours)
    assert read(gateway, "propylon_workers") == 1
    assert read(gateway, "propylon_process_cpu_seconds_total") > 0
    assert read(gateway, "propylon_config_last_success_timestamp_seconds") > 1e9
    wait(lambda: read(gateway, "propylon_loop_lag_seconds_count") >= 1)


def test_overhead_counts_each_exchange(gateway: Gateway) -> None:
    """Once, refused ones too."""
    before = read(gateway, "propylon_overhead_seconds_count")
    for target in ("/again", "/nowhere"):
        ask(gateway.port, target=target)
    # The scrapes count, too: the one before, and those while we wait.
    wait(lambda: read(gateway, "propylon_overhead_seconds_count") >= before + 3)
