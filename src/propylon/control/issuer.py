"""Write and sign access tokens (RFC 7519)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import jwt

__all__ = ["Issued", "Issuer"]


@dataclass(frozen=True, slots=True)
class Issued:
    """An access token, and what is known of it without reading it; it counts for `life` seconds at least."""

    token: str = field(repr=False)
    token_id: str
    expires: float
    life: float


@dataclass(frozen=True, slots=True)
class Issuer:
    """Signs tokens with the secret that they are verified with.

    `expires` is how long one counts, in seconds; `clock` is the wall's; `ids` returns an id that nobody else
    has. `scopes_claim` and `roles_claim` must be among those that are read when the token comes back.
    """

    secret: bytes = field(repr=False)
    algorithm: str
    expires: float
    clock: Callable[[], float]
    ids: Callable[[], str]
    issuer: str | None = None
    audience: Sequence[str] = ()
    scopes_claim: str = "scopes"
    roles_claim: str = "roles"

    def issue(
        self,
        subject: str,
        *,
        scopes: Iterable[str] = (),
        roles: Iterable[str] = (),
        email: str = "",
        after: float = -math.inf,
    ) -> Issued:
        """Return a token; `after` is the moment before which tokens of this subject do not count."""
        now = self.clock()
        issued = _issued_at(now, after)
        # Rounded up: it counts at least as long as the client is told.
        expires = math.ceil(now + self.expires)
        token_id = self.ids()
        claims: dict[str, object] = {
            "sub": subject,
            self.scopes_claim: sorted(scopes),
            self.roles_claim: sorted(roles),
            "type": "access",
            "iat": issued,
            "exp": expires,
            "jti": token_id,
        }
        token = jwt.encode(claims | self._optional(email), self.secret, self.algorithm)
        return Issued(token, token_id, float(expires), self.expires)

    def _optional(self, email: str) -> dict[str, object]:
        """Return the claims that are left out where there is nothing to say."""
        audience = self.audience[0] if len(self.audience) == 1 else list(self.audience)
        found = {"email": email, "iss": self.issuer, "aud": audience}
        return {name: claim for name, claim in found.items() if claim}


def _issued_at(now: float, after: float) -> int | float:
    """Return `iat`: whole seconds, which everybody can read.

    In the very second in which the subject's tokens were taken back, rounding down would make an old token
    of a new one; there it is a fraction, which RFC 7519 (section 2, NumericDate) allows.
    """
    whole = math.floor(now)
    return whole if whole >= after else now
