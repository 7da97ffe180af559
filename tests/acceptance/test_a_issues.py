"""Lines A01 to A27: what the issues of Tracklore's gateway-service ask for, at `examples/tracklore`."""

import re
import sys
from pathlib import Path

import pytest

from tests.support import answers
from tests.support.allowance import timed, within
from tests.support.client import Answer, RawClient, request
from tests.support.containers import read_dockerfile, unpinned
from tests.support.gateway import free_port
from tests.support.systems import (
    EXAMPLES,
    ORIGIN,
    System,
    Systems,
    circuit,
    copy,
    is_envelope,
    key,
    once,
    run_code,
)
from tests.support.tokens import BAD_TOKENS, authorized, bearer, mint
from tests.support.waiting import wait
from tests.support.zygote import ZYGOTE, environment

TIMEOUT = 0.4  # seconds, of the strained system's user service
BROKEN = ("500", "502", "503", "504")
FINE = ("404", "422")


@pytest.fixture
def strained(systems: Systems) -> System:
    """Tracklore with a user service that has little time, and an auth service that is not there."""
    return systems.keep(
        "strained",
        "tracklore",
        {
            "AUTH_SERVICE_URL": f"http://127.0.0.1:{free_port()}",
            key("user", "timeouts", "first_byte"): f"{TIMEOUT}s",
            **once("user"),
            **once("auth"),
        },
    )


@pytest.fixture
def bare(systems: Systems) -> System:
    """Tracklore without any variable."""
    return systems.keep("bare", "tracklore", alone=True)


@pytest.fixture
def breaking(systems: Systems) -> System:
    """Tracklore whose breakers open soon, with further services of which each fails in one way."""
    services = {
        f"s{status}": {"url": "${USER_SERVICE_URL}", "retry": {"attempts": 1}}
        for status in (*BROKEN, *FINE)
    }
    # A breaker that is opened stays so for the other lines: each of those has one of its own.
    services["failing"] = {
        "url": "${USER_SERVICE_URL}",
        "retry": {"attempts": 1},
        "circuit": {"failure_threshold": 3, "min_throughput": 1, "recovery_timeout": "10m"},
    }
    return systems.keep(
        "breaking",
        "tracklore",
        {
            **circuit("user", failure_threshold=3, min_throughput=1, recovery_timeout="10m"),
            **circuit("auth", failure_threshold=3, min_throughput=1, recovery_timeout="1s"),
            **once("user"),
            **once("auth"),
        },
        more={
            "services": services,
            "routes": [{"path": f"/{name}", "service": name} for name in services],
        },
    )


def test_a01_modules_import_from_a_clean_checkout(tmp_path: Path) -> None:
    """A01: the modules import by the names of the documents, and none of them changes sys.path."""
    folder = copy("tracklore", tmp_path)
    code = "import app.api.routes; from shared_libs.core.settings import settings; print(settings)"
    ran = run_code(code, folder, PYTHONPATH=environment()["PYTHONPATH"])
    assert ran.returncode == 0, ran.stderr
    assert "sys.path" not in "".join(file.read_text() for file in folder.rglob("*.py"))


def test_a02_settings_import_without_deprecations(tmp_path: Path) -> None:
    """A02: the settings are written as pydantic 2 wants them, and read .env."""
    code = """if True:
        import warnings
        warnings.simplefilter("error", DeprecationWarning)
        from shared_libs.core import settings
        print(settings.Settings.model_config["env_file"])
    """
    ran = run_code(code, copy("tracklore", tmp_path))
    assert (ran.stdout.strip(), ran.returncode) == (".env", 0), ran.stderr


def test_a03_no_token_is_401(tracklore: System) -> None:
    """A03: a protected path without a token is 401, with the scheme that is asked for."""
    answer = tracklore.ask(target="/user/profile")
    assert (answer.status, answer.get("www-authenticate")) == (401, "Bearer")
    assert is_envelope(answer, "AUTH_ERROR")


def test_a04_expired_token_is_401(tracklore: System) -> None:
    """A04: a token whose time is over is 401, and nothing reaches the service."""
    answer = tracklore.ask(target="/user/profile", headers=bearer(BAD_TOKENS["expired"]()))
    assert (answer.status, tracklore.hit()) == (401, {})


@pytest.mark.parametrize(
    "name", ["other-key", "garbage", "garbage-in-three-parts", "alg-none", "alg-RS256"]
)
def test_a05_forged_token_is_401(tracklore: System, name: str) -> None:
    """A05: a token with a wrong signature, or none, is 401, and nothing reaches the service."""
    answer = tracklore.ask(target="/user/profile", headers=bearer(BAD_TOKENS[name]()))
    assert (answer.status, tracklore.hit()) == (401, {})


def test_a06_token_without_a_subject_is_401(tracklore: System) -> None:
    """A06: a well-signed token that names nobody is 401."""
    answer = tracklore.ask(target="/user/profile", headers=bearer(BAD_TOKENS["no-sub"]()))
    assert (answer.status, tracklore.hit()) == (401, {})


def test_a07_authentication_can_be_replaced_in_a_test(tracklore: System, tmp_path: Path) -> None:
    """A07: a good token passes; a team's tests put another principal in its place, on both kinds of routes."""
    assert tracklore.ask_as("42", "GET", "/user/profile").status == 200
    code = """if True:
        from typing import Annotated
        from fastapi.testclient import TestClient
        from propylon import Principal, current_principal
        from app.main import gateway

        @gateway.api.get("/who")
        async def who(me: Annotated[Principal, current_principal]) -> str:
            return me.subject

        ann = Principal("ann")
        with TestClient(gateway.asgi) as client:
            print(client.get("/who").status_code, client.get("/user/x").status_code)
            with gateway.override_principal(ann):
                print(client.get("/user/x").status_code)
            gateway.api.dependency_overrides[current_principal.dependency] = lambda: ann
            print(client.get("/who").json())
    """
    ran = run_code(code, copy("tracklore", tmp_path), **tracklore.variables)
    said = [line for line in ran.stdout.splitlines() if not line.startswith("{")]
    assert said == ["401 401", "200", "ann"], ran.stderr


def test_a08_what_a_bearer_token_looks_like(tracklore: System) -> None:
    """A08: the scheme is read in any case; another scheme, none, and two headers are 401."""
    token = mint()
    values = {
        (f"bearer {token}",): 200,
        (f"BEARER {token}",): 200,
        (f"Basic {token}",): 401,
        ("Bearer",): 401,
        ("Bearer ",): 401,
        (f"Bearer {token}", f"Bearer {token}"): 401,
    }
    for lines, status in values.items():
        headers = [("Authorization", line) for line in lines]
        assert tracklore.ask(target="/user/x", headers=headers).status == status, lines


def test_a09_service_that_is_not_there_is_502(strained: System, bare: System) -> None:
    """A09: a closed port is 502, and so is a name that does not resolve."""
    closed = strained.ask_as("42", "GET", "/auth/x")
    nowhere = bare.ask("POST", "/auth/login", body=b"{}")
    for answer in (closed, nowhere):
        assert answer.status == 502
        assert is_envelope(answer, "UPSTREAM_ERROR")


@timed
def test_a10_service_that_is_silent_is_504(strained: System, allowance: int) -> None:
    """A10: a service that does not answer in its time is 504, half a second later at most."""
    strained.on("user", "/silent", answers.hang)
    with within(TIMEOUT + 0.5 * allowance):
        answer = strained.ask_as("42", "GET", "/user/silent")
    assert answer.status == 504
    assert is_envelope(answer, "UPSTREAM_TIMEOUT")


CUT = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this"


def test_a11_broken_answer_never_looks_whole(strained: System) -> None:
    """A11: what is no HTTP is 502; an answer that ends too early cuts the connection."""
    strained.on("user", "/garbage", answers.raw(b"HTTP/9.9 2OO YES\r\n\r\n", end=answers.close))
    answer = strained.ask_as("42", "GET", "/user/garbage")
    assert (answer.status, is_envelope(answer, "UPSTREAM_ERROR")) == (502, True)
    strained.on("user", "/cut", answers.raw(CUT, end=answers.close))
    with RawClient(strained.port) as client:
        cut = client.send(request("GET", "/user/cut", authorized())).read()
        assert not cut.complete
        assert client.is_closed()


def test_a12_each_failure_is_one_error_in_the_log(strained: System) -> None:
    """A12: each of these failures is one ERROR record, with service, kind and id, and without secrets."""
    strained.on("user", "/silent", answers.hang)
    strained.on("user", "/garbage", answers.raw(b"SSH-2.0-x\r\n\r\n", end=answers.close))
    strained.on("user", "/cut", answers.raw(CUT, end=answers.close))
    cookie, token = "session=Kq83mZp0Xy55", mint()
    headers = [*bearer(token), ("Cookie", cookie)]
    kinds = {
        "/auth/x": ("auth", "UPSTREAM_ERROR"),
        "/user/silent": ("user", "UPSTREAM_TIMEOUT"),
        "/user/garbage": ("user", "UPSTREAM_ERROR"),
        "/user/cut": ("user", "UPSTREAM_ERROR"),
    }
    for target, (service, kind) in kinds.items():
        answer = strained.ask(target=target, headers=headers)
        errors = strained.errors(answer)
        assert [(line["service"], line["error"].split()[0]) for line in errors] == [(service, kind)]
    said = strained.said()
    for secret in (token, *token.split(".")[1:], "Kq83mZp0Xy55"):
        assert secret not in said


def test_a13_unknown_service_is_404(tracklore: System) -> None:
    """A13: a path of no service is 404, and nobody is asked."""
    answer = tracklore.ask_as("42", "GET", "/nosuch/x")
    assert (answer.status, is_envelope(answer, "NOT_FOUND"), tracklore.hit()) == (404, True, {})


def test_a14_service_is_added_by_configuration_alone(breaking: System) -> None:
    """A14: a service that stands in the configuration has its route, its breaker and its health."""
    answer = breaking.ask_as("42", "GET", "/s404/x")
    assert (answer.status, breaking.of("user", answer).target) == (200, b"/s404/x")
    assert "s404" in breaking.ask(target="/health").json()["services"]
    circuits = breaking.ask_as("42", "GET", "/api/v1/circuits", scope="admin")
    assert circuits.json()["s404"]["state"] == "CLOSED"


def open_breaker(system: System, path: str) -> Answer:
    """Ask until the breaker refuses, the service's own answers being 5xx or none."""
    for _ in range(10):
        answer = system.ask_as("42", "POST", path)
        if answer.status == 503 and answer.json()["error"]["code"] == "CIRCUIT_OPEN":
            return answer
    raise AssertionError(f"still {answer.status}")


def test_a15_open_breaker_makes_no_connection(breaking: System) -> None:
    """A15: after so many failures in a row the next request is 503, and the service is not contacted."""
    up = breaking.ups["user"]
    breaking.on("user", "/failing/dead", answers.raw(end=answers.reset))
    statuses = [breaking.ask_as("42", "POST", "/failing/dead").status for _ in range(3)]
    connections, arrived = up.connections, breaking.hit()
    answer = breaking.ask_as("42", "GET", "/failing/fine")
    assert statuses == [502, 502, 502]
    assert is_envelope(answer, "CIRCUIT_OPEN")
    assert (answer.status, up.connections, breaking.hit()) == (503, connections, arrived)


def test_a16_breaker_is_each_services_own(breaking: System) -> None:
    """A16: while one service's breaker is open, another service is reached."""
    breaking.on("user", "/dead", answers.raw(end=answers.reset))
    open_breaker(breaking, "/user/dead")
    assert breaking.ask_as("42", "GET", "/auth/x").status == 200


def test_a17_probe_decides(breaking: System) -> None:
    """A17: after its time one request is tried: it opens the breaker again, for as long, or closes it."""
    up = breaking.ups["auth"]
    breaking.on("auth", "/sick", answers.plain("500 Broken"))

    def state() -> str:
        asked = breaking.ask_as("42", "GET", "/api/v1/circuits", scope="admin")
        return str(asked.json()["auth"]["state"])

    def probe(path: str) -> float:
        before = len(up.requests)
        wait(lambda: breaking.ask_as("42", "POST", path) and len(up.requests) > before)
        return up.requests[-1].started

    for _ in range(3):
        assert breaking.ask_as("42", "POST", "/auth/sick").status == 500
    assert state() == "OPEN"
    first = probe("/auth/sick")
    assert state() == "OPEN"
    assert probe("/auth/sick") - first >= 1
    probe("/auth/fine")
    assert state() == "CLOSED"


@pytest.mark.parametrize("status", [*BROKEN, *FINE])
def test_a18_which_answers_are_failures(breaking: System, status: str) -> None:
    """A18: five answers that mean a sick service open its breaker, five that blame the client do not."""
    path = f"/s{status}/x"
    breaking.on("user", path, answers.plain(f"{status} No"))
    got = [breaking.ask_as("42", "POST", path) for _ in range(6)]
    assert [str(one.status) for one in got[:5]] == [status] * 5
    if status in BROKEN:
        assert is_envelope(got[5], "CIRCUIT_OPEN")
    else:
        assert str(got[5].status) == status


def test_a19_each_request_is_one_line(tracklore: System) -> None:
    """A19: each request is one line, which says what was asked, what came of it, and where it went."""
    answer = tracklore.ask_as("42", "GET", "/user/profile")
    record = tracklore.record(answer)
    named = [record[name] for name in ("method", "path", "status", "service", "request_id")]
    assert named == ["GET", "/user/profile", 200, "user", answer.get("x-request-id")]
    assert record["duration_ms"] >= 0


def test_a20_request_gets_an_id(tracklore: System) -> None:
    """A20: a request without an id gets one, which the service and the client see."""
    one, other = (tracklore.ask_as("42", "GET", "/user/x") for _ in range(2))
    assert one.get("x-request-id") != other.get("x-request-id")
    assert tracklore.ups["user"].requests[0].get("x-request-id") == one.get("x-request-id")


def test_a21_good_id_is_kept_a_bad_one_replaced(tracklore: System) -> None:
    """A21: the client's id goes everywhere, unless it could do harm somewhere."""
    headers = [*authorized(), ("X-Request-ID", "abc-123")]
    answer = tracklore.ask(target="/user/x", headers=headers)
    assert answer.get("x-request-id") == "abc-123"
    assert tracklore.of("user", answer).get("x-request-id") == "abc-123"
    assert tracklore.record(answer)["request_id"] == "abc-123"
    for bad in ("caf\xe9", "x" * 129, "two words", "a\rb"):
        headers = [*authorized(), ("X-Request-ID", bad)]
        answer = tracklore.ask(target="/user/x", headers=headers)
        if answer.status == 200:
            assert answer.get("x-request-id") not in {bad, None}
            assert tracklore.of("user", answer).get("x-request-id") == answer.get("x-request-id")
        else:
            assert (answer.status, bad) == (400, "a\rb")  # no HTTP at all


def test_a22_allowed_origin_is_told(tracklore: System) -> None:
    """A22: a page of an allowed origin may read the answer, another one may not."""
    allowed = tracklore.ask(target="/user/x", headers=[*authorized(), ("Origin", ORIGIN)])
    assert allowed.get("access-control-allow-origin") == ORIGIN
    assert "Origin" in (allowed.get("vary") or "")
    other = tracklore.ask(
        target="/user/x", headers=[*authorized(), ("Origin", "http://evil.example")]
    )
    assert (other.status, other.get("access-control-allow-origin")) == (200, None)


def test_a23_preflight_needs_no_token(tracklore: System) -> None:
    """A23: a preflight is answered by the gateway itself, without a token."""
    asks = [
        ("Origin", ORIGIN),
        ("Access-Control-Request-Method", "PUT"),
        ("Access-Control-Request-Headers", "authorization"),
    ]
    answer = tracklore.ask("OPTIONS", "/user/profile", asks)
    assert answer.status in {200, 204}
    assert "PUT" in (answer.get("access-control-allow-methods") or "")
    assert "authorization" in (answer.get("access-control-allow-headers") or "").lower()
    assert tracklore.hit() == {}


def test_a24_any_origin_with_credentials_is_refused(tmp_path: Path) -> None:
    """A24: a configuration that lets any page act for its user does not start."""
    variables = {"PROPYLON_CORS__ORIGINS": "*", "PROPYLON_CORS__CREDENTIALS": "true"}
    ran = ZYGOTE.run(
        [sys.executable, "-m", "propylon", "check"],
        cwd=copy("tracklore", tmp_path),
        env=environment(**variables),
    )
    assert ran.returncode == 2
    assert "credentials" in ran.stdout + ran.stderr


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"])
def test_a25_method_reaches_the_service(tracklore: System, method: str) -> None:
    """A25: each method arrives as the same method."""
    answer = tracklore.ask_as("42", method, "/user/x")
    assert (answer.status, tracklore.of("user", answer).method) == (200, method)


def test_a26_health_is_what_the_services_say(tracklore: System) -> None:
    """A26: /health asks the services themselves, also those that no request has gone to."""
    tracklore.on("auth", "/health", answers.plain("500 Broken"))

    def seen() -> dict[str, str]:
        found = tracklore.ask(target="/health").json()["services"]
        return {name: one["status"] for name, one in found.items()}

    wait(lambda: seen() == {"user": "healthy", "auth": "unhealthy"})
    answer = tracklore.ask(target="/health")
    said = answer.json()
    assert (answer.status, said["status"]) == (200, "degraded")
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", said["version"])


@pytest.mark.parametrize("name", ["tracklore"])
def test_a27_container_is_small_and_not_root(name: str) -> None:
    """A27: the image is built in stages, runs as somebody, says how it is, and has pinned requirements."""
    stages = read_dockerfile(EXAMPLES / name / "Dockerfile")
    last = stages[-1]
    assert len(stages) >= 2
    assert last.all("USER")[-1].split(":")[0] not in {"root", "0"}
    health = last.all("HEALTHCHECK")[-1]
    assert re.search(r'CMD \["(python3?|propylon)"|CMD (python3?|propylon)\b', health), health
    # Files are copied as root: the user that runs may read them.
    assert not any("--chown" in line or "chmod" in line for line in last.all("COPY"))
    assert unpinned(EXAMPLES / name / "requirements.txt") == []
