"""Requests are checked against the service's document: what does not fit never reaches the service."""

import gzip
import json
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import FastAPI, Header, Query
from pydantic import BaseModel, ConfigDict, Field

from tests.documents.written import written
from tests.gateway.test_documents import Documented
from tests.support.answers import plain, raw
from tests.support.client import Answer, RawClient, ask, chunked, post_chunked, request
from tests.support.gateway import Config, Gateway
from tests.support.tokens import SECRET, authorized
from tests.support.upstream import Script
from tests.support.waiting import wait

ADMIN = authorized(scope="admin", roles=["admin"])
JSON = [("Content-Type", "application/json")]
HANDSHAKE = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
]


class Line(BaseModel):
    """A line of an order."""

    model_config = ConfigDict(extra="forbid")
    sku: str = Field(pattern="^[A-Z]{3}-[0-9]+$")
    quantity: int = Field(ge=1, le=1000)


class Order(BaseModel):
    """An order, which may stand for others."""

    lines: list[Line] = []
    part_of: "Order | None" = None
    note: str | None = None


def shop(largest: int = 100) -> bytes:
    """What a real FastAPI service says of itself."""
    app = FastAPI(title="Shop")

    @app.get("/orders")
    async def orders(
        limit: Annotated[int, Query(ge=1, le=largest)] = 10,
        x_shop: Annotated[str | None, Header(max_length=3)] = None,
        x_request_id: Annotated[str, Header()] = "",
    ) -> list[str]:
        return []

    @app.put("/orders/{number}")
    async def put(number: int, order: Order) -> None: ...

    @app.get("/answers/{name}")
    async def answer(name: str) -> Line: ...

    @app.get("/orders/latest")
    async def latest() -> None: ...

    document = app.openapi()
    # A client of the gateway need not send what the gateway sends itself.
    for one in document["paths"]["/orders"]["get"]["parameters"]:
        one["required"] = one["required"] or one["name"] == "x-request-id"
    return json.dumps(document).encode()


class Shop:
    """A gateway, and a service behind it whose requests are checked."""

    def __init__(self, gateway: Gateway, service: Documented) -> None:
        self.gateway, self.service = gateway, service

    def ask(
        self, method: str, target: str, headers: Any = (), body: bytes = b"", to: str = "/shop"
    ) -> Answer:
        """Ask the gateway."""
        return ask(self.gateway.port, method, f"{to}{target}", headers, body)

    def put(self, body: Any, headers: Any = JSON, to: str = "/shop") -> Answer:
        """Put an order."""
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.ask("PUT", "/orders/7", headers, body, to)

    def counted(self, route: str = "shop", family: str = "request") -> dict[str, int]:
        """What the gateway has counted of a route."""
        text = ask(self.gateway.port, target="/metrics", headers=ADMIN).body.decode()
        pattern = rf'^propylon_{family}_checks_total{{result="(\w+)",route="{route}"}} (\d+)'
        return {name: int(count) for name, count in re.findall(pattern, text, re.MULTILINE)}

    def changed(self, before: dict[str, int], route: str = "shop") -> dict[str, int]:
        """What was counted since."""
        now = self.counted(route)
        return {name: now[name] - before.get(name, 0) for name in now if now[name] != before[name]}


def configuration(service: Documented) -> Config:
    """A route for each mode."""
    route = {"service": "shop", "strip_prefix": True, "auth": "none"}
    return {
        "auth": {"jwt": {"secret": SECRET}},
        "documents": {"interval": "100ms"},
        "server": {"max_body": "1MB"},
        "services": {"shop": {"url": service.url, "openapi": True}},
        "routes": [
            {"name": "shop", "path": "/shop", "requests": "validate", **route},
            {
                "name": "packed",
                "path": "/packed",
                "requests": "validate",
                "decompress": True,
                **route,
            },
            {"name": "shadow", "path": "/shadow", "requests": "shadow", **route},
            {"name": "sampled", "path": "/sampled", "responses": {"sample": "100%"}, **route},
            {"name": "off", "path": "/off", "requests": False, **route},
            {
                "name": "closed",
                "path": "/closed",
                "requests": "validate",
                "undocumented": "refuse",
                "max_body": "1KB",
                **route,
            },
        ],
    }


@contextmanager
def running(edge: str, folder: Path, document: bytes) -> Iterator[Shop]:
    """Both of them."""
    service = Documented(document)
    gateway = Gateway(edge, configuration(service), folder)
    try:
        gateway.wait_ready()
        yield Shop(gateway, service)
    finally:
        gateway.stop()
        service.up.close()


@pytest.fixture(scope="module", params=["fast", "portable"])
def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    """One on each edge, once its document is in force."""
    with running(request.param, tmp_path_factory.mktemp("checks"), shop()) as found:
        wait(lambda: found.ask("GET", "/orders?limit=0").status == 422)
        yield found


def places(answer: Answer) -> set[str]:
    """Where the answer says that a request does not fit."""
    return set(answer.json()["error"]["details"]["fields"])


GOOD_ORDER = {"lines": [{"sku": "ABC-1", "quantity": 2}], "part_of": {"note": "x"}}


def test_what_fits_reaches_the_service_as_it_was(world: Shop) -> None:
    """Byte for byte, with a length or in chunks."""
    body = json.dumps(GOOD_ORDER, indent=1).encode()
    before = world.counted()
    answer = world.put(body)
    assert answer.status == 200
    assert bytes(world.service.up.of(answer).body) == body
    with RawClient(world.gateway.port) as client:
        pieces = chunked(body[:7], body[7:50], body[50:])
        coded = post_chunked("/shop/orders/7", pieces, JSON).replace(b"POST", b"PUT", 1)
        client.send(coded[:-30])
        client.send(coded[-30:])
        answer = client.read()
    assert answer.status == 200
    assert bytes(world.service.up.of(answer).body) == body
    assert world.ask("GET", "/orders?limit=7", [("X-Shop", "abc")]).status == 200
    assert world.ask("HEAD", "/orders?limit=7").status == 200
    assert world.changed(before) == {"passed": 4}


@pytest.mark.parametrize(
    ("method", "target", "headers", "body", "expected"),
    [
        ("GET", "/orders?limit=0", [], b"", {"query.limit"}),
        ("GET", "/orders?limit=101&limit=102", [], b"", {"query.limit"}),
        ("GET", "/orders?limit=1e999", [], b"", {"query.limit"}),
        ("HEAD", "/orders?limit=x", [], b"", None),
        ("GET", "/orders", [("X-Shop", "long")], b"", {"header.x-shop"}),
        ("PUT", "/orders/x", JSON, b"{}", {"path.number"}),
        ("PUT", "/orders/7", JSON, b"", {"body"}),
        ("PUT", "/orders/7", JSON, b"[]", {"body"}),
        ("PUT", "/orders/7", JSON, b'{"lines":[{"sku":"ABC-1"}]}', {"body.lines.0"}),
        (
            "PUT",
            "/orders/7",
            JSON,
            b'{"lines":[{"sku":"ABC-1","quantity":1},{"sku":"x","quantity":' + b"9" * 300 + b"}]}",
            {"body.lines.1.sku", "body.lines.1.quantity"},
        ),
        (
            "PUT",
            "/orders/7",
            JSON,
            b'{"lines":[{"sku":"ABC-1","quantity":1,"admin":1}]}',
            {"body.lines.0"},
        ),
        ("PUT", "/orders/7", [("Content-Type", "text/plain")], b"{}", {"header.content-type"}),
        ("PUT", "/orders/7", [*JSON, ("Content-Type", "a/b")], b"{}", {"header.content-type"}),
        ("GET", "/orders?limit=x", HANDSHAKE, b"", {"query.limit"}),
    ],
)
def test_what_does_not_fit_is_422(
    world: Shop, method: str, target: str, headers: Any, body: bytes, expected: set[str] | None
) -> None:
    """It names the place, and the service gets nothing."""
    before, arrived = world.counted(), len(world.service.up.requests)
    answer = world.ask(method, target, headers, body)
    assert answer.status == 422
    assert answer.get("x-error-source") == "gateway"
    if expected is not None:
        assert places(answer) == expected
        record = world.gateway.record(answer)
        assert set(record["faults"]) == expected
    assert world.changed(before) == {"refused": 1}
    assert all(one.target == b"/openapi.json" for one in world.service.up.requests[arrived:])


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"NaN",
        b"\xff\xfe{}",
        b"[" * 30_000,
        b"[" * 2000 + b"]" * 2000,
        b'{"note":1e999}',
        b'{"note":' + b"9" * 3000 + b"}",
        b'{"note":"a","note":"b"}',
        b'{"note":"a","\\u006eote":"b"}',
        b'{"note" :"a", "lines":[{"sku":"a","sku" :"b"}]}',
        b'{"note":"\\u0022:","lines":[],"lines":[]}',
    ],
)
def test_what_is_no_json_or_can_be_read_in_two_ways_is_400(world: Shop, body: bytes) -> None:
    """A name twice, too: the service may take the other one than was checked."""
    before = world.counted()
    answer = world.put(body)
    assert (answer.status, places(answer)) == (400, {"body"})
    assert world.changed(before) == {"refused": 1}


def test_a_value_is_never_said_again(world: Shop) -> None:
    """It may be a password: neither the answer nor the log has it."""
    answer = world.put({"note": {"secret": "hunter2"}, "lines": [{"sku": "hunter2"}]})
    assert answer.status == 422
    assert b"hunter2" not in answer.body
    assert "hunter2" not in json.dumps(world.gateway.record(answer))


def test_a_path_that_means_two_operations_must_fit_one(world: Shop) -> None:
    """`/orders/latest` is no number, but an operation of its own."""
    assert world.ask("GET", "/orders/latest").status == 200


def test_what_is_too_large_or_coded_passes_with_a_flag(world: Shop) -> None:
    """The gateway keeps 64 KiB, and unpacks nothing; the log says that it was not checked."""
    before = world.counted()
    large = b'{"lines": 1, "note": "' + b"x" * 70_000 + b'"}'
    with RawClient(world.gateway.port) as client:
        pieces = [large[at : at + 9000] for at in range(0, len(large), 9000)]
        coded = post_chunked("/shop/orders/7", chunked(*pieces), JSON)
        client.send(coded.replace(b"POST", b"PUT", 1))
        in_chunks = client.read()
    answers = [
        world.put(large),
        in_chunks,
        world.put(b"\x1f\x8b\x08", [*JSON, ("Content-Encoding", "gzip")]),
    ]
    for answer, sent in zip(answers, (large, large, b"\x1f\x8b\x08"), strict=True):
        assert answer.status == 200
        assert bytes(world.service.up.of(answer).body) == sent
        assert world.gateway.record(answer)["flags"] == ["unchecked"]
    assert world.changed(before) == {"unchecked": 3}
    plain = world.put(b'{"lines":1}', [*JSON, ("Content-Encoding", "gzip")])
    assert plain.status == 422  # no coding at all
    twice = world.put(b'{"note":"a","note":"b"}', [*JSON, ("Content-Encoding", "identity")])
    assert twice.status == 400


def test_the_plain_body_is_checked(world: Shop) -> None:
    """With `decompress`, what the service gets is what its document is about."""
    gzipped = [*JSON, ("Content-Encoding", "gzip")]
    good = json.dumps(GOOD_ORDER).encode()
    answer = world.put(gzip.compress(good), gzipped, to="/packed")
    assert answer.status == 200
    assert bytes(world.service.up.of(answer).body) == good
    assert places(world.put(gzip.compress(b'{"lines": 1}'), gzipped, to="/packed")) == {
        "body.lines"
    }
    assert world.put(gzip.compress(b"{"), gzipped, to="/packed").status == 400


def test_shadow_counts_and_logs(world: Shop) -> None:
    """The service gets what validate would refuse, and the record says what was wrong."""
    before = world.counted("shadow")
    bad = [
        world.put({"lines": 1}, to="/shadow"),
        world.put(b"{", to="/shadow"),
        world.ask("GET", "/orders?limit=0", to="/shadow"),
    ]
    records = [world.gateway.record(one) for one in bad]
    assert [one.status for one in bad] == [200, 200, 200]
    assert bytes(world.service.up.of(bad[1]).body) == b"{"
    assert [one["faults"] for one in records] == [["body.lines"], ["body"], ["query.limit"]]
    assert [one["flags"] for one in records] == [["shadow_check"]] * 3
    assert world.put({}, to="/shadow").status == 200
    assert world.changed(before, "shadow") == {"shadow": 3, "passed": 1}


def test_a_route_without_it_checks_nothing(world: Shop) -> None:
    """`off` is written as YAML reads it: false."""
    assert world.put({"lines": 1}, to="/off").status == 200
    assert world.counted("off") == {}


def test_what_is_not_in_the_document(world: Shop) -> None:
    """It passes and is counted, unless the route refuses it: WebSockets included."""
    before, closed = world.counted(), world.counted("closed")
    assert world.ask("DELETE", "/orders/7").status == 200
    assert world.changed(before) == {"undocumented": 1}
    for headers in ((), HANDSHAKE):
        answer = world.ask("GET", "/nothing", headers, to="/closed")
        assert (answer.status, places(answer)) == (422, {"operation"})
    assert world.changed(closed, "closed") == {"undocumented": 2}


def test_the_largest_body_of_the_route_still_holds(world: Shop) -> None:
    """Also while the gateway waits for a body in chunks."""
    body = json.dumps({"note": "x" * 2000}).encode()
    assert world.put(body, to="/closed").status == 413
    with RawClient(world.gateway.port) as client:
        coded = post_chunked("/closed/orders/7", chunked(body[:100], body[100:]), JSON)
        client.send(coded.replace(b"POST", b"PUT", 1))
        assert client.read().status == 413


def test_a_client_that_waits_for_100_is_told_to_go_on(world: Shop) -> None:
    """If the head fits; else it is refused before it sends its body."""
    headers = [*JSON, ("Expect", "100-continue"), ("Content-Length", "2")]
    with RawClient(world.gateway.port) as client:
        client.send(request("PUT", "/shop/orders/7", headers))
        if b"100" not in client.sock.recv(25, 2):
            pytest.fail("there was no 100 Continue")
        client.send(b"{}")
        assert client.read().status == 200
    with RawClient(world.gateway.port) as client:
        client.send(request("PUT", "/shop/orders/x", headers))
        answer = client.read()
    assert (answer.status, answer.interim) == (422, [])


def test_a_client_that_leaves_amid_its_body_is_no_failure(world: Shop) -> None:
    """The exchange ends, and the service hears nothing of it."""
    arrived = len([one for one in world.service.up.requests if one.method == "PUT"])
    with RawClient(world.gateway.port) as client:
        client.send(request("PUT", "/shop/orders/7", [*JSON, ("Content-Length", "9")]) + b"{")
    wait(lambda: any("client_gone" in one["flags"] for one in world.gateway.lines('"PUT"')))
    assert len([one for one in world.service.up.requests if one.method == "PUT"]) == arrived


LINE = b'{"sku":"ABC-1","quantity":2}'
SECRET_LINE = b'{"sku":"hunter2","quantity":2,"ssn":"123-45"}'
TYPE = "Content-Type: application/json"


def in_chunks(*pieces: bytes) -> Script:
    """An answer that comes piece by piece."""
    head = f"HTTP/1.1 200 OK\r\n{TYPE}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    return raw(head, *(b"%x\r\n%b\r\n" % (len(one), one) for one in pieces), b"0\r\n\r\n")


ANSWERS: dict[str, tuple[Script, bytes, str]] = {
    "fits": (plain(headers=[TYPE], body=LINE), LINE, "fits"),
    "drifts": (plain(headers=[TYPE], body=SECRET_LINE), SECRET_LINE, "drift"),
    "chunks": (in_chunks(SECRET_LINE[:9], SECRET_LINE[9:]), SECRET_LINE, "drift"),
    "large": (in_chunks(b"[" * 40_000, b"]" * 40_000), b"[" * 40_000 + b"]" * 40_000, "unchecked"),
    "gzip": (
        plain(headers=[TYPE, "Content-Encoding: gzip"], body=gzip.compress(LINE, mtime=0)),
        gzip.compress(LINE, mtime=0),
        "fits",
    ),
    "html": (plain(headers=["Content-Type: text/html"], body=b"<p>"), b"<p>", "drift"),
    "gone": (plain("404 Not Found", [TYPE], b"{}"), b"{}", "undocumented"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_sample_of_an_answer_is_looked_at(world: Shop, name: str) -> None:
    """The client gets all of it, and the metric says what it was."""
    script, body, result = ANSWERS[name]
    world.service.up.on(f"/answers/{name}", script)
    before = world.counted("sampled", "answer").get(result, 0)
    assert world.ask("GET", f"/answers/{name}", to="/sampled").body == body
    wait(lambda: world.counted("sampled", "answer")[result] == before + 1)


def test_drift_is_logged_once_and_without_the_answer(world: Shop) -> None:
    """The place and the rule, in the document's own words."""
    world.service.up.on("/answers/again", plain(headers=[TYPE], body=SECRET_LINE))
    before = world.counted("sampled", "answer").get("drift", 0)
    for _ in range(3):
        world.ask("GET", "/answers/again", to="/sampled")
    wait(lambda: world.counted("sampled", "answer")["drift"] == before + 3)
    said = [one["event"] for one in world.gateway.lines("answers of")]
    assert said.count(PATTERN) == 1
    assert "hunter2" not in world.gateway.said()
    assert "ssn" not in world.gateway.said()


PATTERN = 'answers of "shop": GET /answers/{name}, 200: body.sku does not fit `pattern`, as the document says'


def test_a_route_without_samples_looks_at_nothing(world: Shop) -> None:
    """Nor is anything counted."""
    assert world.ask("GET", "/answers/other", to="/off").status == 200
    assert world.counted("off", "answer") == {}


def test_all_of_a_document_comes_into_force_together(tmp_path: Path) -> None:
    """Until it is read all passes; a new one takes effect by itself, and a broken one changes nothing."""
    with running("fast", tmp_path, b"<html>") as world:
        assert world.ask("GET", "/orders?limit=0").status == 200
        assert world.counted() == {"no_document": 1} | dict.fromkeys(
            ("passed", "refused", "shadow", "unchecked", "undocumented"), 0
        )
        world.service.body = shop()
        wait(lambda: world.ask("GET", "/orders?limit=101").status == 422)
        world.service.body = shop(largest=1000)
        wait(lambda: world.ask("GET", "/orders?limit=101").status == 200)
        assert world.ask("GET", "/orders?limit=1001").status == 422
        asked = len(world.service.asked)
        world.service.body = b"{"
        wait(lambda: len(world.service.asked) > asked + 1)
        assert world.ask("GET", "/orders?limit=1001").status == 422


def test_a_reload_puts_checks_into_force_for_a_document_that_is_there(tmp_path: Path) -> None:
    """The service answers 304 to who has its document already."""
    with running("fast", tmp_path, shop()) as world:
        file = world.gateway.file
        written_text = file.read_text()
        file.write_text(re.sub("requests: (validate|shadow)", "requests: 'off'", written_text))
        world.gateway.process.send_signal(signal.SIGHUP)
        wait(lambda: world.ask("GET", "/orders?limit=0").status == 200)
        world.service.body = shop(largest=1000)
        asked = len(world.service.asked)
        wait(lambda: len(world.service.asked) > asked + 2)
        file.write_text(written_text)
        world.gateway.process.send_signal(signal.SIGHUP)
        wait(lambda: world.ask("GET", "/orders?limit=0").status == 422)
        assert world.ask("GET", "/orders?limit=1000").status == 200


def test_a_schema_that_multiplies_is_reported_and_not_checked(tmp_path: Path) -> None:
    """A hundred bytes of a client would hold the loop for minutes."""
    refer = {"anyOf": [{"$ref": f"#/components/schemas/{name}"} for name in "AB"]}
    schemas = {name: {"type": "object", "properties": {"c": refer}} for name in "AB"}
    media = {"application/json": {"schema": {"$ref": "#/components/schemas/A"}}}
    put = {"requestBody": {"content": media}, "responses": {"200": {"description": "good"}}}
    get = {"parameters": [{"name": "n", "in": "query", "schema": {"type": "integer"}}]}
    document = written(
        {"/orders/{number}": {"put": put}, "/n": {"get": {**put, **get}}},
        components={"schemas": schemas},
    )
    with running("fast", tmp_path, json.dumps(document).encode()) as world:
        wait(lambda: world.put({}).status == 200 and world.counted()["unchecked"] > 0)
        deep = b'{"c":' * 60 + b"1" + b"}" * 60
        assert world.put(deep).status == 200
        wait(lambda: world.gateway.lines("go round in circles"))
