"""OpenTelemetry's variables, by its specification: what they set, what wins, and what is passed over."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from propylon.compile.traces import collector_url, resource_of, tracing_rules
from propylon.config.models.traces import TracesConfig
from propylon.config.reading import otel
from propylon.config.reading.load import Loaded, load
from propylon.config.reading.problems import ConfigError

FILE = """
services: {a: {url: "http://a"}}
routes: [{path: /a, service: a}]
traces: {endpoint: "http://file:4318", service_name: shop, sampling: {ratio: 20%}}
"""
ON = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}


def read(tmp_path: Path, environ: dict[str, str], text: str = FILE) -> Loaded:
    """What a file and variables say together."""
    file = tmp_path / "propylon.yaml"
    file.write_text(text)
    return load(file, environ)


def traces(tmp_path: Path, environ: dict[str, str]) -> TracesConfig:
    """The section."""
    return read(tmp_path, environ).config.traces


SET: list[tuple[dict[str, str], dict[str, Any]]] = [
    ({}, {"endpoint": "http://file:4318", "service_name": "shop", "enabled": True}),
    (ON, {"endpoint": "http://c:4318/v1/traces"}),
    ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318/otlp/"}, {"endpoint": "http://c:4318/otlp/v1/traces"}),
    ({**ON, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://t/own"}, {"endpoint": "https://t/own"}),
    ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://t:4318"}, {"endpoint": "http://t:4318/"}),
    ({"OTEL_EXPORTER_OTLP_ENDPOINT": "  "}, {"endpoint": "http://file:4318"}),
    ({**ON, "PROPYLON_TRACES__ENDPOINT": "http://p"}, {"endpoint": "http://p"}),
    ({"OTEL_SERVICE_NAME": "edge"}, {"service_name": "edge"}),
    ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=x,team=a%2Cb, zone = 1"},
     {"service_name": "x", "resource": {"team": "a,b", "zone": "1"}}),
    ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=x", "OTEL_SERVICE_NAME": "edge"}, {"service_name": "edge", "resource": {}}),
    ({"OTEL_EXPORTER_OTLP_TIMEOUT": "2500", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "1500"}, {"timeout": 1.5}),
    ({"OTEL_EXPORTER_OTLP_COMPRESSION": "gzip"}, {"compression": "gzip"}),
    ({"OTEL_EXPORTER_OTLP_COMPRESSION": "gzip", "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": "none"}, {"compression": "none"}),
    ({"OTEL_BSP_MAX_QUEUE_SIZE": "9000", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "100", "OTEL_BSP_SCHEDULE_DELAY": "500",
      "OTEL_BSP_EXPORT_TIMEOUT": "30000"}, {"queue": 9000, "batch": 100, "interval": 0.5, "retry_for": 30.0}),
    ({"OTEL_BSP_MAX_QUEUE_SIZE": "many", "OTEL_BSP_SCHEDULE_DELAY": "0"}, {"queue": 8192, "interval": 5.0}),
    ({"OTEL_SDK_DISABLED": "TRUE"}, {"enabled": False}),
    ({"OTEL_SDK_DISABLED": "1"}, {"enabled": True}),
    ({"OTEL_TRACES_EXPORTER": "none"}, {"enabled": False}),
    ({"OTEL_TRACES_EXPORTER": "console, otlp"}, {"enabled": True}),
    ({"OTEL_TRACES_EXPORTER": "zipkin"}, {"enabled": False}),
]  # fmt: skip


@pytest.mark.parametrize(("environ", "wanted"), SET)
def test_what_variables_set(
    tmp_path: Path, environ: dict[str, str], wanted: dict[str, Any]
) -> None:
    """Each sets its key, over the file."""
    found = traces(tmp_path, environ)
    assert {key: getattr(found, key) for key in wanted} == wanted


@pytest.mark.parametrize(("sampler", "argument", "parent", "ratio"), [
    ("always_on", "0.1", "ignore", 1.0),
    ("always_off", "", "ignore", 0.0),
    ("traceidratio", "0.25", "ignore", 0.25),
    ("traceidratio", "", "ignore", 1.0),
    ("traceidratio", "2", "ignore", 1.0),
    ("parentbased_always_on", "", "follow", 1.0),
    ("parentbased_always_off", "", "follow", 0.0),
    ("parentbased_traceidratio", "0.5", "follow", 0.5),
    ("jaeger_remote", "endpoint=x", "ignore", 0.2),
    ("", "0.5", "ignore", 0.2),
])  # fmt: skip
def test_samplers(tmp_path: Path, sampler: str, argument: str, parent: str, ratio: float) -> None:
    """Each of the specification; one that is not known leaves what the file says."""
    found = traces(
        tmp_path, {**ON, "OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": argument}
    ).sampling
    assert (found.parent, found.ratio) == (parent, ratio)


def test_headers_are_pairs_and_secret(tmp_path: Path) -> None:
    """Decoded; the more specific variable wins; no text of the configuration shows a value."""
    environ = {
        "OTEL_EXPORTER_OTLP_HEADERS": "a=b",
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "x-key=s3cret%20one,b=2=3,bad",
    }
    found = traces(tmp_path, environ)
    assert {name: value.get_secret_value() for name, value in found.headers.items()} == {
        "x-key": "s3cret one",
        "b": "2=3",
    }
    assert "s3cret" not in repr(found)


@pytest.mark.parametrize(("name", "value"), [
    ("OTEL_BSP_MAX_QUEUE_SIZE", "many"), ("OTEL_EXPORTER_OTLP_TIMEOUT", "-1"), ("OTEL_TRACES_SAMPLER", "xray"),
    ("OTEL_EXPORTER_OTLP_COMPRESSION", "br"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")])  # fmt: skip
def test_what_is_passed_over_is_said(tmp_path: Path, name: str, value: str) -> None:
    """With the name of the variable; and nothing is said where traces are not for us."""
    (note,) = read(tmp_path, {**ON, name: value}).notes
    assert note.startswith(f"{name} is not read: ")
    assert read(tmp_path, {name: value}).notes == ()


def test_another_exporter_is_said(tmp_path: Path) -> None:
    """There is none here; that none is wanted needs no word."""
    (note,) = read(tmp_path, {**ON, "OTEL_TRACES_EXPORTER": "zipkin"}).notes
    assert note.startswith("OTEL_TRACES_EXPORTER names no otlp")
    assert read(tmp_path, {**ON, "OTEL_TRACES_EXPORTER": "none"}).notes == ()


def test_a_ratio_that_is_none_is_said(tmp_path: Path) -> None:
    """The sampler needs it."""
    environ = {**ON, "OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "a lot"}
    (note,) = read(tmp_path, environ).notes
    assert note.startswith("OTEL_TRACES_SAMPLER_ARG is not read")


@pytest.mark.parametrize("missing", [None, ModuleNotFoundError("opentelemetry")])
def test_an_endpoint_needs_the_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: Any
) -> None:
    """Without it, the endpoint is refused with the command that installs it; what is off needs none."""

    def find(name: str) -> None:
        if missing is not None:
            raise missing

    monkeypatch.setattr(otel, "find_spec", find)
    with pytest.raises(ConfigError) as refused:
        read(tmp_path, ON)
    assert "OTEL_EXPORTER_OTLP_ENDPOINT traces.endpoint: needs the encoder" in str(refused.value)
    assert "pip install 'propylon[otel]'" in str(refused.value)
    assert not traces(tmp_path, {**ON, "OTEL_SDK_DISABLED": "true"}).enabled
    assert importlib.util.find_spec("opentelemetry.proto") is not None


def test_what_it_becomes() -> None:
    """A path of its own stays; the service's name is the key's, not the attributes'."""
    assert collector_url("http://c:4318") == "http://c:4318/v1/traces"
    assert collector_url("https://c/x?key=1") == "https://c/x?key=1"
    config = TracesConfig(service_name="edge", resource={"service.name": "no", "team": "a"})
    assert resource_of(config)["service.name"] == "edge"
    assert tracing_rules(config).keep.most == 100
