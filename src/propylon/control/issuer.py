"""Write and sign access tokens (RFC 7519)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import jwt

__all__ = ["Issued", "Issuer"]


@dataclass(frozen=True, slots=True)
class Issued:
    """A signed access token, its `jti` and its `exp`. It is valid for at least `life` seconds."""

    token: str = field(repr=False)
    token_id: str
    expires: float
    life: float


@dataclass(frozen=True, slots=True)
class Issuer:
    """Signs access tokens with the secret that the gateway verifies them with.

    `expires` is the lifetime of a token in seconds. `clock` is the wall clock. `ids` returns a new unique id.
    `scopes_claim` and `roles_claim` must be among the claims that the verifier reads scopes and roles from.
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
    subject_claim: str = "sub"
    kind: str = "JWT"  # the header's `typ`

    def issue(
        self,
        subject: str,
        *,
        scopes: Iterable[str] = (),
        roles: Iterable[str] = (),
        email: str = "",
        after: float = -math.inf,
    ) -> Issued:
        """Return a token. Tokens of this subject that were issued before `after` are revoked."""
        now = self.clock()
        issued = _issued_at(now, after)
        # Rounded up: the token is valid for at least as long as `expires_in` tells the client.
        expires = math.ceil(now + self.expires)
        token_id = self.ids()
        claims: dict[str, object] = {
            self.scopes_claim: sorted(scopes),
            self.roles_claim: sorted(roles),
            "type": "access",
            "iat": issued,
            "exp": expires,
            "jti": token_id,
        }
        # The subject last: where it is read from another claim, such as email, no other value may stand there.
        claims |= {**self._optional(email), self.subject_claim: subject}
        token = jwt.encode(claims, self.secret, self.algorithm, {"typ": self.kind})
        return Issued(token, token_id, float(expires), self.expires)

    def _optional(self, email: str) -> dict[str, object]:
        """Return the claims that have a value; a token carries no empty ones."""
        audience = self.audience[0] if len(self.audience) == 1 else list(self.audience)
        claims = {"email": email, "iss": self.issuer, "aud": audience}
        return {name: claim for name, claim in claims.items() if claim}


def _issued_at(now: float, after: float) -> int | float:
    """Return `iat`, in whole seconds, because some libraries cannot read fractions.

    In the second in which the subject's tokens were revoked, rounding down would give a new token an `iat` before the
    revocation. So `iat` is a fraction there, which RFC 7519 (section 2, NumericDate) allows.
    """
    whole = math.floor(now)
    return whole if whole >= after else now
