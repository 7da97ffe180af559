"""Tell an endpoint who is asking: FastAPI dependencies, filled by the gateway in front of it.

Who is asking travels in this process, in the scope's state: no header can forge it, and nothing is verified
twice. An app that is called without the gateway in front knows nobody.
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
from propylon.proxy.principal import Principal, is_listable, is_scope
from propylon.upstream.inprocess import CONTEXT

__all__ = [
    "BEARER",
    "Asked",
    "current_principal",
    "identity_of",
    "public",
    "require_roles",
    "require_scopes",
]

Asked = Literal["checked", "public", "unsaid"]

BEARER = "bearer"  # the scheme's name in the documentation

_UNKNOWN = "the endpoint needs to know who is asking"
_NO_SCOPE = "The token's scopes do not reach"
_NO_ROLE = "This needs another role"


class _Bearer(SecurityBase):
    """Documents that a token is needed; the gateway has verified it by now."""

    def __init__(self) -> None:
        self.model = HTTPBearer(
            bearerFormat="JWT", description="A token from the token endpoint, or your issuer's."
        )
        self.scheme_name = BEARER

    async def __call__(self) -> None:
        """Do nothing."""


_documented = params.Depends(_Bearer())


class _Dependency(params.Security):
    """A dependency that stands where `Depends(...)` does, and inside of it.

    It is its own key in `dependency_overrides`, so there is only one of each: equal is what is the same.
    """

    def __init__(self, name: str, scopes: tuple[str, ...] = ()) -> None:
        super().__init__(scopes=scopes)
        # The class is frozen; FastAPI reads what to call from here.
        object.__setattr__(self, "dependency", self)
        object.__setattr__(self, "_name", name)

    def __repr__(self) -> str:
        return str(getattr(self, "_name", type(self).__name__))

    __eq__ = object.__eq__
    __hash__ = object.__hash__


class _Current(_Dependency):
    async def __call__(
        self, connection: HTTPConnection, _: Annotated[None, _documented]
    ) -> Principal:
        """Return who is asking. Raises AuthError if nobody knows."""
        state = connection.scope.get("state") or {}
        principal = getattr(state.get(CONTEXT), "principal", None)
        # Whatever else may stand there is not ours.
        if not isinstance(principal, Principal) or not principal.known:
            raise missing(_UNKNOWN)
        return principal


class _Public(_Dependency):
    async def __call__(self) -> None:
        """Ask nobody."""


current_principal: Any = _Current("current_principal")
"""Who is asking: `me: Annotated[Principal, current_principal]`. Nobody known: 401."""

public: Any = _Public("public")
"""Marks an endpoint that is for everybody: `dependencies=[public]`."""


class _Requires(_Dependency):
    """Lets those pass who are what `_check` asks for."""

    _check: Callable[[Principal], None]

    def __init__(
        self, name: str, check: Callable[[Principal], None], scopes: tuple[str, ...]
    ) -> None:
        super().__init__(name, scopes)
        object.__setattr__(self, "_check", check)

    async def __call__(self, principal: Annotated[Principal, current_principal]) -> Principal:
        """Return who is asking. Raises AuthError if nobody knows, Forbidden if they may not."""
        if not principal.known:  # whatever stands in for `current_principal`
            raise missing(_UNKNOWN)
        self._check(principal)
        return principal


def require_scopes(*scopes: str) -> Any:
    """Return a dependency that needs all of these scopes: `dependencies=[require_scopes("read")]`."""
    needed = frozenset(scopes)
    _written("require_scopes", scopes, all(map(is_scope, needed)))

    def check(principal: Principal) -> None:
        if not needed <= principal.scopes:
            raise insufficient(_NO_SCOPE, needed)

    return _Requires(f"require_scopes{scopes}", check, scopes)


def require_roles(*roles: str) -> Any:
    """Return a dependency that needs any of these roles: `dependencies=[require_roles("admin")]`."""
    wanted = frozenset(roles)
    _written("require_roles", roles, all(map(is_listable, wanted)))

    def check(principal: Principal) -> None:
        if wanted.isdisjoint(principal.roles):
            raise insufficient(_NO_ROLE)

    return _Requires(f"require_roles{roles}", check, ())


def _written(name: str, words: tuple[str, ...], good: object) -> None:
    # With none at all, one would let everybody pass, the other nobody: neither was meant. With one that no
    # token can carry, the endpoint would refuse every client.
    if not words or not good:
        msg = f'{name} takes one or more names without spaces, commas and quotes, as in {name}("read")'
        raise ValueError(msg)


def identity_of(route: object) -> Asked:
    """Say whether an endpoint asks who it is ("checked"), asks nobody ("public"), or does not say.

    `route` is a FastAPI route, or what `fastapi.routing.iter_route_contexts` makes of one: there the
    dependencies of the routers that include it are in it, too. Anything else does not say.
    """
    dependant = getattr(route, "dependant", None)
    if not isinstance(dependant, Dependant):
        return "unsaid"
    calls = list(_calls(dependant))
    if any(isinstance(call, _Current | _Requires) for call in calls):
        return "checked"
    return "public" if any(isinstance(call, _Public) for call in calls) else "unsaid"


def _calls(dependant: Dependant) -> Iterator[object]:
    for needed in dependant.dependencies:
        yield needed.call
        yield from _calls(needed)
