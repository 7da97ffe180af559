"""Traces beside the buckets that count them: of all workers, the newest, and never half of one."""

from pathlib import Path

from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.samples import Exemplar

from propylon.proxy.exchange import Exchange
from propylon.stores.sums import LocalSums
from propylon.stores.tally import SharedSums
from propylon.telemetry.exemplars import EXEMPLARS, Exemplars, Traces
from propylon.telemetry.families import DURATION
from propylon.telemetry.metrics import Metrics
from tests.proxy.doubles import Client, request, route, service

ONE, OTHER = b"4bf92f3577b34da6a3ce929d0e0e4736", b"0af7651916cd43dd8448eb211c80319f"


def found(sums: SharedSums | LocalSums) -> list[Exemplar]:
    """What a scrape shows of route `r`."""
    traces = Traces()
    for labels, numbers in sums.rows():
        if labels[0] == EXEMPLARS:
            traces.add(labels[1:], [*numbers])
    counts = [(str(bound), 0.0) for bound in (*DURATION.buckets, "+Inf")]
    return [pair[2] for pair in traces.beside(("r", "s"), counts) if len(pair) > 2]  # type: ignore[arg-type, index]


def test_a_trace_stands_at_its_bucket(tmp_path: Path) -> None:
    """In OpenMetrics, as its own parser reads it; not in Prometheus' text."""
    metrics = Metrics(LocalSums())
    made = Exchange(request(), Client(), b"0" * 80, 10.0)
    made.route, made.ended, made.status, made.trace_id = route(of=service()), 10.003, 200, ONE
    metrics(made)
    metrics.note_trace(made)
    text, kind = metrics.render("application/openmetrics-text; version=1.0.0")
    assert "openmetrics" in kind
    (family,) = (
        one for one in text_string_to_metric_families(text.decode()) if one.name == DURATION.name
    )
    told = {sample.labels["le"]: sample.exemplar for sample in family.samples if sample.exemplar}
    assert [*told] == ["0.005"]
    assert told["0.005"].labels == {"trace_id": ONE.decode()}
    assert b"trace_id" not in metrics.render()[0]


def test_workers_do_not_mix(tmp_path: Path) -> None:
    """Each has a row of its own; the newer of two counts; a dead worker's name goes on with its rows."""
    first, second = SharedSums(tmp_path), SharedSums(tmp_path)
    to = route("r", of=service(name="s"))
    mine, theirs = Exemplars(first), Exemplars(second)
    mine.note(to, 0.003, ONE)
    theirs.note(to, 0.003, OTHER)
    theirs.note(to, 99.0, ONE)
    for sums in (first, second):
        assert [one.labels["trace_id"] for one in found(sums)] == [OTHER.decode(), ONE.decode()]
    second.close()
    heir = SharedSums(tmp_path)
    assert Exemplars(heir)._worker == theirs._worker
    heir.close()
    first.close()


def test_half_of_a_trace_is_none() -> None:
    """A number that was not written yet, or is of another trace."""
    sums = LocalSums()
    to = route(of=service())
    Exemplars(sums).note(to, 0.0001, ONE)
    ((labels, row),) = sums.own()
    traces = Traces()
    traces.add(labels[1:], [*row[:3], row[3] + 1, *row[4:]])
    assert traces.beside(labels[1:3], [("1", 0.0)] * 15) == [("1", 0.0)] * 15
