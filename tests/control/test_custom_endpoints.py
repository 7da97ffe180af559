"""A team's endpoints on the app: found, routed like the gateway's, and never laxer than they ask to be."""

from collections.abc import Callable
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, WebSocket
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.routing import Match

from propylon.compile.access import access_of
from propylon.compile.routes import Parts
from propylon.compile.table import compile_table
from propylon.config.models.endpoints import Access, Endpoint
from propylon.config.models.schema import GatewayConfig
from propylon.control.app import create_app
from propylon.control.custom_endpoints import find_endpoints
from propylon.control.identity import current_principal, public, require_scopes
from propylon.errors import GatewayError
from propylon.proxy.authenticate import anonymous
from propylon.proxy.match import Table
from propylon.proxy.principal import Principal
from propylon.proxy.route import Route
from tests.proxy.doubles import STILL, Asked, request
from tests.support.examples import examples

Method = Callable[[FastAPI], None]


async def endpoint() -> str:
    """Answer."""
    return "here"


def app_of(*add: Method) -> tuple[FastAPI, tuple[Endpoint, ...]]:
    """An app with these endpoints on it, and what is found of them."""
    app = create_app("1", [])
    own = tuple(app.routes)
    for one in add:
        one(app)
    return app, find_endpoints(app, own)


def get(path: str, *dependencies: Any, methods: tuple[str, ...] = ("GET",)) -> Method:
    """Put an endpoint there."""

    def add(app: FastAPI) -> None:
        app.add_api_route(
            path, endpoint, methods=list(methods), dependencies=list(dependencies) or None
        )

    return add


def mount(path: str, there: Any = None) -> Method:
    """Mount another app there."""

    def add(app: FastAPI) -> None:
        app.mount(path, there or FastAPI())

    return add


def found(*add: Method) -> list[tuple[str, Access, bool]]:
    """Path, access and exactness of what is found."""
    return [(one.path, one.access, one.exact) for one in app_of(*add)[1]]


def built(*add: Method) -> tuple[FastAPI, Table]:
    """The app with these endpoints, and the table that leads to them."""
    app, endpoints = app_of(*add)
    return app, compile_table(GatewayConfig(), Parts(Asked(), STILL, endpoints=endpoints), {})


def table_of(*add: Method) -> Table:
    """The table that leads to these endpoints."""
    return built(*add)[1]


def access(table: Table, path: str, method: str = "GET") -> Access | int:
    """Whom the gateway asks for what on a path, or how it refuses at once."""
    try:
        return access_of(table.match(request(path.encode(), method=method.encode())))
    except GatewayError as error:
        return error.status


# What is found


def test_what_is_the_gateways_own_is_not_a_teams() -> None:
    """Those that were there before, documentation among them, are left out."""
    assert found() == []
    assert found(get("/mine")) == [("/mine", "known", True)]


def test_whom_an_endpoint_asks() -> None:
    """One that asks who it is decides by itself; one for everybody says so; of any other a token is asked."""

    async def reads(me: Annotated[Principal, current_principal]) -> str:
        return str(me)

    async def nested(me: Annotated[str, Depends(reads)]) -> str:
        return me

    def typed(app: FastAPI) -> None:
        app.get("/typed")(reads)
        app.get("/nested")(nested)

    assert found(
        get("/unsaid"), get("/public", public), get("/scoped", require_scopes("read")), typed
    ) == [
        ("/unsaid", "known", True),
        ("/public", "public", True),
        ("/scoped", "checked", True),
        ("/typed", "checked", True),
        ("/nested", "checked", True),
    ]


def test_both_at_once() -> None:
    """An endpoint that is for everybody and asks who it is: it is asked."""
    assert found(get("/both", public, require_scopes("read"))) == [("/both", "checked", True)]


@pytest.mark.parametrize("prefix", ["", "/api"])
def test_what_a_router_asks_for_all(prefix: str) -> None:
    """Dependencies of a router that is included hold for what is in it, however deep."""
    inner = APIRouter()
    inner.get("/a")(endpoint)
    middle = APIRouter(prefix="/in", dependencies=[public])
    middle.include_router(inner)
    other = APIRouter(prefix="/other")
    other.include_router(inner, dependencies=[require_scopes("read")])

    def add(app: FastAPI) -> None:
        app.include_router(middle, prefix=prefix)
        app.include_router(other, prefix=prefix)
        app.include_router(inner, prefix="/plain")

    assert sorted(found(add)) == sorted(
        [
            (f"{prefix}/in/a", "public", True),
            (f"{prefix}/other/a", "checked", True),
            ("/plain/a", "known", True),
        ]
    )


def test_methods() -> None:
    """Those of the endpoint; the same path may have several."""
    _, endpoints = app_of(get("/a", public), get("/a", methods=("POST", "PUT")))
    assert [(one.methods, one.access) for one in endpoints] == [
        (frozenset({"GET", "HEAD"}), "public"),
        (frozenset({"POST", "PUT"}), "known"),
    ]
    table = table_of(get("/a", public), get("/a", methods=("POST",)))
    assert access(table, "/a") == access(table, "/a", "HEAD") == "public"
    assert access(table, "/a", "POST") == "known"
    assert access(table, "/a", "DELETE") == 405
    table = table_of(get("/a", public), get("/a", methods=("HEAD",)))
    assert access(table, "/a", "HEAD") == "known"


def test_a_websocket_is_none() -> None:
    """It is no request of the kind that is routed here."""

    def add(app: FastAPI) -> None:
        @app.websocket("/ws")
        async def socket(websocket: WebSocket) -> None: ...

    assert found(add) == []


def test_its_body_may_be_as_large_as_any() -> None:
    """The server's `max_body` holds, not the little that the gateway's own endpoints take."""
    config = GatewayConfig.model_validate({"server": {"max_body": "7MB"}})
    _, endpoints = app_of(get("/mine", methods=("POST",)))
    routes = compile_table(config, Parts(Asked(), STILL, endpoints=endpoints), {}).routes
    assert next(one.max_body for one in routes if one.name == "/mine") == 7_000_000


# Paths


@pytest.mark.parametrize(
    ("path", "reached", "not_reached"),
    [
        ("/a", ["/a"], ["/", "/a/b", "/ab", "/b"]),
        ("/", ["/"], ["/a"]),
        ("/a/{x}", ["/a/1", "/a/b"], ["/a", "/a/1/2", "/a/"]),
        ("/a/{x:int}/b", ["/a/1/b"], ["/a/1", "/a/1/c"]),
        ("/a/{x:uuid}", ["/a/00000000-0000-0000-0000-000000000000"], ["/a"]),
        ("/a/{x:path}", ["/a/b", "/a/b/c", "/a/"], ["/ab", "/"]),
        ("/{x:path}", ["/", "/a", "/a/b"], []),
        ("/a/{x}/{y:path}", ["/a/1/b", "/a/1/b/c"], ["/b"]),
        ("/a/{x:path}/end", ["/a/b/end", "/a/b/c/end"], ["/b"]),
        ("/v{version}/a", ["/v1/a", "/v2/a"], ["/v1/b"]),
        ("/files/{name}.json", ["/files/a.json"], ["/files", "/files/a.json/b"]),
        ("/at-{time}/x", ["/at-9/x"], ["/at-9/y"]),
    ],
)
def test_where_an_endpoint_is_reached(
    path: str, reached: list[str], not_reached: list[str]
) -> None:
    """Wherever FastAPI would serve it; a segment with a parameter in it is any segment to the gateway."""
    table = table_of(get(path))
    assert [access(table, one) for one in reached] == ["known"] * len(reached)
    assert [access(table, one) for one in not_reached] == [404] * len(not_reached)


def test_a_mounted_app() -> None:
    """Everything below it needs a token: nobody can say what it would ask for by itself."""
    table = table_of(mount("/files"), get("/here", public))
    for path in ("/files", "/files/", "/files/a/b"):
        assert access(table, path) == "known"
        assert access(table, path, "DELETE") == "known"
    assert access(table, "/filesystem") == 404
    assert access(table, "/here") == "public"


# Never laxer than it asks to be


def dispatched(app: FastAPI, method: str, path: str) -> Any:
    """The endpoint that FastAPI would serve a request with; None if none."""
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [],
        "query_string": b"",
        "root_path": "",
    }
    for one in app.routes:
        match, _ = one.matches(scope)
        if match is Match.FULL:
            return one
    return None


def is_public(serving: Any) -> bool:
    """Whether an endpoint is for everybody; a mounted app does not say so."""
    return any(one.dependency is public for one in getattr(serving, "dependencies", ()))


def is_open(table: Table, path: str) -> bool:
    """Whether the gateway lets a request without a token through to the app."""
    try:
        route: Route = table.match(request(path.encode()))
    except GatewayError:
        return False
    return route.authenticate is anonymous


@pytest.mark.parametrize(
    ("endpoints", "path"),
    [
        # The team's order counts in FastAPI, and what is most specific at the gateway.
        ([get("/{x}/report"), get("/team/{x}", public)], "/team/report"),
        ([get("/{rest:path}"), get("/open", public)], "/open"),
        ([mount("/files"), get("/files/{name}", public)], "/files/secret"),
        # A parameter that takes less than a segment is one that takes a whole one to the gateway.
        ([get("/items/{n:int}", public), get("/items/{name}")], "/items/secret"),
        ([get("/files/{n}.json", public), get("/files/{name}")], "/files/secret.txt"),
        # And what may stand behind a parameter that takes slashes, or must not be missing, is lost.
        ([get("/a/{x:path}/b", public), get("/a/{rest:path}")], "/a/secret"),
        ([get("/a/{x:path}", public), get("/{name}")], "/a"),
    ],
)
def test_whoever_answers_has_been_asked(endpoints: list[Method], path: str) -> None:
    """What asks for a token is not reached without one by way of another endpoint's path."""
    app, table = built(*endpoints)
    serving = dispatched(app, "GET", path)
    assert serving is not None
    assert not is_public(serving)
    assert not is_open(table, path)


SEGMENTS = ["a", "b", "{x}", "{x:int}", "{x}.json", "{x:path}"]
PATHS = st.lists(st.sampled_from(SEGMENTS), min_size=1, max_size=3).map(
    lambda parts: "/" + "/".join(part.replace("x", f"x{at}") for at, part in enumerate(parts))
)
ASKED = st.lists(st.sampled_from(["a", "b", "1", "a.json", "c"]), min_size=1, max_size=3).map(
    lambda parts: "/" + "/".join(parts)
)


@examples(60)
@example([("/a/{x1:path}", True), ("/{x0}", False)], ["/a"])
@given(
    st.lists(st.tuples(PATHS, st.booleans()), min_size=2, max_size=4),
    st.lists(ASKED, min_size=1, max_size=8),
)
def test_no_endpoint_opens_another(written: list[tuple[str, bool]], asked: list[str]) -> None:
    """Whatever endpoints there are: only what is for everybody is served without a question."""
    app, table = built(*(get(path, *([public] * anybody)) for path, anybody in written))
    for path in asked:
        if is_open(table, path):
            serving = dispatched(app, "GET", path)
            assert serving is None or is_public(serving)
