"""List the gateway's own endpoints: their paths, their methods, who may call them, and on which listener."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from propylon.config.models.auth import AuthConfig
from propylon.config.models.schema import GatewayConfig
from propylon.config.models.syntax import shape

__all__ = [
    "DASHBOARD",
    "PUBLIC",
    "REDIRECT",
    "UNDER_PREFIX",
    "Access",
    "Area",
    "Endpoint",
    "all_paths",
    "builtin_endpoints",
    "listeners_of",
    "only_run_obeys",
    "served",
]

# public: without a token · checked: a token is verified if there is one, and the endpoint decides · known: any
# good token · offered: as checked, and a bad token counts as none · read: a token with that scope · admin: as `admin` in
# the file says · local: /metrics, from this machine, or as `metrics` and `admin` say · docs: as `docs` says ·
# page: public, on the listener of `admin`.
Access = Literal["public", "checked", "offered", "known", "local", "read", "admin", "docs", "page"]
# What a narrower scope opens (`admin.scopes`): groups of endpoints, and `X-Propylon-Explain`; admin: only `admin.scope` does.
Area = Literal["admin", "registry", "tokens", "introspect", "metrics", "cache", "explain"]

DASHBOARD = "/dashboard"
"""Where the page is that shows what the gateway does, unless the file says otherwise."""

PUBLIC = ""
"""The listeners of `server`: host and port, or `listen`; the others are named by what the file has, `127.0.0.1:8001`."""

REDIRECT = "redirect"
"""All listeners that only redirect to https (`server.listen[].redirect`)."""

_GET = frozenset({"GET", "HEAD"})
_POST = frozenset({"POST"})
_DELETE = frozenset({"DELETE"})
_PATCH = frozenset({"PATCH"})
_PUT = frozenset({"PUT"})
_USERS = "/users"
_DOCUMENTS = "/documents"
# Bytes: a form with a name, a password and some scopes.
_FORM = 64 * 1024


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint in this process; `{name}` in its path stands for one segment."""

    path: str
    methods: frozenset[str] | None = _GET
    access: Access = "public"
    exact: bool = True
    max_body: int | None = 0  # bytes; None: `server.max_body`
    limited: bool = False  # whether `auth.tokens.rate_limit` applies
    area: Area = "admin"  # of the access `admin`
    # On the public listener, too, where it does less: a user may revoke tokens of their own there.
    shared: bool = False
    # A route on this path or below it takes the place of the endpoint: the path is a usual one for a service.
    yields: str | None = None

    def yields_to(self, path: str) -> bool:
        """Tell whether a route on `path` takes the place of the endpoint."""
        return self.yields is not None and f"{path}/".startswith(f"{self.yields}/")

    def below(self, prefix: str) -> "Endpoint":
        """Return the endpoint with the prefix before its path."""
        yields = None if self.yields is None else prefix + self.yields
        return replace(self, path=prefix + self.path, yields=yields)


_DOCUMENT = "/openapi.json"

_OWN = (
    Endpoint("/health"),
    Endpoint("/livez"),
    Endpoint("/readyz"),
    Endpoint("/docs", access="docs"),
    Endpoint("/docs/oauth2-redirect", access="docs"),
    Endpoint("/docs/assets/{name}", access="docs"),
    Endpoint("/redoc", access="docs"),
    Endpoint("/scalar", access="docs"),
    Endpoint(_DOCUMENT, access="docs"),
    Endpoint("/metrics", access="local", area="metrics"),
)
# Below the prefix.
_TOKEN = Endpoint("/auth/token", _POST, max_body=_FORM, limited=True)
_ME = Endpoint("/users/me", access="read")
# Limited: each request costs the hash of a password.
_OWN_PASSWORD = Endpoint("/users/me", _PATCH, "known", max_body=_FORM, limited=True)
_MANAGING_USERS = (
    Endpoint("/users", _GET | _POST, "admin", max_body=_FORM, yields=_USERS),
    Endpoint("/users/{name}", _GET | _PATCH | _DELETE, "admin", max_body=_FORM, yields=_USERS),
    Endpoint("/users/{name}/sessions", _GET | _DELETE, "admin", yields=_USERS),
    Endpoint("/users/{name}/sessions/{id}", _DELETE, "admin", yields=_USERS),
)
_VERIFYING = (
    Endpoint("/auth/revoke", _POST, "offered", max_body=_FORM, area="tokens", shared=True),
    Endpoint("/auth/revocations", access="admin", area="tokens"),
    Endpoint("/auth/revocations/{id}", _DELETE, "admin", area="tokens"),
    Endpoint("/auth/introspect", _POST, "admin", max_body=_FORM, area="introspect"),
)
_UNDER_PREFIX = (
    Endpoint("/circuits", access="admin"),
    Endpoint("/circuits/{service}", _PUT, "admin", max_body=_FORM),
    Endpoint("/documents", access="admin", yields=_DOCUMENTS),
    Endpoint("/rate-limits", access="admin"),
    Endpoint("/cache", _DELETE, "admin", area="cache", yields="/cache"),
    Endpoint("/services", _GET | _POST, "admin", max_body=_FORM, area="registry"),
    Endpoint("/services/{service}", access="admin", area="registry"),
    Endpoint(
        "/services/{service}/{instance_id}",
        _GET | _PUT | _DELETE,
        "admin",
        max_body=_FORM,
        area="registry",
    ),
    Endpoint(
        "/services/{service}/{instance_id}/heartbeat",
        _PUT,
        "admin",
        max_body=_FORM,
        area="registry",
    ),
    Endpoint(
        "/services/{service}/{instance_id}/drain",
        _PUT | _DELETE,
        "admin",
        max_body=_FORM,
        area="registry",
    ),
)
# What the dashboard and `propylon top` show.
_LIVE = (
    Endpoint("/gateway/overview", access="admin", yields="/gateway"),
    Endpoint("/gateway/live", access="admin", yields="/gateway"),
    Endpoint("/gateway/tail", access="admin", yields="/gateway"),
    Endpoint("/gateway/history", access="admin", yields="/gateway"),
    Endpoint("/gateway/log-level", _GET | _PUT, "admin", max_body=_FORM, yields="/gateway"),
)
# Paths that no route may take, also those of endpoints that a later version adds; `{}` stands for one segment.
UNDER_PREFIX = (
    "/auth/token",
    "/auth/revoke",
    "/auth/revocations",
    "/auth/revocations/{}",
    "/auth/introspect",
    "/users/me",
    "/services",
    "/services/{}",
    "/services/{}/{}",
    "/services/{}/{}/heartbeat",
    "/services/{}/{}/drain",
    "/circuits",
    "/circuits/{}",
    "/rate-limits",
)


def all_paths(prefix: str) -> set[str]:
    """Return the paths of all possible endpoints, in the form in which routes' paths are compared."""
    own = (shape(endpoint.path) for endpoint in _OWN)
    return {*own, *(prefix + path for path in UNDER_PREFIX)}


def builtin_endpoints(
    prefix: str, auth: AuthConfig, *, users: bool = True, dashboard: str | None = DASHBOARD
) -> tuple[Endpoint, ...]:
    """Return the gateway's endpoints; those about tokens only if the gateway issues or verifies tokens.

    `users` tells whether there are users, for a gateway that issues tokens only while there are some. `dashboard` is the
    path of that page; None: there is none.
    """
    on = auth.issues and (users or not auth.issues_while_users)
    under = (
        *(_issuing(auth) if on else ()),
        *(_MANAGING_USERS if auth.issues else ()),  # the first user may come this way, too
        *((_me(issuing=on), *_VERIFYING) if auth.verifies else ()),
        *_UNDER_PREFIX,
        *_LIVE,
    )
    page = () if dashboard is None else _page(dashboard)
    return (*_OWN, *page, *(endpoint.below(prefix) for endpoint in under))


def _page(path: str) -> tuple[Endpoint, ...]:
    return (
        Endpoint(path, access="page", yields=path),
        Endpoint(f"{path}/assets/{{name}}", access="page", yields=path),
    )


def _issuing(auth: AuthConfig) -> Iterator[Endpoint]:
    # A route on the very path was there before the first user: what it serves must not change by itself.
    yield replace(_TOKEN, yields=_TOKEN.path) if auth.issues_while_users else _TOKEN
    yield _OWN_PASSWORD


def _me(*, issuing: bool) -> Endpoint:
    """Return the endpoint that describes the caller; a service of users takes its place where no tokens are issued."""
    return _ME if issuing else replace(_ME, yields=_USERS)


def listeners_of(config: GatewayConfig) -> tuple[str, ...]:
    """Return the listeners besides the public one, each once."""
    written = (config.admin.listen, config.metrics.listen)
    return tuple(dict.fromkeys(listen for listen in written if listen is not None))


def only_run_obeys(config: GatewayConfig) -> Iterator[str]:
    """Yield the keys about sockets that are set and that only `propylon run` obeys: other servers have their own."""
    if config.server.listen is not None:
        yield "server.listen"
    if config.tls.pairs:
        yield "tls"


def _access_to_docs(endpoint: Endpoint, config: GatewayConfig) -> Access:
    if config.docs.access == "admin":
        return "admin"
    # The pages are the same for everybody. Who is asking matters for the document only.
    filtered = config.docs.filter == "caller" and endpoint.path == _DOCUMENT
    return "offered" if filtered and config.auth.verifies else "public"


def served(endpoint: Endpoint, config: GatewayConfig) -> Iterator[tuple[str, Endpoint]]:
    """Yield the listeners that serve an endpoint, each with the endpoint as it is there; none if it is off."""
    if endpoint.access == "docs":
        if config.docs.access == "off":
            return
        endpoint = replace(endpoint, access=_access_to_docs(endpoint, config))
    admin = config.admin.listen or PUBLIC
    if endpoint.access == "local":
        yield config.metrics.listen or admin, endpoint
    elif endpoint.access == "admin":
        yield admin, endpoint
    elif endpoint.access == "page":
        yield admin, replace(endpoint, access="public")
    else:
        yield PUBLIC, endpoint
        if endpoint.shared and admin != PUBLIC:
            yield admin, endpoint
