"""Remember the reloads of the configuration, and what each of them changed. Pure: the clock is an argument.

Names and keys are told, and of the values only numbers, switches and times: any text in a configuration may be a secret.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from propylon.config.models.schema import GatewayConfig

__all__ = ["ReloadHistory", "differences"]

_REMEMBERED = 50
_MOST = 50  # lines of one difference
_LONGEST = 300  # characters of a line
_OF_THEIR_OWN = ("routes", "services")


class ReloadHistory:
    """The last reloads of one worker, the newest last."""

    def __init__(self, now: Callable[[], float]) -> None:
        """`now` returns seconds since 1970."""
        self.changed = False  # since whoever reads it set it to False
        self._now = now
        self._known: deque[dict[str, Any]] = deque(maxlen=_REMEMBERED)

    def succeeded(self, before: GatewayConfig, after: GatewayConfig) -> None:
        """Remember a reload that put `after` in the place of `before`."""
        lines = [*_some(differences(before, after))]
        self._note("success", lines or ["nothing has changed"], after.size)

    def failed(self, problems: Iterable[object]) -> None:
        """Remember a reload that changed nothing, and why."""
        self._note("failure", [*_some(map(str, problems))], None)

    def _note(self, result: str, lines: list[str], size: str | None) -> None:
        self.changed = True
        self._known.append({"time": self._now(), "result": result, "lines": lines, "size": size})

    def dump(self) -> list[dict[str, Any]]:
        """Return all of them, for JSON."""
        return list(self._known)


def differences(before: GatewayConfig, after: GatewayConfig) -> Iterator[str]:
    """Yield a line for each thing that is new, gone or changed."""
    yield from _named("service", before.services, after.services)
    yield from _named("route", _routes(before), _routes(after))
    for name in GatewayConfig.model_fields:
        if name not in _OF_THEIR_OWN:
            old, new = getattr(before, name), getattr(after, name)
            if old != new:
                yield from _values(name, old, new)


def _routes(config: GatewayConfig) -> dict[str, BaseModel]:
    found: dict[str, BaseModel] = {}
    for route in config.routes:
        name = route.name or route.path
        methods = " ".join(route.methods)
        found[f"{name} {methods}".strip() if name in found else name] = route
    return found


def _named(kind: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"+ {kind} {name}" for name in after if name not in before)
    yield from (f"- {kind} {name}" for name in before if name not in after)
    for name, new in after.items():
        # What has not changed is the very same object: a reload keeps it.
        if name in before and before[name] is not new:
            yield from (_values(f"{kind} {name}", before[name], new))


def _values(place: str, old: object, new: object) -> Iterator[str]:
    if isinstance(old, BaseModel) and type(old) is type(new):
        for key in type(old).model_fields:
            one, other = getattr(old, key), getattr(new, key)
            if one != other:
                yield from _values(f"{place}.{key}", one, other)
    elif _is_plain(old) and _is_plain(new):
        yield f"~ {place}: {_shown(old)} → {_shown(new)}"
    else:
        yield f"~ {place}"


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, bool | int | float)


def _shown(value: object) -> str:
    return "not set" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _some(lines: Iterable[str]) -> Iterator[str]:
    more = 0
    for at, line in enumerate(lines):
        if at < _MOST:
            yield line[:_LONGEST]
        else:
            more += 1
    if more:
        yield f"… and {more} more"
