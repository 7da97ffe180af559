"""Give an endpoint its caller, by FastAPI dependencies: `current_principal`, `require_scopes`, `require_roles`, `public`.

The gateway has verified the token before it calls the app. It passes the principal on in the ASGI scope's state, inside
this process. So no header can forge a principal, and no token is verified twice. If the app is called without the
gateway in front, there is no principal, and `current_principal` answers 401.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal

from fastapi import params
from fastapi.dependencies.models import Dependant
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from starlette.requests import HTTPConnection

from propylon.proxy.challenge import insufficient, missing
from propylon.proxy.principal import ANONYMOUS, Principal, is_listable, is_scope
from propylon.upstream.inprocess import CONTEXT

__all__ = [
    "BEARER",
    "DeclaredAccess",
    "Dependency",
    "bearer_in_document",
    "caller_of",
    "client_of",
    "current_principal",
    "declared_access",
    "public",
    "require",
    "require_roles",
    "require_scopes",
]

DeclaredAccess = Literal["checked", "public", "undeclared"]

BEARER = "bearer"  # the scheme's name in the OpenAPI document

_ANONYMOUS = "the endpoint needs to know who is asking"
_NO_SCOPE = "The token lacks a required scope"
_NO_ROLE = "The token lacks a required role"


class _Bearer(SecurityBase):
    """Show in the OpenAPI document that a token is needed. The gateway has verified it already."""

    def __init__(self) -> None:
        self.model = HTTPBearer(
            bearerFormat="JWT", description="A token from the token endpoint, or your issuer's."
        )
        self.scheme_name = BEARER

    async def __call__(self) -> None:
        """Do nothing: the class exists for the document."""


_in_document = params.Depends(_Bearer())
bearer_in_document: Any = _in_document
"""Shows in the OpenAPI document that an endpoint reads a token, which it may do without."""


class Dependency(params.Security):
    """A dependency that a team writes in place of `Depends(...)`, or inside it.

    It is also its own key in `dependency_overrides`, so two of them are equal only if they are the same object.
    """

    def __init__(self, name: str, scopes: tuple[str, ...] = ()) -> None:
        super().__init__(scopes=scopes)
        # The base class is frozen. FastAPI calls what `dependency` names: this object.
        object.__setattr__(self, "dependency", self)
        object.__setattr__(self, "_name", name)

    def __repr__(self) -> str:
        return str(getattr(self, "_name", type(self).__name__))

    __eq__ = object.__eq__
    __hash__ = object.__hash__


def client_of(connection: HTTPConnection) -> str:
    """Return the client's address as the gateway believes it; empty without the gateway in front."""
    context = (connection.scope.get("state") or {}).get(CONTEXT)
    origin = getattr(getattr(context, "downstream", None), "origin", None)
    client = getattr(origin, "client", "")
    return client if isinstance(client, str) else ""


def caller_of(connection: HTTPConnection) -> Principal:
    """Return the caller, who may be anonymous."""
    context = (connection.scope.get("state") or {}).get(CONTEXT)
    principal = getattr(context, "principal", None)
    return principal if isinstance(principal, Principal) else ANONYMOUS


class _Current(Dependency):
    async def __call__(
        self, connection: HTTPConnection, _: Annotated[None, _in_document]
    ) -> Principal:
        """Return the caller. Raises AuthError if the caller is anonymous."""
        # Under a foreign server, another program may have put something else there.
        principal = caller_of(connection)
        if not principal.known:
            raise missing(_ANONYMOUS)
        return principal


class _Public(Dependency):
    async def __call__(self) -> None:
        """Let every caller pass."""


current_principal: Any = _Current("current_principal")
"""The caller, as in `me: Annotated[Principal, current_principal]`. An anonymous caller gets 401."""

public: Any = _Public("public")
"""Marks an endpoint that any client may call without a token: `dependencies=[public]`."""


class _Requires(Dependency):
    """Let a caller pass if `_check` raises nothing."""

    _check: Callable[[Principal], None]

    def __init__(
        self, name: str, check: Callable[[Principal], None], scopes: tuple[str, ...]
    ) -> None:
        super().__init__(name, scopes)
        object.__setattr__(self, "_check", check)

    async def __call__(self, principal: Annotated[Principal, current_principal]) -> Principal:
        """Return the caller. Raises AuthError if the caller is anonymous, Forbidden if `_check` refuses."""
        if not principal.known:  # a test may have overridden `current_principal`
            raise missing(_ANONYMOUS)
        self._check(principal)
        return principal


def require(name: str, check: Callable[[Principal], None], scopes: tuple[str, ...] = ()) -> Any:
    """Return a dependency that lets a caller pass if `check` raises nothing; `scopes` are for the document."""
    return _Requires(name, check, scopes)


def require_scopes(*scopes: str) -> Any:
    """Return a dependency that lets a caller pass who has all these scopes; others get 403.

    `dependencies=[require_scopes("read")]`, or `me: Annotated[Principal, require_scopes("read")]`.
    Raises ValueError for no scope, or a malformed one.
    """
    needed = frozenset(scopes)
    _check_names("require_scopes", scopes, valid=all(map(is_scope, needed)))

    def check(principal: Principal) -> None:
        if not needed <= principal.scopes:
            raise insufficient(_NO_SCOPE, needed)

    return _Requires(f"require_scopes{scopes}", check, scopes)


def require_roles(*roles: str) -> Any:
    """Return a dependency that lets a caller pass who has any of these roles; others get 403.

    `dependencies=[require_roles("admin")]`, or `me: Annotated[Principal, require_roles("admin")]`.
    Raises ValueError for no role, or an empty one.
    """
    wanted = frozenset(roles)
    _check_names("require_roles", roles, valid=all(map(is_listable, wanted)))

    def check(principal: Principal) -> None:
        if wanted.isdisjoint(principal.roles):
            raise insufficient(_NO_ROLE)

    return _Requires(f"require_roles{roles}", check, ())


def _check_names(function: str, names: tuple[str, ...], *, valid: bool) -> None:
    # Without a name, require_scopes would let every caller pass, and require_roles none: neither was meant. With a
    # name that no token can carry, the endpoint would refuse every client.
    if not names or not valid:
        msg = f'{function} takes one or more names without spaces, commas and quotes, as in {function}("read")'
        raise ValueError(msg)


def declared_access(route: object) -> DeclaredAccess:
    """Return how an endpoint guards itself.

    `checked`: it depends on `current_principal`, `require_scopes` or `require_roles`. `public`: it depends on
    `public`. `undeclared`: neither, or `route` is no FastAPI route. The routes of
    `fastapi.routing.iter_route_contexts` include the dependencies of their routers.
    """
    dependant = getattr(route, "dependant", None)
    if not isinstance(dependant, Dependant):
        return "undeclared"
    calls = list(_dependency_calls(dependant))
    if any(isinstance(call, _Current | _Requires) for call in calls):
        return "checked"
    return "public" if any(isinstance(call, _Public) for call in calls) else "undeclared"


def _dependency_calls(dependant: Dependant) -> Iterator[object]:
    for needed in dependant.dependencies:
        yield needed.call
        yield from _dependency_calls(needed)
