"""Hold one operation as it stands in the merged document, and say who may call it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

__all__ = ["ANYBODY", "REFERENCE", "Callers", "Published", "refer_to", "security_of"]

_PARAMETER = re.compile(r"\{([^{}]*)\}")
REFERENCE = re.compile(r'"#/components/([A-Za-z]+/[A-Za-z0-9._-]+)"')


@dataclass(frozen=True, slots=True)
class Callers:
    """Who may call an operation: a token with all scopes of one of the alternatives, and one of the roles if there are some."""

    alternatives: tuple[frozenset[str], ...] = (frozenset(),)
    roles: frozenset[str] = frozenset()
    anonymous: bool = False

    def permit(self, scopes: frozenset[str], roles: frozenset[str], *, known: bool) -> bool:
        """Tell whether a caller may call it; `known`: the caller has sent a token."""
        if self.anonymous:
            return True
        return (
            known
            and any(one <= scopes for one in self.alternatives)
            and (not self.roles or not self.roles.isdisjoint(roles))
        )


ANYBODY = Callers((), anonymous=True)


@dataclass(frozen=True, slots=True)
class Published:
    """An operation of the merged document.

    `members` is the JSON text of its members without braces, but for `operationId`, `parameters` and `security`.
    """

    segments: tuple[str, ...]
    method: str
    id: str
    members: str
    callers: Callers
    tag: str
    path_parameters: Mapping[str, str] = field(default_factory=dict)
    parameters: tuple[str, ...] = ()

    @property
    def shape(self) -> str:
        """The path without the names of its parameters: paths that differ only in these are one (OpenAPI 3.1.1, 4.8.8.2)."""
        return _PARAMETER.sub("{}", self.path)

    @property
    def path(self) -> str:
        """The path as it is shown."""
        return "/" + "/".join(self.segments)

    def text(self, path: str, schemes: Iterable[str]) -> str:
        """Return the JSON text of the operation under a path of the same shape."""
        names = _PARAMETER.findall(path)
        shown = [
            f'{{"name":{_text(new)},"in":"path","required":true,{members}}}'
            for new, members in zip(names, self.path_parameters.values(), strict=True)
        ]
        parts = [f'"operationId":{_text(self.id)}', self.members]
        if shown or self.parameters:
            parts.append(f'"parameters":[{",".join((*shown, *self.parameters))}]')
        parts.append(f'"security":{security_of(self.callers, schemes)}')
        return "{" + ",".join(parts) + "}"


def security_of(callers: Callers, schemes: Iterable[str]) -> str:
    """Return the JSON text of the security requirements: each alternative, by each scheme that gives tokens."""
    if callers.anonymous and not callers.alternatives:
        return "[]"
    found: list[dict[str, Any]] = [
        {scheme: sorted(scopes)} for scopes in callers.alternatives for scheme in schemes
    ]
    if callers.anonymous:
        found.append({})
    return orjson.dumps(found).decode()


def refer_to(name: str) -> str:
    """Return the JSON text of a reference to a component, `schemas/Envelope`."""
    return f'{{"$ref":"#/components/{name}"}}'


def _text(value: str) -> str:
    return orjson.dumps(value).decode()
