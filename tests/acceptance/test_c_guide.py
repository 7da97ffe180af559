"""Lines C01 to C20: what the 50 steps of the guide ask for, at `examples/guide`."""

import hashlib
import json
import os
import re
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from tests.gateway.circuits import held
from tests.support import answers
from tests.support.allowance import timed, within
from tests.support.client import Ended, RawClient, chunked, request
from tests.support.containers import read_dockerfile
from tests.support.gateway import free_port
from tests.support.sockets import Socket
from tests.support.systems import (
    EXAMPLES,
    System,
    Systems,
    is_envelope,
    key,
    once,
    run_tests,
)
from tests.support.tokens import BAD_TOKENS, authorized, bearer, mint
from tests.support.upstream import Arrived, Peer, Script
from tests.support.waiting import wait

SERVICES = "/api/v1/services"
JSON = [("Content-Type", "application/json")]
TIMEOUT = 0.3  # seconds, of the strained guide's orders
BUDGET = 4
ILL = (
    "ill",
    "broken",
)  # a service for each line that opens a breaker: it stays open for the other lines
REGISTRATION = {"service_name": "users", "host": "10.0.0.7", "port": 8001}
# The one schema of every error.
ENVELOPE = Draft202012Validator(
    {
        "type": "object",
        "required": ["error", "request_id"],
        "additionalProperties": False,
        "properties": {
            "request_id": {"type": "string", "minLength": 1},
            "error": {
                "type": "object",
                "required": ["code", "message", "details"],
                "additionalProperties": False,
                "properties": {
                    "code": {"type": "string", "pattern": "^[A-Z_]+$"},
                    "message": {"type": "string", "minLength": 1},
                    "details": {"type": "object"},
                },
            },
        },
    }
)


@pytest.fixture
def strained(systems: Systems) -> System:
    """The guide with users that are not there, orders that have little time, and ill services whose breakers open soon."""
    base: dict[str, Any] = {"service": "products", "auth": "none"}
    routes = [
        {"path": "/small", **base, "max_body": 10},
        {"path": "/nobody", "service": "nobody"},
        *({"path": f"/{name}", "service": name, "auth": "none"} for name in ILL),
        {"path": "/bounded", **base, "rate_limit": {"rate": "1/h", "burst": 1}},
    ]
    ill = {
        "url": "${PRODUCTS_SERVICE_URL}",
        "retry": {"attempts": 1},
        "circuit": {"failure_threshold": 3, "min_throughput": 1, "recovery_timeout": "10m"},
    }
    return systems.keep(
        "strained-guide",
        "guide",
        {
            "USERS_SERVICE_URL": f"http://127.0.0.1:{free_port()}",
            key("orders", "timeouts", "first_byte"): f"{TIMEOUT}s",
            **once("users"),
            **once("orders"),
            **once("products"),
        },
        more={"services": {"nobody": {}, **dict.fromkeys(ILL, ill)}, "routes": routes},
        source='\n\n@gateway.api.get("/bug")\ndef bug() -> None:\n    raise ZeroDivisionError\n',
    )


@pytest.fixture
def workers(systems: Systems, tmp_path: Path) -> Iterator[System]:
    """The guide by the command of its container, which starts several workers; it is stopped."""
    last = read_dockerfile(EXAMPLES / "guide" / "Dockerfile")[-1]
    command = " ".join(json.loads(last.all("CMD")[-1])).replace("8000", "{port}")
    assert "PROPYLON_SERVER__STATE_DIR=" in " ".join(last.all("ENV"))
    variables = {
        "PROPYLON_SERVER__STATE_DIR": str(tmp_path / "shared"),
        "PROPYLON_DEFAULTS__RATE_LIMIT__RATE": f"{BUDGET}/h",
        "PROPYLON_DEFAULTS__RATE_LIMIT__BURST": str(BUDGET),
    }
    with systems.start("guide", variables, command=command) as system:
        yield system


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The OpenAPI document, once it has been read."""
    return {}


def read_document(system: System, document: dict[str, Any]) -> dict[str, Any]:
    """Read it once."""
    if not document:
        document.update(system.ask(target="/openapi.json").json())
    return document


def test_c01_health_and_documents(guide: System, document: dict[str, Any]) -> None:
    """C01: /health answers JSON, the documents are there, and the OpenAPI document is valid."""
    health = guide.ask(target="/health")
    assert (health.status, health.get("content-type")) == (200, "application/json")
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert guide.ask(target=path).status == 200
    validate(read_document(guide, document))


def test_c02_bad_bodies_are_named(guide: System) -> None:
    """C02: a missing or ill-typed field, and what is no JSON, is INVALID_REQUEST; details name the field."""
    bodies = {
        json.dumps({**REGISTRATION, "port": "many"}): "port",
        json.dumps({name: REGISTRATION[name] for name in ("service_name", "port")}): "host",
        '{"service_name": ': "",
    }
    for body, field in bodies.items():
        answer = guide.ask_as("root", "POST", SERVICES, JSON, body.encode(), scope="admin")
        assert (answer.status, is_envelope(answer, "INVALID_REQUEST")) in {(400, True), (422, True)}
        assert field in json.dumps(answer.json()["error"]["details"])


@pytest.mark.parametrize(
    ("field", "value"),
    [("port", 0), ("port", 70000), ("host", ""), ("check_interval", 0)],
)
def test_c03_rules_of_our_own(guide: System, field: str, value: Any) -> None:
    """C03: a value of the right type that makes no sense is refused in the same way."""
    body = json.dumps({**REGISTRATION, field: value}).encode()
    answer = guide.ask_as("root", "POST", SERVICES, JSON, body, scope="admin")
    assert (answer.status, is_envelope(answer, "INVALID_REQUEST")) in {(400, True), (422, True)}
    assert field in json.dumps(answer.json()["error"]["details"])


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every operation of a document, as `GET /path`."""
    return {
        f"{method.upper()} {path}": operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in {"get", "post", "put", "patch", "delete"}
    }


def test_c04_models_are_described(guide: System, document: dict[str, Any]) -> None:
    """C04: the gateway's models have descriptions and examples, and the document tells which operations want a token."""
    read_document(guide, document)
    models = {
        name: model
        for name, model in document["components"]["schemas"].items()
        if model.get("type") == "object" and "properties" in model
    }
    bare = [name for name, model in models.items() if not ({"example", "examples"} & model.keys())]
    assert bare == []
    undescribed = [
        f"{name}.{field}"
        for name, model in models.items()
        for field, said in model["properties"].items()
        if "description" not in said and "$ref" not in said
    ]
    assert undescribed == []
    schemes = document["components"]["securitySchemes"].values()
    assert any(one["type"] == "http" and one["scheme"].lower() == "bearer" for one in schemes)
    found = operations(document)
    assert found[f"GET {SERVICES}"]["security"]
    assert not found["GET /health"].get("security")


def test_c05_service_is_told_who_asks(guide: System) -> None:
    """C05: the token's subject reaches the service."""
    answer = guide.ask_as("42", "GET", "/orders")
    assert guide.of("orders", answer).get("x-user-id") == "42"


def test_c06_role_is_needed(guide: System) -> None:
    """C06: without the role the answer is 403 and nothing arrives; with it the request does."""
    answer = guide.ask_as("42", "POST", "/products", body=b"{}", roles=["user"])
    assert (answer.status, is_envelope(answer, "AUTH_ERROR"), guide.hit()) == (403, True, {})
    assert guide.ask_as("42", "POST", "/products", body=b"{}", roles=["admin"]).status == 200


def test_c07_odd_claims_do_no_harm(guide: System) -> None:
    """C07: claims of odd types give no role, and no 500; only scopes are split at spaces."""
    for roles in ("admin user", None, 7, {"admin": True}, [["admin"]], [{"name": "admin"}], ""):
        status = guide.ask_as("42", "POST", "/products", body=b"{}", roles=roles).status
        assert status in {401, 403}, roles
    for scope in (None, 7, {"admin": True}, [["admin"]], "user"):
        status = guide.ask_as("42", "GET", "/api/v1/circuits", scope=scope).status
        assert status in {401, 403}, scope
    assert guide.ask_as("42", "GET", "/api/v1/circuits", scope="user admin").status == 200
    assert guide.hit() == {}


def test_c08_access_levels_are_a_table(guide: System) -> None:
    """C08: each path and method is public, for those with a token, or for a role; what is listed nowhere is not public."""
    table = {
        ("GET", "/products"): (200, 200, 200),
        ("POST", "/products"): (401, 403, 200),
        ("GET", "/orders"): (401, 200, 200),
        ("POST", "/users/login"): (200, 200, 200),
        ("GET", "/users/7"): (401, 200, 200),
        ("GET", "/nowhere"): (404, 404, 404),
    }
    for (method, path), expected in table.items():
        got = (
            guide.ask(method, path).status,
            guide.ask_as("42", method, path, roles=["user"]).status,
            guide.ask_as("42", method, path, roles=["admin"]).status,
        )
        assert got == expected, (method, path)


FORGED = [
    ("X-User-Id", "root"),
    ("x-user-roles", "admin"),
    ("X-USER-SCOPES", "admin"),
    ("X-User-Email", "root@x.example"),
    ("X_User_Id", "root"),
    ("x_user_roles", "admin"),
]


def test_c09_identity_cannot_be_forged(guide: System) -> None:
    """C09: what a client says of itself is removed, in any spelling, on public routes, too."""
    answer = guide.ask("GET", "/products", FORGED)
    assert answer.status == 200
    assert not any("user" in name for name in guide.of("products", answer).names)
    answer = guide.ask("GET", "/orders", [*authorized("42", roles=["user"]), *FORGED])
    arrived = guide.of("orders", answer)
    assert {name: arrived.get(name) for name in arrived.names if "user" in name} == {
        "x-user-id": "42",
        "x-user-roles": "user",
    }


def test_c10_resources_are_documented(guide: System, document: dict[str, Any]) -> None:
    """C10: each resource has its five operations in the document, with their path and query parameters."""
    found = operations(read_document(guide, document))
    for resource, name in (("products", "product"), ("orders", "order")):
        path = f"/api/v1/{resource}"
        item = f"{path}/{{{name}}}"
        wanted = [
            f"GET {path}",
            f"POST {path}",
            *(f"{verb} {item}" for verb in ("GET", "PUT", "DELETE")),
        ]
        assert [one for one in wanted if one not in found] == []
        places = {one["name"]: one["in"] for one in found[f"GET {path}"]["parameters"]}
        assert places.items() >= {"limit": "query", "offset": "query"}.items()
        [parameter] = [one for one in found[f"GET {item}"]["parameters"] if one["in"] == "path"]
        assert (parameter["name"], parameter["required"]) == (name, True)


def test_c11_large_bodies_arrive_whole(guide: System) -> None:
    """C11: five megabytes arrive as they were sent, with a length and in chunks."""
    body = os.urandom(5_000_000)
    digest = hashlib.sha256(body).hexdigest()
    answer = guide.ask_as("42", "POST", "/orders", body=body)
    assert guide.of("orders", answer).hash.hexdigest() == digest
    guide.reset()
    pieces = [body[start : start + 65536] for start in range(0, len(body), 65536)]
    head = request("POST", "/orders", [*authorized(), ("Transfer-Encoding", "chunked")])
    with RawClient(guide.port) as client:
        answer = client.send(head).send(chunked(*pieces)).read()
    assert (answer.status, guide.of("orders", answer).hash.hexdigest()) == (200, digest)


def test_c12_failures_are_handled(strained: System) -> None:
    """C12: a service that is away is 502, one that is silent 504; 5xx pass, and open the breaker."""
    assert strained.ask_as("42", "GET", "/users/7").status == 502
    strained.on("orders", "/orders/silent", answers.hang)
    assert strained.ask_as("42", "GET", "/orders/silent").status == 504
    strained.on("products", "/ill/it", answers.plain("500 Broken", body=b"own words"))
    got = [strained.ask("GET", "/ill/it") for _ in range(4)]
    assert [answer.body for answer in got[:3]] == [b"own words"] * 3
    assert is_envelope(got[3], "CIRCUIT_OPEN")
    assert strained.ask_as("42", "GET", "/orders").status == 200


@pytest.mark.parametrize("status", ["400 Bad", "404 None", "422 No", "500 Broken", "503 Busy"])
def test_c13_errors_of_services_pass(guide: System, status: str) -> None:
    """C13: an error of a service is not touched, and says that it is the service's; ours says that it is ours."""
    guide.on("orders", "/orders/it", answers.plain(status, ["X-Own: yes"], b"own words"))
    answer = guide.ask_as("42", "POST", "/orders/it")
    assert (answer.status, answer.body, answer.get("x-own")) == (
        int(status[:3]),
        b"own words",
        "yes",
    )
    assert answer.get("x-error-source") == "upstream"
    assert guide.ask("GET", "/orders").get("x-error-source") == "gateway"


OVERVIEW = "/api/v1/overview"
PARTS: dict[str, tuple[str, Any]] = {
    "users": ("/me", {"id": 42, "email": "ann@example.com", "roles": ["user"]}),
    "products": ("/products", [{"id": 7, "name": "Teapot", "price": "24.50", "stock": 3}]),
    "orders": ("/orders", []),
}


def part(service: str) -> Script:
    """What a service answers for its part of the overview."""
    body = json.dumps(PARTS[service][1]).encode()
    return answers.plain(headers=["Content-Type: application/json"], body=body)


@timed
def test_c14_parts_are_fetched_together(guide: System, allowance: int) -> None:
    """C14: one answer out of three services; each is asked before the first one has answered."""
    together = threading.Barrier(len(PARTS), timeout=20)

    def meet(service: str) -> Script:
        def script(peer: Peer, arrived: Arrived) -> None:
            together.wait()
            answers.after(0.3, part(service))(peer, arrived)

        return script

    for service, (path, _) in PARTS.items():
        guide.on(service, path, meet(service))
    with within(0.3 + 0.3 * allowance):
        answer = guide.ask_as("42", "GET", OVERVIEW)
    said = answer.json()
    assert (answer.status, said["partial"]) == (200, False)
    got = (said["user"], said["products"], said["orders"])
    assert got == tuple(value for _, value in PARTS.values())


def test_c15_some_parts_may_fail(guide: System) -> None:
    """C15: while one service is down the other parts are there, and that part is an error; all down is 502."""
    for service, (path, _) in PARTS.items():
        guide.on(service, path, part(service))
    guide.on("orders", "/orders", answers.raw(end=answers.reset))
    answer = guide.ask_as("42", "GET", OVERVIEW)
    said = answer.json()
    assert (answer.status, said["partial"]) in {(200, True), (207, True)}
    assert (said["user"]["id"], len(said["products"])) == (42, 1)
    assert said["orders"]["error"].keys() == {"code", "message", "details"}
    for service, (path, _) in PARTS.items():
        guide.on(service, path, answers.plain("500 Broken"))
    answer = guide.ask_as("42", "GET", OVERVIEW)
    assert (answer.status, is_envelope(answer, "UPSTREAM_ERROR")) == (502, True)


def test_c16_caching_headers_are_the_services(guide: System) -> None:
    """C16: what a service says of caching is kept, also in a 304; our own errors are not to be stored."""
    said = ["Cache-Control: max-age=60", 'ETag: "v7"', "Vary: Accept"]
    guide.on("products", "/products/7", answers.plain(headers=said, body=b"{}"))
    answer = guide.ask("GET", "/products/7")
    assert (answer.get("cache-control"), answer.get("etag")) == ("max-age=60", '"v7"')
    assert b"Accept" in answer.all("vary")
    guide.on("products", "/products/7", answers.plain("304 Same", said))
    answer = guide.ask("GET", "/products/7", [("If-None-Match", '"v7"')])
    assert (answer.status, answer.get("etag"), answer.body) == (304, '"v7"', b"")
    assert guide.ask("GET", "/orders").get("cache-control") == "no-store"


def test_c17_every_error_fits_one_schema(strained: System) -> None:
    """C17: every error of the gateway fits one schema; HEAD gets the same without the body."""
    strained.on("orders", "/orders/silent", answers.hang)
    strained.on("products", "/broken/it", answers.plain("500 Broken"))
    wait(lambda: strained.ask("GET", "/broken/it").get("x-error-source") == "gateway")
    strained.ask("GET", "/bounded")
    asked: dict[int, tuple[str, str, bytes, list[tuple[str, str]]]] = {
        400: ("GET", "/orders/%zz", b"", authorized()),
        401: ("GET", "/orders", b"", []),
        403: ("POST", "/products", b"", authorized(roles=["user"])),
        404: ("GET", "/nowhere", b"", []),
        405: ("PUT", "/users/login", b"", authorized()),
        413: ("POST", "/small", b"x" * 11, []),
        422: ("POST", SERVICES, b"{}", [*authorized(scope="admin"), *JSON]),
        429: ("GET", "/bounded", b"", []),
        500: ("GET", "/bug", b"", authorized()),
        502: ("GET", "/users/7", b"", authorized()),
        503: ("GET", "/nobody", b"", authorized()),
        504: ("GET", "/orders/silent", b"", authorized()),
    }
    for status, (method, target, body, headers) in asked.items():
        answer = strained.ask(method, target, headers, body)
        assert answer.status == status, (target, answer.body)
        ENVELOPE.validate(answer.json())
    for target in ("/nowhere", "/orders"):
        with RawClient(strained.port) as client:
            answer = client.send(request("HEAD", target)).read("HEAD")
            assert answer.status in {401, 404}
            assert int(answer.get("content-length") or "0") >= 0
            # No byte of a body: the next answer begins where it ended.
            assert client.send(request("GET", "/livez")).read().status == 200


def test_c18_no_token_in_the_log(guide: System) -> None:
    """C18: whichever way a token comes, no log has it."""
    token = mint("c18")
    guide.ask("GET", "/orders", bearer(token))
    guide.ask("GET", f"/orders?token={token}")
    guide.ask("GET", f"/nowhere?a=1&token={token}")
    expired = BAD_TOKENS["expired"]()
    with RawClient(guide.port) as client:
        assert Socket(client).shake(f"/orders?token={expired}").status in {401, 403}
    last = guide.ask("GET", "/orders", [*bearer(token), ("Cookie", f"session={token}")])
    guide.record(last)
    said = guide.said()
    assert "/orders" in said
    for secret in (token, *token.split(".")[1:], expired):
        assert secret not in said


def test_c19_its_own_tests_pass(tmp_path: Path) -> None:
    """C19: the guide's tests use TestClient with services in the place of the real ones, and tell their coverage.

    All of them run in tests/examples; here those of one section show that coverage is told.
    """
    texts = [file.read_text() for file in (EXAMPLES / "guide/tests").glob("*.py")]
    assert any("TestClient(" in text for text in texts)
    assert any("override_service" in text for text in texts)
    ran = run_tests("guide", tmp_path, "--cov=app", "tests/test_4_authorization.py")
    assert ran.returncode == 0, ran.stdout[-2000:]
    assert re.search(r"(?m)^TOTAL .*\d+%", ran.stdout)


def test_c20_workers_and_the_stop(workers: System, guide: System, document: dict[str, Any]) -> None:
    """C20: with several workers the same holds; a stop lets what is under way end, and takes nothing new."""
    for path in ("/health", "/docs", "/redoc"):
        assert workers.ask(target=path).status == 200
    # The answers of a limited route are others: here there is a limit.
    shown = workers.ask(target="/openapi.json").json()["paths"]
    expected = read_document(guide, document)["paths"]
    assert {path: [*shown[path]] for path in shown} == {
        path: [*expected[path]] for path in expected
    }
    answer = workers.ask_as("c20", "GET", "/users/profile?x=1&x=2&y=")
    assert workers.of("users", answer).target == b"/profile?x=1&x=2&y="
    got = [workers.ask_as("c20-often", "GET", "/orders").status for _ in range(BUDGET + 1)]
    assert got == [200] * BUDGET + [429]
    assert len(workers.pids()) >= 3
    go = threading.Event()
    workers.on("orders", "/orders/slow", held(go, answers.plain(body=b"done")))
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(workers.ask_as, "c20-slow", "GET", "/orders/slow")
        workers.ups["orders"].arrived("/orders/slow")
        workers.process.send_signal(signal.SIGTERM)
        wait(lambda: refuses(workers))
        go.set()
        assert (asking.result().status, asking.result().body) == (200, b"done")
    assert workers.process.wait(30) == 0


def refuses(system: System) -> bool:
    """Whether a new connection gets no answer: it is refused, told to go away, or nobody takes it any more."""
    try:
        with RawClient(system.port, timeout=0.5) as client:
            return client.send(request("GET", "/livez")).read().status == 503
    except (OSError, Ended):
        return True
