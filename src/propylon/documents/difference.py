"""Compare two versions of a service's document, and tell what breaks its clients. Pure."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Literal

from propylon.documents.document import Document, Operation, Security

__all__ = ["Change", "differences"]

Kind = Literal[
    "operation_added",
    "operation_removed",
    "required_added",
    "required_removed",
    "field_removed",
    "scopes_tightened",
    "scopes_widened",
]
# More is asked of clients, less is given to them, or more may be done with a token than before.
_BREAKING = frozenset(
    {"operation_removed", "required_added", "field_removed", "scopes_tightened", "scopes_widened"}
)


@dataclass(frozen=True, slots=True)
class Change:
    """One difference: what has changed, of which operation, and what exactly."""

    kind: Kind
    method: str
    path: str
    detail: str = ""

    @property
    def breaking(self) -> bool:
        """Whether clients may fail by it, or reach what they could not."""
        return self.kind in _BREAKING

    def __str__(self) -> str:
        """Return it for the log."""
        text = f"{self.method} {self.path}: {self.kind.replace('_', ' ')}"
        return f"{text}: {self.detail}" if self.detail else text


def differences(old: Document, new: Document) -> Iterator[Change | None]:
    """Yield what has changed from `old` to `new`; None now and then, where the caller may pause."""
    before = yield from _by_key(old)
    after = yield from _by_key(new)
    for key, operation in before.items():
        yield None
        if key not in after:
            yield Change("operation_removed", operation.method, operation.path)
        else:
            yield from _changes(operation, after[key])
    for key, operation in after.items():
        yield None
        if key not in before:
            yield Change("operation_added", operation.method, operation.path)


def _by_key(document: Document) -> Generator[None, None, dict[object, Operation]]:
    found: dict[object, Operation] = {}
    for operation in document.operations:
        found[operation.key] = operation
        yield None
    return found


def _changes(old: Operation, new: Operation) -> Iterator[Change]:
    where = new.method, new.path
    for name in sorted(new.required - old.required):
        yield Change("required_added", *where, name)
    for name in sorted(old.required - new.required):
        yield Change("required_removed", *where, name)
    for name in sorted(old.returned - new.returned):
        yield Change("field_removed", *where, name)
    if old.security != new.security:
        # Both, where some clients lose what others win.
        detail = f"{_said(old.security)} -> {_said(new.security)}"
        if not _covers(new.security, old.security):
            yield Change("scopes_tightened", *where, detail)
        if not _covers(old.security, new.security):
            yield Change("scopes_widened", *where, detail)


def _covers(one: Security, other: Security) -> bool:
    """Whether everybody whom `other` permits is permitted by `one`."""
    if one.optional:
        return True
    if other.optional:
        return False
    return all(any(mine <= theirs for mine in one.alternatives) for theirs in other.alternatives)


def _said(security: Security) -> str:
    if security.optional:
        return "no token"
    return " or ".join(" ".join(sorted(one)) or "any token" for one in security.alternatives)
