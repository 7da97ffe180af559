"""Answer in place of a service that is under maintenance, but for the clients who do the work. Pure.

It stands where the addresses of clients are looked at: before any token is verified, and before any limit counts.
"""

from __future__ import annotations

from dataclasses import dataclass

from propylon.errors import Forbidden, Maintenance
from propylon.proxy.authorize import ClientsRule
from propylon.proxy.route import Admits, Sender
from propylon.wire.message import Request

__all__ = ["Maintained"]


@dataclass(frozen=True, slots=True)
class Maintained:
    """The clients stage of a route under maintenance.

    `clients` is the stage that the route would have, and is asked first: 403 stays 403. `allow` lets the addresses pass
    that reach the service all the same; None: there are none. `page` is the Content-Type and the body of the answer,
    None for the usual form of errors.
    """

    clients: Admits | None
    allow: ClientsRule | None
    status: int
    retry_after: bytes
    page: tuple[bytes, bytes] | None = None

    def __call__(self, request: Request, sender: Sender) -> None:
        """Let the request pass, or raise Forbidden or Maintenance."""
        if self.clients is not None:
            self.clients(request, sender)
        if not self._passes(request, sender):
            raise self._refusal()

    def _passes(self, request: Request, sender: Sender) -> bool:
        if self.allow is None:
            return False
        try:
            self.allow(request, sender)
        except Forbidden:
            return False
        return True

    def _refusal(self) -> Maintenance:
        msg = "This part of the API is under maintenance"
        error = Maintenance(msg, headers=((b"Retry-After", self.retry_after),))
        error.status = self.status
        error.page = self.page
        return error
