"""One API out of many services: their documents are followed, merged, enforced and reported while the gateway runs."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import FastAPI, Security
from fastapi.security import OAuth2PasswordBearer, SecurityScopes

from tests.documents.written import check, returning, written
from tests.support.answers import endless, hang, plain
from tests.support.client import Answer, ask
from tests.support.gateway import Config, Gateway
from tests.support.tokens import SECRET, authorized
from tests.support.upstream import Arrived, Peer, Upstream
from tests.support.waiting import wait

OAUTH = OAuth2PasswordBearer(tokenUrl="token", auto_error=False)
ADMIN = authorized(scope="admin", roles=["admin"])
READER = authorized(scope="read")
WRITER = authorized(scope="read write")
GOOD = {"200": {"description": "good"}}


def caller(scopes: SecurityScopes, token: Annotated[str | None, Security(OAUTH)] = None) -> None:
    """Stand for a service that looks at tokens."""


def service_document(title: str, prefix: str = "", *, redeployed: bool = False) -> bytes:
    """What a real FastAPI service says of itself."""
    app = FastAPI(title=title)

    @app.get(f"{prefix}/items", operation_id="list_items")
    async def items(limit: int = 10) -> list[dict[str, Any]]:
        return []

    @app.post(f"{prefix}/items", dependencies=[Security(caller, scopes=["write"])])
    async def create(name: str) -> None: ...

    @app.get(f"{prefix}/items/{{item_id}}/{'history' if redeployed else 'notes'}")
    async def more(item_id: int) -> list[str]:
        return []

    return json.dumps(app.openapi()).encode()


class Documented:
    """A service with a document, which may be another one the next time; it counts how often it is asked."""

    def __init__(self, body: bytes, path: str = "/openapi.json") -> None:
        self.body = body
        self.asked: list[str | None] = []
        self.up = Upstream(identified=True)
        self.up.on(path, self._answer)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.up.port}"

    def _answer(self, peer: Peer, arrived: Arrived) -> None:
        tag = f'"{hash(self.body)}"'
        self.asked.append(arrived.get("if-none-match"))
        if self.asked[-1] == tag:
            plain("304 Not Modified", [f"ETag: {tag}"])(peer, arrived)
        else:
            plain(headers=["Content-Type: application/json", f"ETag: {tag}"], body=self.body)(
                peer, arrived
            )


class World:
    """A gateway, and three services behind it: one as it is, one stripped, one with a base path."""

    def __init__(
        self, gateway: Gateway, orders: Documented, users: Documented, parts: Documented
    ) -> None:
        self.gateway = gateway
        self.orders, self.users, self.parts = orders, users, parts

    def ask(self, target: str, headers: Any = (), method: str = "GET", body: bytes = b"") -> Answer:
        """Ask the gateway."""
        return ask(self.gateway.port, method, target, headers, body)

    @property
    def document(self) -> dict[str, Any]:
        """What it publishes."""
        found: dict[str, Any] = self.ask("/openapi.json").json()
        return found

    def reports(self) -> dict[str, dict[str, Any]]:
        """What it reports of documents, by service."""
        answer = self.ask("/api/v1/documents", ADMIN)
        assert answer.status == 200, answer.body
        return {one["service"]: one for one in answer.json()["documents"]}


def configuration(orders: Documented, users: Documented, parts: Documented, **more: Any) -> Config:
    """A route for each, and one without a document."""
    return {
        "auth": {"jwt": {"secret": SECRET}},
        "documents": {"interval": "100ms"},
        "services": {
            "orders": {
                "url": orders.url,
                "openapi": True,
                "health": {"path": "/up", "interval": "1s"},
            },
            "users": {"url": users.url, "openapi": "/docs/api.json"},
            "parts": {"url": f"{parts.url}/base", "openapi": True},
            "plain": {"url": orders.url},
        },
        "routes": [
            {
                "name": "orders",
                "path": "/api/orders",
                "service": "orders",
                "security": "from-document",
            },
            {
                "name": "users",
                "path": "/people",
                "service": "users",
                "strip_prefix": True,
                "auth": "optional",
            },
            {"name": "parts", "path": "/parts", "service": "parts", "scopes": ["read"]},
            {"name": "plain", "path": "/plain", "service": "plain", "auth": "none"},
        ],
        **more,
    }


@contextmanager
def running(edge: str, folder: Path) -> Iterator[World]:
    """All of it, once all documents have been read."""
    orders = Documented(service_document("Orders", "/api/orders"))
    users = Documented(service_document("Users"), "/docs/api.json")
    parts = Documented(service_document("Parts", "/base/parts"), "/base/openapi.json")
    gateway = Gateway(edge, configuration(orders, users, parts), folder)
    try:
        gateway.wait_ready()
        found = World(gateway, orders, users, parts)
        wait(lambda: all(one["status"] == "current" for one in found.reports().values()))
        yield found
    finally:
        gateway.stop()
        for service in (orders, users, parts):
            service.up.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One for all who change nothing, or change it back."""
    with running("fast", tmp_path_factory.mktemp("documents")) as found:
        yield found


def test_the_other_edge(tmp_path: Path) -> None:
    """Shows and enforces the same."""
    with running("portable", tmp_path) as world:
        test_one_document_of_all(world)
        test_scopes_are_enforced(world)
        test_pages_load_nothing_from_elsewhere(world, "/redoc")


def test_one_document_of_all(world: World) -> None:
    """The gateway's own API, and what each route shows; an independent validator finds no fault."""
    document = world.document
    check(document)
    shown = {path for path in document["paths"] if not path.startswith("/api/v1")}
    assert shown - {"/health", "/livez", "/readyz", "/metrics"} == {
        *(f"/api/orders/items{more}" for more in ("", "/{item_id}/notes")),
        *(f"/people/items{more}" for more in ("", "/{item_id}/notes")),
        *(f"/parts/items{more}" for more in ("", "/{item_id}/notes")),
        *("/plain", "/plain/{rest}"),
    }
    ids = [one["operationId"] for item in document["paths"].values() for one in item.values()]
    assert len(set(ids)) == len(ids)
    assert {"orders_list_items", "users_list_items", "parts_list_items"} < set(ids)
    assert all(
        one["summary"] and one["tags"]
        for item in document["paths"].values()
        for one in item.values()
    )
    create = document["paths"]["/parts/items"]["post"]
    assert create["security"] == [{"bearer": ["read", "write"]}, {"password": ["read", "write"]}]
    assert create["tags"] == ["parts"]


def test_every_part_of_our_own_is_described(world: World) -> None:
    """Each schema has an example, each parameter of a path a description; bounds are JSON Schema's."""
    document = world.document
    own = {name: one for name, one in document["components"]["schemas"].items() if "." not in name}
    assert [
        name for name, one in own.items() if "example" not in one and "examples" not in one
    ] == []
    for path, item in document["paths"].items():
        for operation in item.values():
            for parameter in operation.get("parameters", ()):
                assert parameter.get("description") or path.startswith(
                    ("/api/orders", "/people", "/parts")
                )
    port = own["RegistrationRequest"]["properties"]["port"]
    assert (port["minimum"], port["maximum"]) == (1, 65535)
    assert not {"ge", "le"} & port.keys()
    assert own["IntrospectionForm"]["properties"]["token"]["minLength"] == 1
    assert len(own["RevocationForm"]["oneOf"]) == 3
    text = json.dumps(document)
    assert "HTTPValidationError" not in set(own)
    assert "http://" not in text.replace("http://127", "")


def test_scopes_are_enforced(world: World) -> None:
    """Those of the document, beside the route's rules; what the document does not name is refused."""
    world.orders.up.requests.clear()
    assert world.ask("/api/orders/items").status == 401
    assert world.ask("/api/orders/items", READER).status == 200
    assert world.ask("/api/orders/items", READER, "HEAD").status == 200
    refused = world.ask("/api/orders/items", READER, "POST", b"{}")
    assert refused.status == 403
    assert 'scope="write"' in (refused.get("www-authenticate") or "")
    assert world.ask("/api/orders/items", WRITER, "POST", b"{}").status == 200
    for hidden in ("/api/orders", "/api/orders/secret", "/api/orders/items/7"):
        assert world.ask(hidden, ADMIN).status == 403
    assert world.ask("/api/orders/items/", READER, "POST").status == 403  # FastAPI redirects it


def test_where_scopes_differ(world: World) -> None:
    """A route that lets through what its service asks scopes for is reported; one that enforces them is not."""
    reports = world.reports()
    assert reports["orders"]["scopes"] == []
    assert reports["users"]["scopes"] == [
        {"route": "users", "method": "POST", "path": "/people/items", "missing": ["write"]}
    ]
    assert world.ask("/api/v1/documents", READER).status == 403
    assert world.ask("/api/v1/documents").status == 401


def test_a_redeployment(world: World) -> None:
    """New paths come and old ones go by themselves; what breaks clients is logged and reported."""
    world.orders.body = service_document("Orders", "/api/orders", redeployed=True)
    wait(lambda: "/api/orders/items/{item_id}/history" in world.document["paths"])
    assert "/api/orders/items/{item_id}/notes" not in world.document["paths"]
    assert world.ask("/api/orders/items/7/history", READER).status == 200
    assert world.ask("/api/orders/items/7/notes", READER).status == 403
    revision = world.reports()["orders"]["revisions"][0]
    assert revision["breaking"]
    assert {(one["kind"], one["path"]) for one in revision["changes"]} == {
        ("operation_removed", "/api/orders/items/{item_id}/notes"),
        ("operation_added", "/api/orders/items/{item_id}/history"),
    }
    assert world.gateway.lines("breaking change: GET /api/orders/items/{item_id}/notes")


def test_it_is_asked_with_its_tag(world: World) -> None:
    """A document that has not changed is not sent again."""
    before = len(world.parts.asked)
    wait(lambda: len(world.parts.asked) >= before + 2)
    assert world.parts.asked[-1] is not None


BROKEN: dict[str, tuple[bytes, str]] = {
    "HTML": (b"<html></html>", "is HTML, not JSON"),
    "version 2": (b'{"swagger": "2.0"}', "is of version 2.0"),
    "not JSON": (b"openapi: 3.1.0", "is not JSON"),
    "deep": (b"[" * 200_000, "is not JSON"),
    "large": (b" " * (5 * 1024 * 1024 + 1), "larger than 5242880 bytes"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_the_last_good_one_is_kept(world: World, kind: str) -> None:
    """A document that cannot be used is reported, and changes nothing; a good one comes into force again."""
    body, words = BROKEN[kind]
    good, world.users.body = world.users.body, body
    try:
        wait(lambda: words in (world.reports()["users"]["problem"] or ""))
        report = world.reports()["users"]
        assert (report["status"], report["operations"]) == ("stale", 3)
        assert "/people/items" in world.document["paths"]
    finally:
        world.users.body = good
    wait(lambda: world.reports()["users"]["status"] == "current")


def test_a_body_without_end(world: World) -> None:
    """Is cut off where it is too large, and the connection closed."""
    good = world.parts.up.scripts[b"/base/openapi.json"]
    world.parts.up.on("/base/openapi.json", endless(b" " * 65536, b"HTTP/1.1 200 OK\r\n\r\n"))
    try:
        wait(lambda: "larger than" in (world.reports()["parts"]["problem"] or ""))
    finally:
        world.parts.up.scripts[b"/base/openapi.json"] = good
    wait(lambda: world.reports()["parts"]["status"] == "current")


def large(service: str) -> bytes:
    """A document of 10,000 paths, read in a process of its own."""
    schema = {"type": "object", "properties": {"id": {"type": "integer"}}}
    paths = {f"/p{n}/{{id}}": {"get": {"responses": returning(schema)}} for n in range(10_000)}
    return json.dumps(written(paths, info={"title": service, "version": "1"})).encode()


def test_ten_thousand_paths(world: World) -> None:
    """All of them are shown, and requests are answered meanwhile."""
    good, world.parts.body = world.parts.body, large("Parts").replace(b'"/p', b'"/parts/p')
    try:
        wait(lambda: world.reports()["parts"]["operations"] == 10_000)
        document = world.document
        assert sum(path.startswith("/parts/p") for path in document["paths"]) == 10_000
    finally:
        world.parts.body = good
    wait(lambda: world.reports()["parts"]["operations"] == 3)
    assert world.reports()["parts"]["revisions"][0]["more"] > 9_000


PAGES = {
    "/docs": ("swagger-ui-bundle.js", "swagger-start.js", "swagger-ui.css"),
    "/redoc": ("redoc.standalone.js", "redoc-start.js"),
    "/scalar": ("scalar.standalone.js", "scalar-start.js"),
    "/docs/oauth2-redirect": ("oauth2-redirect.js",),
}


@pytest.mark.parametrize("page", PAGES)
def test_pages_load_nothing_from_elsewhere(world: World, page: str) -> None:
    """All of it comes from the package, packed for those who can unpack it; the policy forbids the rest."""
    answer = world.ask(page)
    assert answer.status == 200
    policy = answer.get("content-security-policy") or ""
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert b"//" not in answer.body
    for name in PAGES[page]:
        assert f"/docs/assets/{name}".encode() in answer.body
        packed = world.ask(f"/docs/assets/{name}", [("Accept-Encoding", "gzip")])
        plainly = world.ask(f"/docs/assets/{name}")
        assert (packed.status, plainly.status) == (200, 200)
        assert len(packed.body) <= len(plainly.body)
        assert plainly.get("content-encoding") is None


def test_the_page_logs_in_with_a_code_challenge(world: World) -> None:
    """A provider may refuse a public client that sends none (RFC 9700, 2.1.1); Swagger UI must be told to."""
    started = world.ask("/docs/assets/swagger-start.js").body
    assert b"ui.initOAuth({ usePkceWithAuthorizationCodeGrant: true });" in started


def test_only_assets_are_served(world: World) -> None:
    """No other file of the package, and none outside."""
    for name in ("nothing.js", "__init__.py", "swagger-ui-bundle.js.gz", "..%2fapp.py"):
        assert world.ask(f"/docs/assets/{name}").status in (400, 404)


# Other configurations


class Small:
    """A gateway over one service."""

    def __init__(self, service: Documented, folder: Path, **more: Any) -> None:
        config: Config = {
            "auth": {"jwt": {"secret": SECRET}},
            "documents": {"interval": "1h"},
            "services": {"orders": {"url": service.url, "openapi": True}},
            "routes": [
                {
                    "name": "orders",
                    "path": "/api/orders",
                    "service": "orders",
                    "security": "from-document",
                },
                {
                    "name": "open",
                    "path": "/open",
                    "service": "orders",
                    "auth": "none",
                    "rewrite": "/api/orders",
                },
            ],
            **more,
        }
        self.gateway = Gateway("fast", config, folder)
        self.gateway.wait_ready()

    def paths(self, headers: Any = ()) -> set[str]:
        """The public paths of the service that somebody sees."""
        answer = ask(self.gateway.port, "GET", "/openapi.json", headers)
        assert answer.status == 200, answer.body
        return {
            path for path in answer.json()["paths"] if path.startswith(("/api/orders", "/open"))
        }


def test_each_sees_what_it_may_call(tmp_path: Path) -> None:
    """With `filter: caller`: without a token what is open, with scopes what they open, for admins all."""
    service = Documented(service_document("Orders", "/api/orders"))
    small = Small(service, tmp_path, docs={"filter": "caller"})
    try:
        wait(lambda: any("notes" in path for path in small.paths(ADMIN)))

        def operations(headers: Any) -> set[str]:
            paths = ask(small.gateway.port, "GET", "/openapi.json", headers).json()["paths"]
            return {f"{method} {path}" for path, item in paths.items() for method in item}

        assert "get /open/items" in operations(())
        assert "get /api/orders/items" not in operations(())
        assert "get /api/orders/items" in operations(READER)
        assert "post /api/orders/items" not in operations(READER)
        assert "post /api/orders/items" in operations(WRITER)
        assert "get /api/v1/circuits" not in operations(WRITER)
        assert {"get /api/v1/circuits", "post /api/orders/items"} <= operations(ADMIN)
        bad = [("Authorization", "Bearer no-such-token-8Yq")]
        assert operations(bad) == operations(())
        answer = ask(small.gateway.port, "GET", "/openapi.json", READER)
        assert answer.get("cache-control") == "private, no-store"
    finally:
        small.gateway.stop()
        service.up.close()


def test_until_there_is_a_document(tmp_path: Path) -> None:
    """Routes that take their security from it answer 503; the others work; an instance that comes is asked at once."""
    service = Documented(b"<html>")
    small = Small(
        service,
        tmp_path,
        services={"orders": {"openapi": True}},
        registry={"allow": ["127.0.0.0/8"]},
    )
    port = small.gateway.port
    try:
        assert small.paths() >= {"/api/orders", "/api/orders/{rest}", "/open"}
        assert ask(port, "GET", "/api/orders/items", READER).status == 503
        service.body = service_document("Orders", "/api/orders")
        instance = {
            "service_name": "orders",
            "host": "127.0.0.1",
            "port": service.up.port,
            "check_endpoint": "/up",
        }
        headers = [*ADMIN, ("Content-Type", "application/json")]
        assert (
            ask(port, "POST", "/api/v1/services", headers, json.dumps(instance).encode()).status
            == 201
        )
        wait(
            lambda: ask(port, "GET", "/api/orders/items", READER).status == 200
        )  # long before the interval is over
        assert "/api/orders/items" in small.paths()
    finally:
        small.gateway.stop()
        service.up.close()


def test_all_workers_say_the_same(tmp_path: Path) -> None:
    """Each fetches for itself; whichever is asked answers for all, and a change is logged once."""
    service = Documented(service_document("Orders", "/api/orders"))
    small = Small(service, tmp_path, server={"workers": 2}, documents={"interval": "200ms"})
    port = small.gateway.port

    def told() -> list[Any]:
        answers = [
            ask(port, "GET", "/api/v1/documents", ADMIN).json()["documents"] for _ in range(6)
        ]
        return [
            [(one["digest"], [each["new"] for each in one["revisions"]]) for one in some]
            for some in answers
        ]

    try:
        wait(lambda: "/api/orders/items/{item_id}/notes" in small.paths())
        service.body = service_document("Orders", "/api/orders", redeployed=True)
        wait(lambda: all(some[0][1] == [some[0][0]] for some in told()))
        assert len({json.dumps(some) for some in told()}) == 1
    finally:
        small.gateway.stop()
        service.up.close()


def test_a_route_takes_the_place_of_the_endpoint(tmp_path: Path) -> None:
    """A route on `{prefix}/documents` is the team's, with a warning that names both."""
    service = Documented(service_document("Orders"))
    small = Small(
        service,
        tmp_path,
        routes=[{"name": "mine", "path": "/api/v1/documents", "service": "orders", "auth": "none"}],
    )
    try:
        answer = ask(small.gateway.port, "GET", "/api/v1/documents/7")
        assert service.up.of(answer).target == b"/api/v1/documents/7"
        wait(lambda: small.gateway.lines("takes the place of the gateway's own /api/v1/documents"))
    finally:
        small.gateway.stop()
        service.up.close()


def test_a_reload_follows_other_documents(tmp_path: Path) -> None:
    """A service that is not asked any more has none; its routes are shown by themselves again."""
    service = Documented(service_document("Orders", "/api/orders"))
    route = {"name": "orders", "path": "/api/orders", "service": "orders"}
    small = Small(service, tmp_path, routes=[route])
    try:
        wait(lambda: "/api/orders/items" in small.paths())
        file = small.gateway.file
        file.write_text(file.read_text().replace("openapi: true", "openapi: false"))
        small.gateway.process.send_signal(signal.SIGHUP)
        wait(lambda: small.paths() == {"/api/orders", "/api/orders/{rest}"})
    finally:
        small.gateway.stop()
        service.up.close()


def test_a_service_that_does_not_answer(tmp_path: Path) -> None:
    """Holds nothing up: the gateway is ready, and the route is shown by itself."""
    service = Documented(b"")
    service.up.on("/openapi.json", hang)
    small = Small(
        service, tmp_path, routes=[{"path": "/api/orders", "service": "orders", "auth": "none"}]
    )
    try:
        assert small.paths() == {"/api/orders", "/api/orders/{rest}"}
        assert ask(small.gateway.port, "GET", "/api/orders").status == 200
    finally:
        small.gateway.stop()
        service.up.close()
