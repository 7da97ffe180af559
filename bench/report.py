"""Turns the samples of all rounds into one table of ratios. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from load import Sample

# A core that is busier than this has nothing left to give.
FULL = 0.95


@dataclass(frozen=True)
class Row:
    """One gateway over all rounds: medians, and how far the rounds lie apart."""

    name: str
    checks_tokens: bool
    rps: float
    rps_low: float
    rps_high: float
    cpu: float
    rps_per_cpu_second: float
    p50_ms: float
    p99_ms: float
    load_core: float
    foreign: float
    failures: int

    @property
    def held_back(self) -> bool:
        """The gateway did not fill its core: something else was the limit."""
        return self.cpu < FULL


def summarise(name: str, samples: Sequence[Sample], *, checks_tokens: bool) -> Row:
    rates = [s.rps for s in samples]
    return Row(
        name=name,
        checks_tokens=checks_tokens,
        rps=median(rates),
        rps_low=min(rates),
        rps_high=max(rates),
        cpu=median(s.gateway_cpu for s in samples),
        rps_per_cpu_second=median(s.rps_per_cpu_second for s in samples),
        p50_ms=median(s.p50_ms for s in samples),
        p99_ms=median(s.p99_ms for s in samples),
        load_core=median(s.load_core for s in samples),
        foreign=median(s.foreign for s in samples),
        failures=sum(s.failures for s in samples),
    )


HEADINGS = (
    "gateway",
    "checks the token",
    "req/s",
    "min-max",
    "CPU",
    "req/CPU-s",
    "p50 ms",
    "p99 ms",
    "x Envoy",
    "x HAProxy",
    "x Envoy per CPU-s",
    "x HAProxy per CPU-s",
    "load core",
    "foreign",
    "errors",
)


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown, padded so that a terminal shows them well too."""
    by_name = {row.name: row for row in rows}
    cells = [list(HEADINGS)] + [_cells(row, by_name) for row in _ordered(rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(HEADINGS))]
    lines = [_line(line, widths) for line in cells]
    rule = [":" + "-" * (widths[0] - 1)] + ["-" * (width - 1) + ":" for width in widths[1:]]
    return "\n".join([lines[0], _line(rule, widths), *lines[1:]])


def _ordered(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: -row.rps_per_cpu_second)


def _cells(row: Row, by_name: Mapping[str, Row]) -> list[str]:
    references = [by_name.get("Envoy"), by_name.get("HAProxy")]
    return [
        row.name,
        "yes" if row.checks_tokens else "no",
        f"{row.rps:,.0f}" + ("*" if row.held_back else ""),
        f"{row.rps_low:,.0f}-{row.rps_high:,.0f}",
        f"{row.cpu:.0%}",
        f"{row.rps_per_cpu_second:,.0f}",
        f"{row.p50_ms:.2f}",
        f"{row.p99_ms:.2f}",
        *(_ratio(row.rps, other.rps if other else 0.0) for other in references),
        *(
            _ratio(row.rps_per_cpu_second, other.rps_per_cpu_second if other else 0.0)
            for other in references
        ),
        f"{row.load_core:.0%}",
        f"{row.foreign:.0%}",
        str(row.failures) if row.failures else "-",
    ]


def _ratio(value: float, reference: float) -> str:
    if not reference:
        return "-"
    ratio = value / reference
    return f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.4f}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = [
        cell.ljust(width) if i == 0 else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "| " + " | ".join([first, *rest]) + " |"


def notes(rows: Sequence[Row], alone: Row | None) -> list[str]:
    """What has to be known to read the table rightly."""
    said = [_about_the_load_side(rows, alone)] if alone else []
    said += [_about_latency(rows, alone)] if alone else []
    said += [_about_full_cores(rows), *_about_unchecked_tokens(rows)]
    foreign = max((row.foreign for row in rows), default=0.0)
    said.append(
        f"The machine is shared: in the median round, processes that are not part of this took up to {foreign:.0%} of one "
        "core. Only the ratios count, and only within one run."
    )
    broken = [row.name for row in rows if row.failures]
    if broken:
        said.append(f"FAILED, with wrong answers or socket errors: {', '.join(broken)}.")
    return said


def _about_full_cores(rows: Sequence[Row]) -> str:
    held_back = [row.name for row in _ordered(rows) if row.held_back]
    if not held_back:
        return f"Every gateway used at least {FULL:.0%} of its core: none waited for the load side."
    return (
        f"* {', '.join(held_back)}: the gateway did not fill its core. The load side was the limit, or other "
        "processes took the core: req/s is a lower bound, compare them by req/CPU-s."
    )


def _about_unchecked_tokens(rows: Sequence[Row]) -> list[str]:
    unchecked = [row.name for row in _ordered(rows) if not row.checks_tokens]
    if not unchecked or len(unchecked) == len(rows):
        return []
    text = (
        f"{', '.join(unchecked)}: no token check, since the version that anybody can install has none. They get the "
        "same requests and do less with them."
    )
    return [text]


def _about_the_load_side(rows: Sequence[Row], alone: Row) -> str:
    text = f"Without a gateway, wrk and the service on one core do {alone.rps:,.0f} req/s"
    haproxy = next((row for row in rows if row.name == "HAProxy"), None)
    if haproxy:
        text += f", {alone.rps / haproxy.rps:.1f} x what passes through HAProxy"
    busiest = max(rows, key=lambda row: row.load_core, default=None)
    if busiest:
        text += f"; behind a gateway their core is at most {busiest.load_core:.0%} busy ({busiest.name})"
    return f"{text}."


def _about_latency(rows: Sequence[Row], alone: Row) -> str:
    added = ", ".join(
        f"{row.name} {(row.p50_ms - alone.p50_ms) * 1000:,.0f}"
        for row in sorted(rows, key=lambda row: row.p50_ms)
    )
    return f"µs that each adds to the p50 of a direct call ({alone.p50_ms * 1000:,.0f}): {added}."


def as_json(
    rows: Sequence[Row], samples: Mapping[str, Sequence[Sample]], run: str
) -> dict[str, Any]:
    return {
        "run": run,
        "rows": [asdict(row) for row in rows],
        "samples": {name: [asdict(s) for s in each] for name, each in samples.items()},
    }
