"""Read the variables of OpenTelemetry that set keys of `traces`, by its specification. Pure, but for a look for the encoder.

Rules of the specification. An empty variable counts as not set. A value that cannot be read is passed over, and said. Times are
milliseconds. OTEL_EXPORTER_OTLP_TRACES_* wins over OTEL_EXPORTER_OTLP_*.
"""

import re
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from urllib.parse import unquote, urlsplit

from propylon.config.models.units import is_false
from propylon.config.reading.environment import Setting, value_at
from propylon.config.reading.problems import Finding

__all__ = ["INSTALL", "encoder_findings", "otel_settings", "otel_unread"]

INSTALL = "pip install 'propylon[otel]'"
_TRACES = "traces"
_OTLP = "OTEL_EXPORTER_OTLP_"
_NUMBER = re.compile(r"[0-9]{1,9}")
_RATIO = re.compile(r"(?:0(?:\.[0-9]{1,12})?|1(?:\.0{1,12})?)")
# By sampler: whether a parent's flag counts, and the ratio; None: that of OTEL_TRACES_SAMPLER_ARG.
_SAMPLERS: Mapping[str, tuple[str, float | None]] = {
    "always_on": ("ignore", 1.0),
    "always_off": ("ignore", 0.0),
    "traceidratio": ("ignore", None),
    "parentbased_always_on": ("follow", 1.0),
    "parentbased_always_off": ("follow", 0.0),
    "parentbased_traceidratio": ("follow", None),
}
_SPANS = {"OTEL_BSP_MAX_QUEUE_SIZE": "queue", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "batch"}
_TIMES = {
    "OTEL_BSP_SCHEDULE_DELAY": "interval",
    "OTEL_BSP_EXPORT_TIMEOUT": "retry_for",
    f"{_OTLP}TIMEOUT": "timeout",
    f"{_OTLP}TRACES_TIMEOUT": "timeout",
}
_PROTOCOL = "http/protobuf"


def otel_settings(environ: Mapping[str, str]) -> Iterator[Setting]:
    """Yield the keys that OpenTelemetry's variables set."""
    said = _said(environ)
    yield from _endpoint(said)
    yield from _switches(said)
    yield from _sampler(said)
    for name in (f"{_OTLP}HEADERS", f"{_OTLP}TRACES_HEADERS"):
        if pairs := _pairs(said.get(name, "")):
            yield Setting((_TRACES, "headers"), pairs, name)
    for name in (f"{_OTLP}COMPRESSION", f"{_OTLP}TRACES_COMPRESSION"):
        if said.get(name) in {"gzip", "none"}:
            yield Setting((_TRACES, "compression"), said[name], name)
    yield from _resource(said)
    for name, key in _SPANS.items():
        if _is_count(said.get(name, "")):
            yield Setting((_TRACES, key), int(said[name]), name)
    for name, key in _TIMES.items():
        if _is_count(said.get(name, "")):
            yield Setting((_TRACES, key), int(said[name]) / 1000, name)


def otel_unread(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for each variable that cannot be read, if traces are switched on by one."""
    said = _said(environ)
    if not any(name in said for name in (f"{_OTLP}ENDPOINT", f"{_OTLP}TRACES_ENDPOINT")):
        return
    if said.get("OTEL_TRACES_EXPORTER", "otlp") != "none" and not _exports(said):
        yield "OTEL_TRACES_EXPORTER names no otlp, and there is no other exporter here: nothing is recorded"
    for name in (*_SPANS, *_TIMES):
        if name in said and not _is_count(said[name]):
            yield f"{name} is not read: it is no whole number greater than zero"
    yield from _sampler_unread(said)
    for name in (f"{_OTLP}COMPRESSION", f"{_OTLP}TRACES_COMPRESSION"):
        if said.get(name, "none") not in {"gzip", "none"}:
            yield f"{name} is not read: it is neither gzip nor none"
    for name in (f"{_OTLP}PROTOCOL", f"{_OTLP}TRACES_PROTOCOL"):
        if said.get(name, _PROTOCOL) != _PROTOCOL:
            yield f"{name} is not read: spans go by {_PROTOCOL}, whose port is 4318 as a rule"


def _sampler_unread(said: Mapping[str, str]) -> Iterator[str]:
    sampler = said.get("OTEL_TRACES_SAMPLER", "")
    if sampler and sampler not in _SAMPLERS:
        yield f"OTEL_TRACES_SAMPLER is not read: there is no sampler {sampler:.40} here"
    elif sampler.endswith("traceidratio") and not _RATIO.fullmatch(_ratio(said)):
        yield "OTEL_TRACES_SAMPLER_ARG is not read: it is no number from 0 to 1"


def encoder_findings(written: object) -> Iterator[Finding]:
    """Yield a problem where spans are to be sent and the encoder is not installed."""
    endpoint = value_at((_TRACES, "endpoint"), written)
    if not isinstance(endpoint, str) or not endpoint.strip():
        return
    if not is_false(value_at((_TRACES, "enabled"), written)) and not _has_encoder():
        msg = f"needs the encoder of OpenTelemetry, which is not installed: {INSTALL}"
        yield (_TRACES, "endpoint"), msg


def _has_encoder() -> bool:
    try:
        return find_spec("opentelemetry.proto.collector.trace") is not None
    except ModuleNotFoundError:
        return False


def _said(environ: Mapping[str, str]) -> dict[str, str]:
    return {
        name: text.strip()
        for name, text in environ.items()
        if name.startswith("OTEL_") and text.strip()
    }


def _endpoint(said: Mapping[str, str]) -> Iterator[Setting]:
    name = f"{_OTLP}ENDPOINT"
    if name in said:
        yield Setting((_TRACES, "endpoint"), f"{said[name].rstrip('/')}/v1/traces", name)
    name = f"{_OTLP}TRACES_ENDPOINT"
    if name in said:
        # As it is; without a path, the root is meant.
        url = said[name]
        whole = url if urlsplit(url).path else f"{url}/"
        yield Setting((_TRACES, "endpoint"), whole, name)


def _switches(said: Mapping[str, str]) -> Iterator[Setting]:
    if not _exports(said):
        yield Setting((_TRACES, "enabled"), False, "OTEL_TRACES_EXPORTER")
    # Only this very word switches off, in any case of its letters.
    if said.get("OTEL_SDK_DISABLED", "").lower() == "true":
        yield Setting((_TRACES, "enabled"), False, "OTEL_SDK_DISABLED")


def _exports(said: Mapping[str, str]) -> bool:
    names = said.get("OTEL_TRACES_EXPORTER", "otlp").split(",")
    return "otlp" in {name.strip() for name in names}


def _sampler(said: Mapping[str, str]) -> Iterator[Setting]:
    found = _SAMPLERS.get(said.get("OTEL_TRACES_SAMPLER", ""))
    if found is None:
        return
    parent, ratio = found
    name = "OTEL_TRACES_SAMPLER"
    yield Setting((_TRACES, "sampling", "parent"), parent, name)
    if ratio is None:
        text = _ratio(said)
        ratio = float(text) if _RATIO.fullmatch(text) else 1.0
        name = "OTEL_TRACES_SAMPLER_ARG" if "OTEL_TRACES_SAMPLER_ARG" in said else name
    yield Setting((_TRACES, "sampling", "ratio"), ratio, name)


def _ratio(said: Mapping[str, str]) -> str:
    return said.get("OTEL_TRACES_SAMPLER_ARG", "1.0")


def _resource(said: Mapping[str, str]) -> Iterator[Setting]:
    name = "OTEL_RESOURCE_ATTRIBUTES"
    attributes = _pairs(said.get(name, ""))
    called = attributes.pop("service.name", "")
    if attributes:
        yield Setting((_TRACES, "resource"), attributes, name)
    if "OTEL_SERVICE_NAME" in said:
        called, name = said["OTEL_SERVICE_NAME"], "OTEL_SERVICE_NAME"
    if called:
        yield Setting((_TRACES, "service_name"), called, name)


def _pairs(text: str) -> dict[str, str]:
    """Return `key1=value1,key2=value2`, with the values decoded; what is no pair is passed over."""
    found = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if equals and key.strip():
            found[unquote(key.strip())] = unquote(value.strip())
    return found


def _is_count(text: str) -> bool:
    return _NUMBER.fullmatch(text) is not None and int(text) > 0
