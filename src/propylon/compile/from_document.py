"""Compile `security: from-document`: a route that asks for the scopes that its service's document names.

Rules.

1. The route's own scopes and roles are asked for, too. The document only adds to them.
2. Where a request may reach several operations, the token needs what each of them asks for.
3. What the document does not name is refused (403): endpoints that a service hides from its document would be open.
4. While there is no document, nobody knows what is asked for: 503.
"""

from __future__ import annotations

from dataclasses import dataclass

from propylon.documents.document import Operation
from propylon.documents.in_force import InForce
from propylon.errors import ServiceUnavailable
from propylon.proxy.authorize import Authorize
from propylon.proxy.challenge import insufficient, missing
from propylon.proxy.principal import Principal
from propylon.proxy.rewrite import Rewrite
from propylon.proxy.route import Sender
from propylon.wire.message import Request

__all__ = ["FromDocument"]


@dataclass(frozen=True, slots=True)
class FromDocument:
    """The authorize stage of such a route: `base` is what the route asks for by itself."""

    base: Authorize
    documents: InForce
    service: str
    rewrite: Rewrite | None

    def __call__(self, principal: Principal, request: Request, sender: Sender) -> None:
        """Let the request pass. Raises AuthError, Forbidden, ServiceUnavailable, InvalidRequest."""
        self.base(principal, request, sender)
        found = self.documents.operations(self.service, self.rewrite, request.method, request.path)
        if found is None:
            msg = "The service's document has not been read yet, so its scopes are not known"
            raise ServiceUnavailable(msg, details={"service": self.service})
        if not found:
            _refuse(principal, frozenset(), "the operation is not in the service's document")
        for operation in found:
            _check(principal, operation)


def _check(principal: Principal, operation: Operation) -> None:
    security = operation.security
    if not security.permits(principal.scopes, known=principal.known):
        nearest = min(security.alternatives, key=lambda one: len(one - principal.scopes))
        _refuse(principal, nearest, f"{operation.method} {operation.path} asks for them")


def _refuse(principal: Principal, scopes: frozenset[str], reason: str) -> None:
    if not principal.known:
        raise missing()
    msg = "The token does not permit this"
    raise insufficient(msg, scopes, reason)
