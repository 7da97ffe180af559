"""The dependencies that tell an endpoint who is asking, on an app of a team's own."""

import asyncio
from types import SimpleNamespace
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.routing import iter_route_contexts

from propylon.control.app import create_app
from propylon.control.identity import (
    current_principal,
    declared_access,
    public,
    require_roles,
    require_scopes,
)
from propylon.proxy.principal import ANONYMOUS, Principal
from propylon.upstream.inprocess import CONTEXT

ANN = Principal("ann", scopes=frozenset({"read", "write"}), roles=frozenset({"clerk"}))


def the_app() -> FastAPI:
    """Endpoints that ask who it is, in every way that there is."""
    app = create_app("1", [])

    @app.get("/annotated")
    async def annotated(me: Annotated[Principal, current_principal]) -> str:
        return str(me)

    @app.get("/depends")
    def depends(me: Annotated[Principal, Depends(current_principal)]) -> str:
        return str(me)

    @app.get("/default")
    async def default(me: Principal = current_principal) -> str:
        return str(me)

    @app.get("/read", dependencies=[require_scopes("read")])
    async def read() -> str:
        return "read"

    @app.get("/both")
    async def both(me: Annotated[Principal, require_scopes("read", "write")]) -> str:
        return str(me)

    @app.get("/admin", dependencies=[Depends(require_scopes("admin"))])
    async def admin() -> str:
        return "admin"

    @app.get("/staff", dependencies=[require_roles("admin", "clerk")])
    async def staff(me: Annotated[Principal, current_principal]) -> str:
        return str(me)

    @app.get("/boss")
    async def boss(me: Annotated[Principal, require_roles("boss")]) -> str:
        return str(me)

    async def named(me: Annotated[Principal, current_principal]) -> str:
        return me.subject.title()

    @app.get("/nested")
    async def nested(name: Annotated[str, Depends(named)]) -> str:
        return name

    @app.get("/public", dependencies=[public])
    async def anybody() -> str:
        return "anybody"

    @app.get("/unsaid")
    async def unsaid(request: Request) -> str:
        return "unsaid"

    return app


APP = the_app()


class Behind:
    """The app as the gateway calls it: who is asking stands in the scope's state."""

    def __init__(self, app: FastAPI, principal: Any) -> None:
        self.app = app
        self.principal = principal

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass it on."""
        if scope["type"] == "http":
            scope["state"] = {CONTEXT: SimpleNamespace(principal=self.principal)}
        await self.app(scope, receive, send)


def get(app: Any, path: str, **headers: str) -> httpx.Response:
    """Ask an app; a bug of its is its 500."""

    async def main() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://a") as client:
            return await client.get(path, headers=headers)

    return asyncio.run(main())


def ask(path: str, principal: Any = ANN) -> httpx.Response:
    """Ask as somebody."""
    return get(Behind(APP, principal), path)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/annotated", "ann"),
        ("/depends", "ann"),
        ("/default", "ann"),
        ("/read", "read"),
        ("/both", "ann"),
        ("/staff", "ann"),
        ("/nested", "Ann"),
        ("/public", "anybody"),
        ("/unsaid", "unsaid"),
    ],
)
def test_who_may(path: str, said: str) -> None:
    """Whoever is what the endpoint asks for gets in, however it asks."""
    answer = ask(path)
    assert (answer.status_code, answer.json()) == (200, said)


NEEDING = ["/annotated", "/depends", "/default", "/read", "/both", "/admin", "/staff", "/nested"]


@pytest.mark.parametrize("path", NEEDING)
@pytest.mark.parametrize(
    "somebody",
    [ANONYMOUS, None, "ann", SimpleNamespace(subject="ann", known=True, scopes={"read"})],
)
def test_nobody(path: str, somebody: Any) -> None:
    """Nobody known, or something that is no principal of ours: 401 that asks for a token."""
    answer = ask(path, somebody)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "AUTH_ERROR")
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("path", NEEDING)
@pytest.mark.parametrize(
    "headers", [{}, {"X-User-Id": "ann", "Authorization": "Bearer x", "propylon": "ann"}]
)
def test_without_the_gateway(path: str, headers: dict[str, str]) -> None:
    """The app alone knows nobody, whatever the headers say."""
    answer = get(APP, path, **headers)
    assert answer.status_code == 401


@pytest.mark.parametrize("state", [{}, {CONTEXT: None}, {CONTEXT: object()}, {"other": ANN}])
def test_a_state_without_it(state: dict[str, object]) -> None:
    """A state that does not say who is asking: 401."""

    async def other(scope: Any, receive: Any, send: Any) -> None:
        scope["state"] = dict(state)
        await APP(scope, receive, send)

    assert get(other, "/annotated").status_code == 401


@pytest.mark.parametrize(
    ("path", "challenge"),
    [
        ("/admin", 'Bearer error="insufficient_scope", scope="admin"'),
        ("/boss", 'Bearer error="insufficient_scope"'),
    ],
)
def test_who_may_not(path: str, challenge: str) -> None:
    """Known, and not allowed: 403; the challenge names the scopes that would do."""
    answer = ask(path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "AUTH_ERROR")
    assert answer.headers["www-authenticate"] == challenge


@pytest.mark.parametrize("scopes", [frozenset(), frozenset({"read"}), frozenset({"write"})])
def test_all_scopes(scopes: frozenset[str]) -> None:
    """Some of them do not do."""
    answer = ask("/both", Principal("ann", scopes=scopes))
    assert answer.status_code == 403
    expected = 'Bearer error="insufficient_scope", scope="read write"'
    assert answer.headers["www-authenticate"] == expected


@pytest.mark.parametrize("roles", ["admin", "clerk"])
def test_any_role(roles: str) -> None:
    """One of them does."""
    assert ask("/staff", Principal("ann", roles=frozenset({roles}))).status_code == 200


@pytest.mark.parametrize("make", [require_scopes, require_roles])
@pytest.mark.parametrize("names", [(), ("",)])
def test_requirements_that_say_nothing(make: Any, names: tuple[str, ...]) -> None:
    """Without a name, one would let everybody in and the other nobody: an error where it is written."""
    with pytest.raises(ValueError, match="one or more names"):
        make(*names)


@pytest.mark.parametrize("name", ["a b", 'a"', "a\\", "a\r\nb", "ä"])
def test_scopes_that_are_none(name: str) -> None:
    """What would break out of the challenge is an error where it is written."""
    with pytest.raises(ValueError, match="one or more names"):
        require_scopes(name)


# In tests of a team's own


def test_overriding() -> None:
    """One override stands in for the gateway, for everything that asks who it is."""
    app = the_app()
    app.dependency_overrides[current_principal] = lambda: Principal(
        "42", scopes=frozenset({"read"}), roles=frozenset({"clerk"})
    )
    statuses = {path: get(app, path).status_code for path in [*NEEDING, "/boss"]}
    assert statuses == {
        "/annotated": 200,
        "/depends": 200,
        "/default": 200,
        "/read": 200,
        "/both": 403,
        "/admin": 403,
        "/staff": 200,
        "/nested": 200,
        "/boss": 403,
    }
    assert get(app, "/annotated").json() == "42"
    app.dependency_overrides.clear()
    assert get(app, "/annotated").status_code == 401


def test_overriding_with_nobody() -> None:
    """An override that knows nobody gets a 401 from what needs somebody."""
    app = the_app()
    app.dependency_overrides[current_principal] = lambda: ANONYMOUS
    assert get(app, "/read").status_code == 401


def test_overriding_one_requirement() -> None:
    """Each requirement is a key of its own; two that read the same are two."""
    app = FastAPI()
    one, other = require_scopes("read"), require_scopes("read")

    @app.get("/one", dependencies=[one])
    async def first() -> int:
        return 1

    @app.get("/other", dependencies=[other])
    async def second() -> int:
        return 2

    app.dependency_overrides[one] = lambda: ANN
    app.dependency_overrides[current_principal] = lambda: Principal("bob")
    assert get(app, "/one").status_code == 200
    assert get(app, "/other").status_code == 500  # no envelope on this app


def test_they_have_names() -> None:
    """A traceback says which one it was."""
    assert repr(current_principal) == "current_principal"
    assert repr(require_scopes("a", "b")) == "require_scopes('a', 'b')"
    assert repr(public) == "public"


# What the gateway asks in front of an endpoint


@pytest.mark.parametrize(
    ("path", "said"),
    [
        *((path, "checked") for path in [*NEEDING, "/boss"]),
        ("/public", "public"),
        ("/unsaid", "undeclared"),
    ],
)
def test_what_an_endpoint_says(path: str, said: str) -> None:
    """Whether it looks at who is asking, is for everybody, or does not say."""
    routes = {getattr(route, "path", ""): route for route in APP.routes}
    assert declared_access(routes[path]) == said


def test_routers_say_it_for_their_endpoints() -> None:
    """What a router, or whoever includes it, depends on, holds for every endpoint of it."""
    strict, open_to_all, plain = (
        APIRouter(dependencies=[require_scopes("read")]),
        APIRouter(prefix="/open"),
        APIRouter(),
    )
    for number, router in enumerate((strict, open_to_all, plain)):

        @router.get(f"/{number}")
        async def endpoint() -> int:
            return 0

    @open_to_all.get("/mine")
    async def mine(me: Annotated[Principal, current_principal]) -> int:
        return 0

    app = FastAPI(openapi_url=None)
    app.include_router(strict)
    app.include_router(open_to_all, dependencies=[public])
    app.include_router(plain)
    said = {route.path: declared_access(route) for route in iter_route_contexts(app.routes)}
    assert said == {
        "/0": "checked",
        "/open/1": "public",
        "/open/mine": "checked",
        "/2": "undeclared",
    }


def test_what_is_no_endpoint() -> None:
    """Mounts, sockets and whatever else has no dependencies: they do not say."""
    assert declared_access(object()) == "undeclared"
    assert declared_access(SimpleNamespace(dependant="x")) == "undeclared"


# The documentation


def test_the_scheme() -> None:
    """Endpoints that ask who it is say so, with the scopes; the others do not."""
    document = APP.openapi()
    assert document["components"]["securitySchemes"] == {
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "A token from the token endpoint, or your issuer's.",
        }
    }
    asked = {path: paths["get"].get("security") for path, paths in document["paths"].items()}
    assert asked == {
        "/annotated": [{"bearer": []}],
        "/depends": [{"bearer": []}],
        "/default": [{"bearer": []}],
        "/read": [{"bearer": ["read"]}],
        "/both": [{"bearer": ["read", "write"]}],
        "/admin": [{"bearer": []}],  # inside of Depends, FastAPI does not look for scopes
        "/staff": [{"bearer": []}],
        "/boss": [{"bearer": []}],
        "/nested": [{"bearer": []}],
        "/public": None,
        "/unsaid": None,
    }
    assert all("parameters" not in paths["get"] for paths in document["paths"].values())
