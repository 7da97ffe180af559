"""Take the rules of routers apart: `Host(`a`) && (PathPrefix(`/x`) || Path(`/y`))`.

A rule becomes its alternatives: each a list of matchers that all must hold. Nothing is run, and nothing grows without a bound.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["BadRule", "Matcher", "alternatives"]

_TOKEN = re.compile(
    r"\s*(?:(?P<op>&&|\|\||!|\(|\)|,)|(?P<name>[A-Za-z]\w*)|`(?P<raw>[^`]*)`|\"(?P<text>(?:[^\"\\]|\\.)*)\")"
)
_LONGEST = 10_000
_MOST = 64
_DEEPEST = 20


class BadRule(ValueError):
    """A rule cannot be read; the message says why."""


class Matcher(NamedTuple):
    """A matcher with its arguments; `negated` if it must not hold."""

    name: str
    args: tuple[str, ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str


_Alternatives = list[tuple[Matcher, ...]]


def alternatives(rule: str) -> _Alternatives:
    """Return the alternatives of a rule. Raises BadRule."""
    reader = _Reader(_tokens(rule))
    found = reader.either(negated=False, depth=0)
    reader.end()
    return found


def _tokens(rule: str) -> list[_Token]:
    if len(rule) > _LONGEST:
        msg = "longer than 10,000 characters"
        raise BadRule(msg)
    tokens, at = [], 0
    text = rule.strip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            msg = f"cannot be read from character {at + 1} on"
            raise BadRule(msg)
        if match["op"]:
            tokens.append(_Token("op", match["op"]))
        elif match["name"]:
            tokens.append(_Token("name", match["name"]))
        else:
            value = (
                match["raw"] if match["raw"] is not None else re.sub(r"\\(.)", r"\1", match["text"])
            )
            tokens.append(_Token("value", value))
        at = match.end()
    return tokens


class _Reader:
    """Reads tokens by recursive descent: `||` binds weaker than `&&`."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._at = 0

    def end(self) -> None:
        """Raise BadRule if anything is left."""
        if self._at < len(self._tokens):
            msg = f"has {self._tokens[self._at].text} where it should end"
            raise BadRule(msg)

    def either(self, *, negated: bool, depth: int) -> _Alternatives:
        """Read alternatives."""
        parts = [self._both(negated=negated, depth=depth)]
        while self._take("||"):
            parts.append(self._both(negated=negated, depth=depth))
        # De Morgan: what is not one of them is none of them.
        return _all(parts) if negated else _bounded([one for part in parts for one in part])

    def _both(self, *, negated: bool, depth: int) -> _Alternatives:
        parts = [self._one(negated=negated, depth=depth)]
        while self._take("&&"):
            parts.append(self._one(negated=negated, depth=depth))
        return _bounded([one for part in parts for one in part]) if negated else _all(parts)

    def _one(self, *, negated: bool, depth: int) -> _Alternatives:
        if depth > _DEEPEST:
            msg = "is nested too deeply"
            raise BadRule(msg)
        if self._take("!"):
            return self._one(negated=not negated, depth=depth + 1)
        if self._take("("):
            inner = self.either(negated=negated, depth=depth + 1)
            self._expect(")")
            return inner
        return [(self._matcher(negated=negated),)]

    def _matcher(self, *, negated: bool) -> Matcher:
        name = self._next("name")
        self._expect("(")
        args = []
        if not self._take(")"):
            args.append(self._next("value"))
            while self._take(","):
                args.append(self._next("value"))
            self._expect(")")
        return Matcher(name, tuple(args), negated)

    def _take(self, text: str) -> bool:
        here = self._tokens[self._at] if self._at < len(self._tokens) else None
        if here is not None and here == _Token("op", text):
            self._at += 1
            return True
        return False

    def _expect(self, text: str) -> None:
        if not self._take(text):
            msg = f"lacks {text}"
            raise BadRule(msg)

    def _next(self, kind: str) -> str:
        here = self._tokens[self._at] if self._at < len(self._tokens) else None
        if here is None or here.kind != kind:
            msg = f"lacks a {kind}"
            raise BadRule(msg)
        self._at += 1
        return here.text


def _all(parts: list[_Alternatives]) -> _Alternatives:
    found: _Alternatives = [()]
    for part in parts:
        found = _bounded([(*one, *other) for one in found for other in part])
    return found


def _bounded(found: _Alternatives) -> _Alternatives:
    if len(found) > _MOST:
        msg = f"has more than {_MOST} alternatives"
        raise BadRule(msg)
    return found
