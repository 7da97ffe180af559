"""PRIVACY: read the client's privacy preference and forward it in one form. Pure.

`X-Privacy-Level` is Propylon's own header; `DNT` and `Sec-GPC` (Global Privacy Control) come from browsers. A
preference that is malformed or repeated is refused with 400: a guess could disregard what the user asked for.
"""

from __future__ import annotations

from typing import Literal

from propylon.errors import InvalidRequest
from propylon.proxy.route import NO_PREFERENCE, Level, PrivacyPreference
from propylon.wire.headers import render
from propylon.wire.message import Request

__all__ = ["Privacy"]

_LEVEL = b"x-privacy-level"
_LEVELS: dict[bytes, Level] = {
    b"strict": "strict",
    b"standard": "standard",
    b"permissive": "permissive",
}
_SIGNALS = ((b"dnt", b"DNT"), (b"sec-gpc", b"Sec-GPC"))
_NAMES = {_LEVEL: "X-Privacy-Level", b"dnt": "DNT", b"sec-gpc": "Sec-GPC"}


class Privacy:
    """The privacy rule of a route: whether preferences are read, and what applies when none is sent."""

    __slots__ = ("_ignored", "_required", "_when_absent")

    def __init__(
        self, mode: Literal["ignored", "optional", "required"], default: Level | None = None
    ) -> None:
        """`default` is the level of requests that send none; it satisfies `required`."""
        self._ignored = mode == "ignored"
        self._required = mode == "required"
        self._when_absent = (
            NO_PREFERENCE if default is None or self._ignored else _preference(default, [])
        )

    def __call__(self, request: Request) -> PrivacyPreference:
        """Return the client's preference. Raises InvalidRequest if it is malformed, repeated, or missing."""
        if request.private:
            return self._read(request)
        return self._default()

    def _default(self) -> PrivacyPreference:
        if self._required and self._when_absent is NO_PREFERENCE:
            raise _refused(_LEVEL, "is required: strict, standard or permissive")
        return self._when_absent

    def _read(self, request: Request) -> PrivacyPreference:
        special = request.special
        # Forwarded as sent, malformed and repeated ones too: on this route they are the service's business.
        if self._ignored:
            names = (_LEVEL, b"dnt", b"sec-gpc")
            lines = [(_NAMES[n].encode(), value) for n in names for value in special.get(n, ())]
            return PrivacyPreference(None, render(lines))
        signals = [
            (shown, _single_value(special[name], name, (b"0", b"1")))
            for name, shown in _SIGNALS
            if name in special
        ]
        # DNT and Sec-GPC alone do not satisfy `required`: neither says which level the client wants.
        if _LEVEL not in special:
            return _preference(self._default().level, signals)
        return _preference(_LEVELS[_single_value(special[_LEVEL], _LEVEL, tuple(_LEVELS))], signals)


def _preference(level: Level | None, signals: list[tuple[bytes, bytes]]) -> PrivacyPreference:
    lines = [] if level is None else [(b"X-Privacy-Level", level.encode())]
    return PrivacyPreference(level, render(lines + signals))


def _single_value(sent: list[bytes], name: bytes, known: tuple[bytes, ...]) -> bytes:
    # Repeated, even with equal values: the gateway and the upstream could each read another one.
    if len(sent) > 1:
        raise _refused(name, "stands more than once")
    value = sent[0].lower()
    if value not in known:
        choices = b", ".join(known).decode()
        raise _refused(name, f"must be one of: {choices}")
    return value


def _refused(name: bytes, why: str) -> InvalidRequest:
    shown = _NAMES[name]
    return InvalidRequest(f"The header {shown} {why}", details={"header": shown})
