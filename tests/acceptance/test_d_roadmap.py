"""Lines D01 to D24: what the roadmap of the game library's gateway asks for, at `examples/game-library`."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.support import answers
from tests.support.allowance import timed, within
from tests.support.client import RawClient, request
from tests.support.gateway import free_port
from tests.support.issuer import CLIENT_ID, CLIENT_SECRET, Issuer
from tests.support.redis import RedisServer, running
from tests.support.systems import (
    APPS,
    EXAMPLES,
    ORIGIN,
    System,
    Systems,
    ask_from,
    copy,
    is_envelope,
    key,
    run_tests,
)
from tests.support.tokens import BAD_TOKENS, authorized, bearer, claims_of, mint
from tests.support.waiting import wait
from tests.support.zygote import ROOT, ZYGOTE, environment

GAME = "/api/games/7"
BUDGET = 5  # of the limited systems, with an hour until there is more
LIMIT = {
    "PROPYLON_DEFAULTS__RATE_LIMIT__RATE": f"{BUDGET}/h",
    "PROPYLON_DEFAULTS__RATE_LIMIT__BURST": str(BUDGET),
}
TIMEOUT = 0.4  # seconds, of the strained system's library service


@pytest.fixture
def limited(systems: Systems) -> System:
    """The game library with a small budget for each caller, counted in memory."""
    return systems.keep("limited", "game-library", {**LIMIT, "CORS_ORIGINS": ORIGIN})


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    """A real Redis."""
    with running() as server:
        yield server


@pytest.fixture
def sharing(systems: Systems, redis: RedisServer) -> tuple[System, System]:
    """Two gateways of the game library that count in one Redis."""
    # On a busy machine Redis may take longer than the usual 50 ms; each gateway would then count for itself.
    variables = {**LIMIT, "REDIS_URL": redis.url, "PROPYLON_REDIS__TIMEOUT": "5s"}
    one, other = (systems.keep(f"sharing-{n}", "game-library", variables) for n in (1, 2))
    return one, other


@pytest.fixture
def strained(systems: Systems) -> System:
    """The game library with further services and routes, for what goes wrong."""
    closed = f"http://127.0.0.1:{free_port()}"
    game = "${GAME_SERVICE_URL}"
    services = {
        "closed": {"url": closed},
        "eager": {"url": game, "retry": {"non_idempotent": True, "backoff": "10ms"}},
        "pair": {"instances": [closed, game]},
        "brittle": {"url": game, "circuit": {"failure_threshold": 1, "min_throughput": 1}},
    }
    routes = [{"path": f"/api/{name}", "service": name} for name in services]
    table = [
        {"path": "/api/table", "service": "game", "methods": ["GET"], "roles": ["user", "admin"]},
        {"path": "/api/table", "service": "game", "methods": ["POST"], "roles": ["admin"]},
    ]
    return systems.keep(
        "strained-library",
        "game-library",
        {
            "CORS_ORIGINS": ORIGIN,
            key("library", "timeouts", "first_byte"): f"{TIMEOUT}s",
            key("library", "timeouts", "max_duration"): "1s",
            key("library", "retry", "attempts"): "1",
        },
        more={"services": services, "routes": routes + table},
    )


@pytest.mark.parametrize(
    ("prefix", "service"), [("auth", "auth"), ("games", "game"), ("library", "library")]
)
def test_d01_each_prefix_has_its_service(library: System, prefix: str, service: str) -> None:
    """D01: each prefix leads to its own service alone."""
    answer = library.ask_as("42", "GET", f"/api/{prefix}/x")
    assert (answer.status, library.hit()) == (200, {service: 1})


def test_d02_prefix_is_stripped_by_a_flag(library: System, strained: System) -> None:
    """D02: the services get their own paths; a route without the flag keeps the whole path."""
    answer = library.ask("POST", "/api/auth/login", body=b"{}")
    assert library.of("auth", answer).target == b"/login"
    answer = strained.ask_as("42", "GET", "/api/eager/x")
    assert strained.of("game", answer).target == b"/api/eager/x"


def test_d03_expired_is_not_invalid(library: System) -> None:
    """D03: without a good token the answer is 401, which tells a client whose token has expired."""
    messages = {}
    for name in ("expired", "other-key", "garbage"):
        answer = library.ask(target=GAME, headers=bearer(BAD_TOKENS[name]()))
        assert (answer.status, is_envelope(answer, "AUTH_ERROR")) == (401, True)
        messages[name] = answer.json()["error"]["message"]
    assert library.ask(target=GAME).status == 401
    assert "expired" in messages["expired"].lower()
    assert not any("expired" in messages[name].lower() for name in ("other-key", "garbage"))


def test_d04_service_is_told_who_asks(library: System) -> None:
    """D04: the service sees the token's user, and not what the client says of itself."""
    forged = [("X-User-Id", "root"), ("x_user_roles", "admin"), ("X-USER-EMAIL", "root@x.example")]
    headers = [*authorized("42", roles=["user"]), *forged]
    arrived = library.of("game", library.ask("GET", GAME, headers))
    assert (arrived.get("x-user-id"), arrived.get("x-user-roles")) == ("42", "user")
    assert arrived.names & {"x_user_roles", "x-user-email"} == set()


def test_d05_page_can_read_errors(strained: System, limited: System) -> None:
    """D05: the headers of CORS stand on a good answer, and on each error."""
    origin = [("Origin", ORIGIN)]
    strained.on("library", "/silent", answers.hang)
    strained.on("game", "/api/brittle", answers.plain("500 Broken"))
    got = {
        200: strained.ask(target=GAME, headers=[*authorized(), *origin]),
        401: strained.ask(target=GAME, headers=origin),
        404: strained.ask(target="/api/nosuch", headers=[*authorized(), *origin]),
        502: strained.ask("POST", "/api/closed", headers=[*authorized(), *origin]),
        504: strained.ask(target="/api/library/silent", headers=[*authorized(), *origin]),
    }
    for _ in range(2):
        got[503] = strained.ask("POST", "/api/brittle", headers=[*authorized(), *origin])
    for _ in range(BUDGET + 1):
        got[429] = limited.ask(target=GAME, headers=[*authorized("d05"), *origin])
    for status, answer in got.items():
        assert (answer.status, answer.get("access-control-allow-origin")) == (status, ORIGIN)


def test_d06_bad_address_is_named(tmp_path: Path) -> None:
    """D06: .env is read, with unknown keys in it; an address that is none is named at the start."""
    folder = copy("game-library", tmp_path)
    (folder / ".env").write_text("WHATEVER=1\nGAME_SERVICE_URL=http//games\n")
    started = ZYGOTE.run(
        [sys.executable, "-m", "uvicorn", APPS["game-library"], "--port", str(free_port())],
        cwd=folder,
        env=environment(),
    )
    assert started.returncode != 0
    assert "GAME_SERVICE_URL" in started.stderr or "services.game.url" in started.stderr
    assert "WHATEVER" not in started.stderr


def test_d07_each_request_has_its_own_id(library: System) -> None:
    """D07: a line of the log says what was asked and how long it took; 1,000 requests have 1,000 ids."""
    ids, asked = set(), request("GET", "/api/nosuch")
    with RawClient(library.port) as client:
        for _ in range(1000):
            client.send(asked)
            ids.add(client.read().get("x-request-id"))
    assert len(ids) == 1000
    record = library.record(library.ask_as("42", "GET", GAME))
    assert [record[name] for name in ("method", "path", "status")] == ["GET", GAME, 200]
    assert record["duration_ms"] >= 0


def statuses(system: System) -> dict[str, str]:
    """What /health says of each service."""
    services = system.ask(target="/health").json()["services"]
    return {name: one["status"] for name, one in services.items()}


def test_d08_health_tells_each_service(strained: System) -> None:
    """D08: each service has its own state in /health, and one that is ill shows in the whole."""
    strained.on("game", "/health", answers.plain("500 Broken"))
    strained.on("library", "/health", answers.hang)
    ill = {"auth": "healthy", "game": "unhealthy", "library": "unhealthy", "closed": "unhealthy"}
    wait(lambda: statuses(strained).items() >= ill.items())
    assert strained.ask(target="/health").json()["status"] == "degraded"


@timed
def test_d09_probes_run_together(library: System, allowance: int) -> None:
    """D09: three services that hang do not make /health three times as slow."""
    for name in library.ups:
        library.on(name, "/health", answers.hang)
    with within(1 + 0.5 * allowance):
        found = statuses(library)
    # If this was the answer of the last second, the probes are to come.
    wait(lambda: set(statuses(library).values()) == {"unhealthy"})
    starts = [up.requests[-1].started for up in library.ups.values()]
    assert found
    assert max(starts) - min(starts) < 1  # one after the other, they would begin a second apart


def test_d10_errors_have_one_form(strained: System) -> None:
    """D10: an error of the gateway is the envelope; a service's own passes, and says that it is the service's."""
    for status in ("404 None", "500 Broken"):
        strained.on("game", "/it", answers.plain(status, body=b"its own words"))
        answer = strained.ask_as("42", "POST", "/api/games/it")
        assert (answer.status, answer.body) == (int(status[:3]), b"its own words")
        assert answer.get("x-error-source") == "upstream"
    answer = strained.ask_as("42", "POST", "/api/closed")
    assert (is_envelope(answer, "UPSTREAM_ERROR"), answer.get("x-error-source")) == (
        True,
        "gateway",
    )


def spend(system: System, subject: str, times: int) -> list[int]:
    """So many requests of a user."""
    return [system.ask_as(subject, "GET", GAME).status for _ in range(times)]


def test_d11_budget_is_a_number(limited: System) -> None:
    """D11: as many requests as the limit says pass; the next one is 429, and says when to come back."""
    assert spend(limited, "d11", BUDGET) == [200] * BUDGET
    answer = limited.ask_as("d11", "GET", GAME)
    assert (answer.status, is_envelope(answer, "RATE_LIMIT")) == (429, True)
    assert int(answer.get("retry-after") or "0") >= 1
    assert limited.hits()["game"] == BUDGET


def address_budget(system: System, source: str, times: int) -> list[int]:
    """So many requests from an address, without a token: those that fail have none of a user's budget."""
    path, port = "/api/auth/login", system.port
    return [ask_from(source, port, "POST", path, body=b"{}").status for _ in range(times)]


def callers(system: System, name: str) -> None:
    """Two users at one address have two budgets, one user at two addresses has one, and so has an address."""
    assert spend(system, f"{name}-ann", BUDGET) == [200] * BUDGET
    assert spend(system, f"{name}-bob", 1) == [200]
    headers = authorized(f"{name}-ann")
    assert ask_from("127.0.0.3", system.port, "GET", GAME, headers).status == 429


def test_d12_budget_is_the_callers(limited: System) -> None:
    """D12: the budget is the user's where there is one, and else the address's."""
    callers(limited, "d12")
    assert address_budget(limited, "127.0.0.12", BUDGET + 1) == [200] * BUDGET + [429]
    assert address_budget(limited, "127.0.0.13", 1) == [200]


def test_d13_forged_address_has_no_budget(limited: System) -> None:
    """D13: a client cannot get a new budget by saying that it is another one."""
    path, source = "/api/auth/login", "127.0.0.14"
    got = []
    for number in range(BUDGET + 1):
        forged = [("X-Forwarded-For", f"10.9.8.{number}"), ("X-Real-IP", f"10.9.8.{number}")]
        got.append(ask_from(source, limited.port, "POST", path, forged, b"{}").status)
    assert got == [200] * BUDGET + [429]


def test_d14_gateways_share_budgets_in_redis(sharing: tuple[System, System]) -> None:
    """D14: with Redis the same holds; two gateways share one budget, and many at once never exceed it."""
    one, other = sharing
    callers(one, "d14")
    assert spend(other, "d14-bob", BUDGET) == [200] * (BUDGET - 1) + [429]
    headers = authorized("d14-crowd")
    with ThreadPoolExecutor(50) as pool:
        asked = [
            pool.submit(sharing[number % 2].ask, "GET", GAME, headers) for number in range(200)
        ]
        got = [one.result().status for one in asked]
    assert (got.count(200), got.count(429)) == (BUDGET, 200 - BUDGET)


def in_turn(system: System, service: str, path: str, *given: str) -> None:
    """Have a service answer with these, one after the other."""
    system.on(service, path, answers.in_turn(*(answers.plain(status) for status in given)))


def test_d15_get_is_tried_again(library: System) -> None:
    """D15: a GET that fails for a moment is tried again, after growing pauses."""
    in_turn(library, "game", "/it", "502 No", "502 No", "200 OK")
    assert library.ask_as("d15", "GET", "/api/games/it").status == 200
    started = [one.started for one in library.ups["game"].requests]
    first, second = (later - sooner for sooner, later in pairwise(started))
    assert first >= 0.05  # of 100 ms half is chance
    assert second >= 0.1


@pytest.mark.parametrize(("status", "hits"), [(504, 2), (500, 1), (404, 1), (429, 1)])
def test_d16_what_is_tried_again(library: System, status: int, hits: int) -> None:
    """D16: a 504 is tried again as a 502 is; other errors are the answer."""
    in_turn(library, "game", "/it", f"{status} No", "200 OK")
    answer = library.ask_as("d16", "GET", "/api/games/it")
    assert (answer.status, library.hits()["game"]) == (200 if hits > 1 else status, hits)


def test_d17_post_is_not_tried_again(strained: System) -> None:
    """D17: what may have had an effect is sent once, unless it was never sent, or the operator says otherwise."""
    for method in ("POST", "PATCH"):
        in_turn(strained, "game", "/it", "502 No", "200 OK")
        assert strained.ask_as("d17", method, "/api/games/it").status == 502
    assert strained.hits()["game"] == 2
    strained.reset()
    got = [strained.ask_as("d17", "POST", "/api/pair/it", body=b"x").status for _ in range(4)]
    assert (got, strained.hits()["game"]) == ([200] * 4, 4)
    strained.reset()
    in_turn(strained, "game", "/api/eager/it", "502 No", "200 OK")
    assert strained.ask_as("d17", "POST", "/api/eager/it", body=b"x").status == 200
    assert strained.hits()["game"] == 2


def test_d18_body_is_sent_again_whole(library: System) -> None:
    """D18: a PUT is tried again with its whole body, and not more often than it may be."""
    body = b"a game" * 1000
    in_turn(library, "game", "/it", "502 No", "503 No", "200 OK")
    assert library.ask_as("d18", "PUT", "/api/games/it", body=body).status == 200
    assert [bytes(one.body) for one in library.ups["game"].requests] == [body] * 3
    library.reset()
    in_turn(library, "game", "/it", "502 No")
    with within(10):  # timeouts.total
        answer = library.ask_as("d18", "PUT", "/api/games/it", body=body)
    assert (answer.status, library.hits()["game"]) == (502, 3)


def test_d19_slow_answers_end(strained: System) -> None:
    """D19: a service that is silent too long is 504, and an answer that drips without end is cut."""
    strained.on("library", "/silent", answers.hang)
    answer = strained.ask_as("d19", "GET", "/api/library/silent")
    assert (answer.status, is_envelope(answer, "UPSTREAM_TIMEOUT")) == (504, True)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
    strained.on("library", "/drip", answers.endless(b".", first=head, pause=0.1))
    dripped = strained.ask_as("d19", "GET", "/api/library/drip")
    assert (dripped.status, dripped.complete) == (200, False)


def revoke(system: System, token: str) -> int:
    """Revoke a token as its owner."""
    headers = [*bearer(token), ("Content-Type", "application/x-www-form-urlencoded")]
    form = urlencode({"token": token}).encode()
    return system.ask("POST", "/api/v1/auth/revoke", headers, form).status


def test_d20_revoked_token_is_refused_at_once(library: System) -> None:
    """D20: a revoked token is 401 at once, another one of the user is not, and the entry ends with the token."""
    token, other = mint("d20"), mint("d20")
    assert library.ask(target=GAME, headers=bearer(token)).status == 200
    assert revoke(library, token) == 200
    assert library.ask(target=GAME, headers=bearer(token)).status == 401
    assert library.ask(target=GAME, headers=bearer(other)).status == 200
    listed = library.ask_as("root", "GET", "/api/v1/auth/revocations", scope="admin").json()
    ends = claims_of(token)["exp"]
    assert any(ends <= one["until"] <= ends + 3600 for one in listed), (listed, ends)


def test_d21_issuer_is_asked(systems: Systems, issuer: Issuer) -> None:
    """D21: a token that its issuer calls inactive is 401; while the issuer is away, none is let in."""
    system = systems.keep(
        "introspecting",
        "game-library",
        {
            "PROPYLON_AUTH__INTROSPECTION__URL": issuer.introspection_url,
            "PROPYLON_AUTH__INTROSPECTION__CLIENT_ID": CLIENT_ID,
            "PROPYLON_AUTH__INTROSPECTION__CLIENT_SECRET": CLIENT_SECRET,
            "PROPYLON_AUTH__INTROSPECTION__CACHE": "0s",
        },
    )
    active = issuer.grant("opaque-Tq81-active", {"active": True, "sub": "42"})
    ended = issuer.grant("opaque-Tq81-ended", {"active": False})
    assert system.ask(target=GAME, headers=bearer(active)).status == 200
    assert system.ask(target=GAME, headers=bearer(ended)).status == 401
    issuer.go_down()
    try:
        answer = system.ask(target=GAME, headers=bearer(active))
    finally:
        issuer.come_up()
    assert (answer.status, system.hit()) == (503, {"game": 1})


def test_d22_roles_are_a_table(strained: System) -> None:
    """D22: who lacks the role is 403; a method that stands nowhere is 405."""
    got = {
        (method, role): strained.ask_as("d22", method, "/api/table", roles=[role]).status
        for method in ("GET", "POST", "DELETE")
        for role in ("user", "admin")
    }
    assert got == {
        ("GET", "user"): 200,
        ("GET", "admin"): 200,
        ("POST", "user"): 403,
        ("POST", "admin"): 200,
        ("DELETE", "user"): 405,
        ("DELETE", "admin"): 405,
    }


def test_d23_code_is_checked() -> None:
    """D23: ruff and black find nothing in the gateway and its tests, `make lint` has mypy read them; tests use httpx.AsyncClient."""
    example = str(EXAMPLES / "game-library")
    for command in (["ruff", "check"], ["black", "--check", "--quiet"]):
        args = [sys.executable, "-m", *command, example]
        checked = subprocess.run(args, cwd=ROOT, capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]["strict"]
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(r"(?m)^EXAMPLES := .*examples/game-library", makefile)
    assert re.search(r"(?m)^\t.*\$\(EXAMPLES\).*/mypy .*\|\| exit 1", makefile)
    texts = [file.read_text() for file in (EXAMPLES / "game-library/tests").glob("*.py")]
    assert any("httpx.AsyncClient(" in text for text in texts)


# What the roadmap lists under "Testing" in each phase, and the example's own test for it.
PHASES = {
    "test_phase_1.py": {
        "unit test of the JWT validation": "test_a_missing_or_bad_token_is_401",
        "routing to each service": "test_each_path_leads_to_its_service",
        "401 for missing and invalid tokens": "test_expired_and_invalid_are_told_apart",
        "CORS headers": "test_cors_headers",
    },
    "test_phase_2.py": {
        "/health with mock services": "test_health_pings_each_service",
        "log output": "test_each_request_is_a_line_of_the_log",
        "format of 4xx and 5xx": "test_errors_of_the_gateway_have_one_form",
    },
    "test_phase_3.py": {
        "429": "test_more_requests_than_allowed_are_429",
        "retries": "test_a_failed_request_is_sent_again",
        "timeouts": "test_a_service_that_does_not_answer_is_504",
    },
    "test_phase_4.py": {
        "revoked tokens": "test_a_revoked_token_is_401_at_once",
        "expired tokens": "test_a_token_expires",
        "roles": "test_who_lacks_the_role_is_403",
    },
}


def test_d24_each_phase_has_its_tests(tmp_path: Path) -> None:
    """D24: what the roadmap wants tested in each phase has a test in the example; those of each example run in this suite."""
    ran = run_tests("game-library", tmp_path, "--collect-only", "-q")
    assert ran.returncode == 0, ran.stdout[-2000:]
    for file, tests in PHASES.items():
        for wanted, test in tests.items():
            assert re.search(rf"(?m)^tests/{file}::{test}\b", ran.stdout), wanted
