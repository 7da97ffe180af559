"""Check a request by what a document says of its operation. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from propylon.proxy.check.json_body import parsed
from propylon.proxy.check.texts import lists, readings

__all__ = ["LARGEST_BODY", "MOST_TOLD", "Fault", "Media", "OperationCheck", "Parameter"]

Json = Any
# Bytes: what an edge keeps of a body anyway, for a retry.
LARGEST_BODY = 64 * 1024
# To say where the faults are takes a hundred times as long as to say that there are some: all of the body is copied for
# each of them, those of other alternatives included.
MOST_TOLD = 8192
# Of one request: a client learns enough from so many.
_MOST_FAULTS = 20
_LONGEST = 200
_UNLIKE = "is not what the document asks for"


class Fault(NamedTuple):
    """What does not fit: where, as `query.limit` or `body.items.0.sku`, and why."""

    place: str
    why: str


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter: its schema, and how an array is sent."""

    name: str
    required: bool
    fits: Callable[[Json], bool]
    several: bool  # an array
    split: str  # between the members of an array; empty: each is sent by itself


@dataclass(frozen=True, slots=True)
class Media:
    """A type that a body may have."""

    kind: str
    validator: Any  # None: passes as it is

    def takes(self, kind: str) -> bool:
        """Tell whether a type falls under this one, which may be a range."""
        # Without a type the recipient may guess (RFC 9110, 8.3), and JSON is what services guess.
        if self.kind in {kind, "*/*"} or (not kind and self.validator is not None):
            return True
        return self.kind.endswith("/*") and kind.startswith(self.kind[:-1])


@dataclass(frozen=True, slots=True)
class OperationCheck:
    """The check of one operation; immutable.

    A body of more than `largest` bytes is not for it. Of one with more than `told` bytes it says only that it does not fit.
    """

    path: tuple[Parameter, ...] = ()
    query: tuple[Parameter, ...] = ()
    headers: tuple[Parameter, ...] = ()
    needs_body: bool = False
    medias: tuple[Media, ...] = ()
    largest: int = LARGEST_BODY
    told: int = MOST_TOLD

    @property
    def reads(self) -> bool:
        """Whether it looks at bodies."""
        return self.needs_body or bool(self.medias)

    def head(
        self,
        path: Mapping[str, str] = {},
        query: bytes = b"",
        headers: Callable[[str], Sequence[str] | None] = lambda _: (),
    ) -> list[Fault]:
        """Return what does not fit of a head: decoded segments by name, the query without `?`, values of a header.

        The values of a header are None where they are not the client's to send.
        """
        faults: list[Fault] = []
        for one in self.path:
            if one.name in path:  # else it is a part of a segment, or of several
                _judge(one, "path", (path[one.name],), faults)
        if self.query:
            found: dict[str, list[str]] = {}
            for name, value in _pairs(query.decode("latin-1")):
                if name in found:
                    found[name].append(value)
                else:
                    found[name] = [value]
            for one in self.query:
                _judge(one, "query", found.get(one.name, ()), faults)
        for one in self.headers:
            sent = headers(one.name)
            if sent is not None:
                _judge(one, "header", sent, faults)
        return faults

    def _media(self, content_type: str) -> Media | None:
        for media in self.medias:
            if media.kind == content_type:  # as nearly all clients write it
                return media
        kind = content_type.partition(";")[0].strip().lower()
        return next((media for media in self.medias if media.takes(kind)), None)

    def body(self, content_type: str, body: bytes) -> Sequence[Fault]:
        """Return what does not fit of a body. Raises InvalidRequest (400) where it should be JSON and is none."""
        if not body:
            return [Fault("body", "is missing")] if self.needs_body else ()
        if not self.medias:
            return ()  # the document does not say what it may be
        media = self._media(content_type)
        if media is None:
            known = ", ".join(media.kind for media in self.medias)
            return [Fault("header.content-type", f"must be {known}")]
        if media.validator is None:
            return ()
        value = parsed(body)
        if media.validator.is_valid(value):
            return ()
        if len(body) > self.told:
            return [Fault("body", _UNLIKE)]
        return _faults_of(media.validator.iter_errors(value))


def _pairs(query: str) -> Iterable[Sequence[str]]:
    if "%" in query or "+" in query:
        return parse_qsl(query, keep_blank_values=True)
    # The same, where nothing is coded, in a third of the time.
    return [pair.partition("=")[::2] for pair in query.split("&") if pair]


def _judge(one: Parameter, where: str, sent: Sequence[str], faults: list[Fault]) -> None:
    if not sent:
        if one.required:
            faults.append(Fault(f"{where}.{one.name}", "is missing"))
    elif not _fits(one, sent):
        faults.append(Fault(f"{where}.{one.name}", _UNLIKE))


def _fits(one: Parameter, sent: Sequence[str]) -> bool:
    if one.several and any(map(one.fits, lists(one.split, sent))):
        return True
    if len(sent) != 1:
        return False
    return any(map(one.fits, readings(sent[0])))


def _faults_of(errors: Iterable[Any]) -> list[Fault]:
    return [
        # The names of a body's fields are the client's.
        Fault(
            ".".join(["body", *map(str, error.instance_path)])[:_LONGEST], error.message[:_LONGEST]
        )
        for error in islice(errors, _MOST_FAULTS)
    ]
