"""Read which tokens an operation accepts, from the `security` of a document. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from propylon.documents.document import BrokenDocument, Security

__all__ = ["other_schemes", "security_of"]

_OTHERS = ("apiKey", "mutualTLS")
# References that lead to references.
_MOST_HOPS = 8


def other_schemes(schemes: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of the schemes that no bearer token satisfies, such as an API key.

    A scheme that the document does not define, or not well, is none of them. The gateway then asks for a token: a mistake
    in a document must not open an operation.
    """
    for name, written in schemes.items():
        scheme = written
        for _ in range(_MOST_HOPS):
            target = scheme.get("$ref") if isinstance(scheme, dict) else None
            if not isinstance(target, str):
                break
            scheme = schemes.get(target.removeprefix("#/components/securitySchemes/"))
        if isinstance(scheme, dict):
            kind, form = scheme.get("type"), str(scheme.get("scheme", "bearer")).lower()
            if kind in _OTHERS or (kind == "http" and form != "bearer"):
                yield name


def security_of(listed: Any, others: frozenset[str], at: str) -> Security:
    """Return which tokens an operation accepts: its `security`, or that of the document. Raises BrokenDocument.

    `others` are the schemes that no bearer token satisfies.
    """
    if not isinstance(listed, list):
        msg = f"{at}.security: must be a list"
        raise BrokenDocument(msg)
    alternatives: list[frozenset[str]] = []
    beside: list[frozenset[str]] = []  # of requirements that want an API key or the like as well
    optional = not listed
    for one in listed:
        requirement = _requirement(one, f"{at}.security")
        optional = optional or not requirement
        scopes = frozenset(_scopes(others, requirement, at))
        # An API key is the service's to check. The gateway asks for the tokens that a document accepts beside it.
        if requirement.keys() - others:
            (beside if requirement.keys() & others else alternatives).append(scopes)
    alternatives = alternatives or beside
    return Security(tuple(dict.fromkeys(alternatives)), optional or not alternatives)


def _scopes(others: frozenset[str], requirement: Mapping[str, Any], at: str) -> Iterator[str]:
    for name, scopes in requirement.items():
        if not isinstance(scopes, list) or not all(isinstance(one, str) for one in scopes):
            msg = f"{at}.security.{name}: must be a list of scopes"
            raise BrokenDocument(msg)
        if name not in others:
            yield from scopes


def _requirement(value: Any, at: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        msg = f"{at}: must be an object"
        raise BrokenDocument(msg)
    return value
