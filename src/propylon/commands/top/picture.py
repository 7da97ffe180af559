"""Add the lines of the stream up, and give them out as rows: of instances and of routes. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from propylon.commands.top.words import (
    breaker,
    condition,
    is_up,
    milliseconds,
    rate,
    share,
    shown,
    sparkline,
)
from propylon.config.models.schema import BUILTIN_SERVICE

__all__ = ["INSTANCES", "ROUTES", "Picture", "Row", "sorted_rows"]

_SEPARATOR = "\x00"
_KNOWN = 20  # bars of a sparkline: one for each line of the stream
INSTANCES = ("service", "instance", "state", "breaker", "requests", "failed", "failures", "latency")
ROUTES = ("route", "service", "per second", "", "4xx", "5xx", "p50", "p95", "p99")


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table: its key, what is shown, and what it is sorted by.

    `key` is service and instance, or route and service; no instance is "".
    """

    key: tuple[str, str]
    cells: tuple[str, ...]
    order: tuple[Any, ...]


class Picture:
    """What the gateway said last."""

    def __init__(self) -> None:
        self.generation, self.seq = "", 0
        self._sections: dict[str, dict[str, Any]] = {}
        self._rates: dict[str, deque[float]] = {}
        self._all: deque[float] = deque(maxlen=3 * _KNOWN)

    def take(self, line: dict[str, Any]) -> None:
        """Take a line of the stream. Raises KeyError, TypeError, AttributeError or ValueError for what is none."""
        if line["full"]:
            self._sections = {}
        for name, entries in line["set"].items():
            self._sections.setdefault(name, {}).update(entries)
        for name, keys in line["gone"].items():
            for key in keys:
                self._sections.get(name, {}).pop(key, None)
        self.generation, self.seq = str(line["generation"]), int(line["seq"])
        self._note_rates()

    def _note_rates(self) -> None:
        routes = self._section("routes")
        self._rates = {key: self._rates.get(key) or deque(maxlen=_KNOWN) for key in routes}
        for key, row in routes.items():
            self._rates[key].append(row[0] or 0.0)
        self._all.append(sum(row[0] or 0.0 for _, row in self._routes()))

    def _section(self, name: str) -> dict[str, Any]:
        return self._sections.get(name, {})

    def _routes(self) -> Iterator[tuple[tuple[str, str], list[Any]]]:
        for key, row in self._section("routes").items():
            route, _, service = key.partition(_SEPARATOR)
            if route and service != BUILTIN_SERVICE:
                yield (route, service), row

    def instance(self, service: str, instance: str) -> dict[str, Any] | None:
        """Return what is known of an instance."""
        known: dict[str, Any] | None = (
            self._services().get(service, {}).get("instances", {}).get(instance)
        )
        return known

    def has_breaker(self, service: str) -> bool:
        """Tell whether a service has a breaker."""
        return self._services().get(service, {}).get("circuit") is not None

    def _services(self) -> dict[str, Any]:
        return self._section("services")

    def instances(self) -> list[Row]:
        """Return a row for each instance, and one for each service without any."""
        rows = []
        for name, service in self._services().items():
            circuit = breaker(service["circuit"])
            if not service["instances"]:
                cells: tuple[str, ...] = (shown(name), "-", "no instance", circuit, "", "", "", "")
                rows.append(Row((name, ""), cells, (name, "", "a", circuit, -1, -1, -1, -1.0)))
            for key, one in service["instances"].items():
                numbers = one["requests"], one["failed"], one["failures"]
                how, latency = condition(one), one["latency_ms"]
                cells = (
                    *(shown(name), shown(key), how, circuit),
                    *(f"{number:,}" for number in numbers),
                    milliseconds(latency),
                )
                # The ill ones come first.
                ill = f"{'z' if is_up(one) else 'a'} {how}"
                order = (name, key, ill, circuit, *numbers, -1.0 if latency is None else latency)
                rows.append(Row((name, key), cells, order))
        return rows

    def routes(self) -> list[Row]:
        """Return a row for each route that has been asked."""
        rows = []
        for (route, service), row in self._routes():
            now, refused, failed, _, _, _, *percentiles = row
            bars = sparkline(self._rates[_SEPARATOR.join((route, service))])
            cells = (
                *(shown(route), shown(service), rate(now), bars),
                *(share(refused, now), share(failed, now)),
                *map(milliseconds, percentiles),
            )
            numbers = [
                -1.0 if one is None else one for one in (now, now, refused, failed, *percentiles)
            ]
            rows.append(Row((route, service), cells, (route, service, *numbers)))
        return rows

    def summary(self) -> str:
        """Return one line about the whole."""
        services = self._services()
        ill = [name for name in services if self._is_ill(services[name])]
        if not services:
            text = "No service is configured yet"
        elif not ill:
            text = (
                f"All {len(services)} services answer"
                if len(services) > 1
                else "The one service answers"
            )
        else:
            text = f"Trouble: {', '.join(shown(name) for name in sorted(ill)[:5])}"
            text += f" and {len(ill) - 5} more" if len(ill) > 5 else ""
        return f"{text}   {rate(self._all[-1] if self._all else None)} requests/s {sparkline(self._all)}"

    @staticmethod
    def _is_ill(service: dict[str, Any]) -> bool:
        circuit = service["circuit"]
        opened = circuit is not None and circuit["state"] != "CLOSED"
        instances = service["instances"].values()
        return opened or not instances or not all(map(is_up, instances))


def sorted_rows(rows: Sequence[Row], column: int, *, falling: bool) -> list[Row]:
    """Return the rows by a column; alike ones by their names."""
    by_name = sorted(rows, key=lambda row: row.key)
    return sorted(by_name, key=lambda row: row.order[column], reverse=falling)
