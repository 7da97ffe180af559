"""Counters that Prometheus can read and that are right."""

from collections import Counter
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.samples import Sample

from propylon.config.models.admin import MetricsConfig
from propylon.proxy.exchange import Exchange
from propylon.proxy.route import Route
from propylon.services.balance import round_robin
from propylon.services.fleet import Fleet
from propylon.services.instance import HealthRules
from propylon.services.service import Service
from propylon.stores.sums import LocalSums
from propylon.stores.tally import SharedSums
from propylon.telemetry.families import FAMILIES, KEY_SET_AGE
from propylon.telemetry.metrics import Metrics
from tests.proxy.doubles import (
    ENTROPY,
    Asked,
    Client,
    Upload,
    instance,
    request,
    route,
    service,
)
from tests.support.examples import examples

ORDERS = route("/orders", service(name="orders"), name="orders")
USERS = route("/users", service(name="users"), name='us"e\\rs\n')


def exchange(
    found: Route | None = None,
    *,
    method: bytes = b"GET",
    path: bytes = b"/orders",
    status: int = 200,
    seconds: float = 0.003,
    out: int = 0,
    body: bytes | None = None,
) -> Exchange:
    """An exchange that has ended."""
    client = Client(None if body is None else Upload(body))
    made = Exchange(request(path, method=method), client, b"%080x" % ENTROPY, 5.0)
    made.ended = 5.0 + seconds
    made.route, made.status, client.bytes_out = found, status, out
    return made


def samples(metrics: Metrics) -> list[Sample]:
    """All samples, as a scraper reads them; no series stands twice."""
    families = parser.text_string_to_metric_families(metrics.render()[0].decode())
    found = [sample for family in families for sample in family.samples]
    series = Counter((one.name, *sorted(one.labels.items())) for one in found)
    assert {name: count for name, count in series.items() if count > 1} == {}
    return found


def total(read: list[Sample], name: str, **labels: str) -> float:
    """The sum of the samples with that name and these labels."""
    return sum(
        one.value for one in read if one.name == name and labels.items() <= one.labels.items()
    )


def value(metrics: Metrics, name: str, **labels: str) -> float:
    """The same of what a scraper reads now."""
    return total(samples(metrics), name, **labels)


def test_every_family_is_there_from_the_start() -> None:
    """With its kind and its meaning, so that an alert can be written before the first failure; and with no sample of a label."""
    text = Metrics(LocalSums()).render()[0].decode()
    read = {one.name: one for one in parser.text_string_to_metric_families(text)}
    assert [*read] == [family.name for family in FAMILIES]
    for family in FAMILIES:
        assert read[family.name].type == family.kind
        assert read[family.name].documentation == family.about
        if family.labels:
            assert read[family.name].samples == []


def test_openmetrics_where_it_is_asked_for() -> None:
    """The same series, by the other format's own parser."""
    metrics = Metrics(LocalSums())
    metrics(exchange(ORDERS))
    text, media_type = metrics.render("application/openmetrics-text; version=1.0.0, */*;q=0.1")
    assert media_type.startswith("application/openmetrics-text")
    read = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in openmetrics.text_string_to_metric_families(text.decode())
        for sample in family.samples
    }
    assert read == {(one.name, *sorted(one.labels.items())): one.value for one in samples(metrics)}


@pytest.mark.parametrize(
    ("attempts", "streams", "expected"), [(1, False, 0.003), (1, True, 0.001), (0, False, 0.010)]
)
def test_overhead_is_without_the_upstream(attempts: int, streams: bool, expected: float) -> None:
    """Of 10 ms, the upstream took 7; a body that is streamed takes its client's time; without an upstream all of it."""
    metrics = Metrics(LocalSums())
    made = exchange(ORDERS, seconds=0.010)
    made.attempts, made.streams = attempts, streams
    made.upstream_began, made.answered = 5.001, 5.008
    metrics(made)
    assert value(metrics, "propylon_overhead_seconds_count") == 1
    assert value(metrics, "propylon_overhead_seconds_sum") == pytest.approx(expected)


def test_overhead_is_without_the_client() -> None:
    """The gateway waited 2 ms for the body, to check it."""
    metrics = Metrics(LocalSums())
    made = exchange(ORDERS, seconds=0.010)
    made.gathered = 0.002
    metrics(made)
    assert value(metrics, "propylon_overhead_seconds_sum") == pytest.approx(0.008)


def test_each_retry_has_its_reason() -> None:
    """By service and reason."""
    metrics = Metrics(LocalSums())
    made = exchange(ORDERS)
    made.attempts, made.retried = 3, ("connect-failure", "503")
    metrics(made)
    for reason in made.retried:
        assert value(metrics, "propylon_retries_total", service="orders", reason=reason) == 1


def test_states_of_services_are_told_by_whoever_is_asked() -> None:
    """Which instances may be asked: one that its probe found unhealthy may not."""
    metrics = Metrics(LocalSums())
    one, two = instance(Asked(), "a"), instance(Asked(), "b")
    known = Service("orders", Fleet((one, two), health=HealthRules()), round_robin())
    metrics.services = lambda: (known,)
    up = "propylon_instance_up"
    assert value(metrics, up, instance="a:80") == value(metrics, up, instance="b:80") == 1
    known.fleet.checked(one, ok=False, answered=True, at=1.0, latency=0.1, reason="status 500")
    assert (value(metrics, up, instance="a:80"), value(metrics, up, instance="b:80")) == (0, 1)


def test_what_a_dead_worker_had_open_is_closed(tmp_path: Path) -> None:
    """Who takes over its rows sets the gauges to zero; the counters go on."""
    first = SharedSums(tmp_path)
    dead = Metrics(first)
    dead.count_socket(ORDERS, 1)
    dead(exchange(ORDERS))
    first.close()
    second = SharedSums(tmp_path)
    replaced = Metrics(LocalSums())
    replaced.count_in(second)
    assert value(replaced, "propylon_open_sockets") == 0
    assert value(replaced, "propylon_requests_total", route="orders") == 1
    second.close()


@given(
    st.lists(
        st.tuples(
            st.sampled_from([ORDERS, USERS, None]),
            st.sampled_from([b"GET", b"POST"]),
            st.sampled_from([200, 404, 502]),
            st.floats(0, 60),
            st.integers(0, 1000),
            st.none() | st.binary(max_size=5),
        ),
        max_size=20,
    )
)
@examples(60)
def test_sums_are_right(
    done: list[tuple[Route | None, bytes, int, float, int, bytes | None]],
) -> None:
    """By route, service, method and status; buckets grow and end in the count."""
    metrics = Metrics(LocalSums())
    for found, method, status, seconds, out, body in done:
        metrics(exchange(found, method=method, status=status, seconds=seconds, out=out, body=body))
    read = samples(metrics)
    for found in (ORDERS, USERS, None):
        own = [one for one in done if one[0] is found]
        labels = {
            "route": found.name if found else "",
            "service": found.service.name if found else "",
        }
        for method in (b"GET", b"POST"):
            for status in (200, 404, 502):
                expected = sum(one[1:3] == (method, status) for one in own)
                more = {"method": method.decode(), "status": str(status)}
                assert total(read, "propylon_requests_total", **labels, **more) == expected
        sent = sum(one[4] for one in own)
        received = sum(len(one[5] or b"") for one in own)
        assert total(read, "propylon_response_body_bytes_total", **labels) == sent
        assert total(read, "propylon_request_body_bytes_total", **labels) == received
        duration = "propylon_request_duration_seconds"
        assert total(read, duration + "_count", **labels) == len(own)
        assert abs(total(read, duration + "_sum", **labels) - sum(o[3] for o in own)) < 1e-6
        buckets = [
            (float(one.labels["le"]), one.value)
            for one in read
            if one.name == duration + "_bucket" and labels.items() <= one.labels.items()
        ]
        for bound, count in buckets:
            near = sum(one[3] <= bound - 1e-9 for one in own)
            assert near <= count <= sum(one[3] <= bound + 1e-9 for one in own)


def test_what_a_client_sends_makes_no_series() -> None:
    """A thousand unknown paths are one series."""
    metrics = Metrics(LocalSums())
    for number in range(1000):
        metrics(exchange(None, path=b"/x%d" % number, status=404))
    before = len(samples(metrics))
    metrics(exchange(None, path=b"/another", status=404))
    assert len(samples(metrics)) == before
    assert len(metrics._rows) == 1
    assert value(metrics, "propylon_requests_total", status="404") == 1001


def test_a_request_that_could_not_be_read() -> None:
    """It is counted without a method."""
    metrics = Metrics(LocalSums())
    unread = Exchange(None, Client(), b"%080x" % ENTROPY, 0.0)
    unread.status = 400
    metrics(unread)
    assert value(metrics, "propylon_requests_total", method="", status="400") == 1


def test_routes_of_one_name_are_one_series() -> None:
    """A route with two hosts is compiled to two, and a reload makes them all anew."""
    metrics = Metrics(LocalSums())
    twin = route("/orders", ORDERS.service, name="orders", host=b"b.test")
    metrics(exchange(ORDERS))
    metrics(exchange(twin))
    assert value(metrics, "propylon_requests_total", route="orders") == 2
    assert value(metrics, "propylon_request_duration_seconds_count", route="orders") == 2


def test_a_label_that_is_left_out_is_added_up() -> None:
    """Sums stay sums, histograms keep their buckets; of what is no sum the largest is told."""
    metrics = Metrics(LocalSums())
    for status in (200, 404):
        for method in (b"GET", b"PUT"):
            metrics(exchange(ORDERS, method=method, status=status, seconds=0.002))
    before = value(metrics, "propylon_requests_total")
    metrics.measured = lambda: iter([(KEY_SET_AGE, ("a",), 1.0), (KEY_SET_AGE, ("b",), 7.0)])
    metrics.without = frozenset({"method", "status", "route", "source"})
    read = samples(metrics)
    (one,) = [sample for sample in read if sample.name == "propylon_requests_total"]
    assert one.labels == {"service": "orders"}
    assert one.value == before == 4
    assert total(read, "propylon_request_duration_seconds_bucket", le="0.0025") == 4
    assert total(read, "propylon_key_set_age_seconds") == 7.0


def test_each_label_has_a_switch() -> None:
    """What a family has may be left out, and nothing else may be named."""
    labels = {label for family in FAMILIES for label in family.labels}
    assert MetricsConfig(drop_labels=tuple(labels)).drop_labels
    (kind,) = get_args(MetricsConfig.model_fields["drop_labels"].annotation)[:1]
    assert set(get_args(kind)) == labels


def test_calls_of_endpoints_and_uses_of_the_database() -> None:
    """By their service and status; by what was done."""
    metrics = Metrics(LocalSums())
    for status in (200, 200, 0):
        metrics.note_call(exchange(ORDERS, status=status, seconds=0.2))
    metrics.note_call(exchange(None))
    metrics.database("read", 0.0004)
    metrics.database("write", 20.0)
    read = samples(metrics)
    assert total(read, "propylon_calls_total", service="orders", status="200") == 2
    assert total(read, "propylon_calls_total") == 3
    assert total(read, "propylon_call_duration_seconds_sum") == pytest.approx(0.6)
    assert total(read, "propylon_requests_total") == 0
    assert total(read, "propylon_database_seconds_bucket", operation="read", le="0.0005") == 1
    assert total(read, "propylon_database_seconds_bucket", operation="write", le="10.0") == 0
    assert total(read, "propylon_database_seconds_count") == 2
