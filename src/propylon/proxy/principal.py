"""Say who is asking. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["ANONYMOUS", "Principal"]


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking: subject, scopes, roles and the claims they came from."""

    subject: str = ""
    email: str = ""
    scopes: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()
    claims: Mapping[str, object] = field(default_factory=dict)
    # The identity headers, rendered once for as long as the principal is remembered.
    block: bytes = b""

    @property
    def known(self) -> bool:
        """Whether anybody vouched for them."""
        return bool(self.subject)

    def __str__(self) -> str:
        """Return the subject, as logs name it."""
        return self.subject or "anonymous"


ANONYMOUS = Principal()
