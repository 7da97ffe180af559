"""Name the gateway's own endpoints: what is routed, for whom, and what no route may stand on."""

from dataclasses import dataclass
from typing import Literal

from propylon.config.models.auth import AuthConfig

__all__ = ["UNDER_PREFIX", "Access", "Endpoint", "all_paths", "builtin_endpoints"]

# public: nobody is asked · checked: a token that is there is verified, the endpoint decides · known: a
# token is required · local: this machine, or `admin` · the others: a scope.
Access = Literal["public", "checked", "known", "local", "read", "admin"]

_GET = frozenset({"GET", "HEAD"})
_POST = frozenset({"POST"})
# Forms with a name, a password and some scopes.
_FORM = 64 * 1024


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint in this process: its path (`{name}` is one segment), and who may ask."""

    path: str
    methods: frozenset[str] | None = _GET
    access: Access = "public"
    exact: bool = True
    max_body: int | None = 0  # None: the server's
    limited: bool = False  # by `auth.tokens.rate_limit`

    def below(self, prefix: str) -> "Endpoint":
        """Return the endpoint under the prefix."""
        return Endpoint(
            prefix + self.path, self.methods, self.access, self.exact, self.max_body, self.limited
        )


_OWN = (
    Endpoint("/health"),
    Endpoint("/livez"),
    Endpoint("/readyz"),
    Endpoint("/docs"),
    Endpoint("/docs/oauth2-redirect"),
    Endpoint("/redoc"),
    Endpoint("/openapi.json"),
    Endpoint("/metrics", access="local"),
)
# Under the prefix.
_ISSUING = (Endpoint("/auth/token", _POST, max_body=_FORM, limited=True),)
_VERIFYING = (
    Endpoint("/users/me", access="read"),
    Endpoint("/auth/revoke", _POST, "known", max_body=_FORM),
    Endpoint("/auth/introspect", _POST, "admin", max_body=_FORM),
)
_UNDER_PREFIX = (
    Endpoint("/circuits", access="admin"),
    Endpoint("/services", _GET | _POST, "admin", max_body=_FORM),
    Endpoint("/services/{service}/{instance_id}", frozenset({"DELETE"}), "admin"),
    Endpoint(
        "/services/{service}/{instance_id}/heartbeat", frozenset({"PUT"}), "admin", max_body=_FORM
    ),
)
# Kept free for what the design puts there; `{}` stands for one segment.
UNDER_PREFIX = (
    "/auth/token",
    "/auth/revoke",
    "/auth/introspect",
    "/users/me",
    "/services",
    "/services/{}/{}",
    "/services/{}/{}/heartbeat",
    "/circuits",
    "/rate-limits",
)


def all_paths(prefix: str) -> set[str]:
    """Return the paths of all endpoints there can be, as they are compared with routes'."""
    return {*(endpoint.path for endpoint in _OWN), *(prefix + path for path in UNDER_PREFIX)}


def builtin_endpoints(prefix: str, auth: AuthConfig) -> tuple[Endpoint, ...]:
    """Return the gateway's own endpoints; those of tokens only where it has to do with them."""
    under = (
        *(_ISSUING if auth.issues else ()),
        *(_VERIFYING if auth.verifies else ()),
        *_UNDER_PREFIX,
    )
    return (*_OWN, *(endpoint.below(prefix) for endpoint in under))
