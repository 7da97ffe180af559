"""Lines E19 to E28 and E33 to E40: tokens, routes and errors of ISaaS's gateway, at `examples/isaas`."""

import json
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import jwt
import pytest
import yaml

from tests.support import answers
from tests.support.allowance import timed
from tests.support.client import Answer
from tests.support.gateway import free_port
from tests.support.secrecy import SECRECY
from tests.support.secure import Authority, SecureUpstream, serving
from tests.support.systems import EXAMPLES, System, Systems, is_envelope, key
from tests.support.tokens import SECRET, bearer, claims_of

V1 = "/api/v1"
TOKEN, ME = f"{V1}/auth/token", f"{V1}/users/me"
PASSWORDS = {name: SECRECY.note(f"{name}-Wq5z-passphrase-17") for name in ("alice", "bob", "dave")}
MINUTES = 7
# What the token endpoint lets pass is meant for people.
OFTEN = {
    "PROPYLON_AUTH__TOKENS__RATE_LIMIT__RATE": "1000/s",
    "PROPYLON_AUTH__TOKENS__RATE_LIMIT__BURST": "1000",
}
# Raised in an endpoint of its own: the only way to an error that nobody has foreseen.
BUG = """

@gateway.api.get(settings.API_V1_PREFIX + "/bug")
def bug() -> None:
    raise ZeroDivisionError("in the team's own code")
"""


@pytest.fixture
def signing(systems: Systems) -> System:
    """ISaaS with users, and with further routes for what its document leaves open."""
    base = {"service": "context", "strip_prefix": False}
    routes: list[dict[str, Any]] = [
        {"path": f"{V1}/both", **base, "scopes": ["read", "write"]},
        {"path": f"{V1}/intent/deep", **base},
        {"path": f"{V1}/private", **base, "privacy": "required"},
        {"path": f"{V1}/usual", **base, "default_privacy": "standard"},
        {"path": f"{V1}/small", **base, "methods": ["POST"], "max_body": 10},
        {"path": f"{V1}/brittle", "service": "brittle"},
        {"path": f"{V1}/nobody", "service": "nobody"},
        {"path": f"{V1}/closed", "service": "closed"},
        {"path": f"{V1}/hasty", **base, "timeouts": {"first_byte": "300ms"}},
    ]
    services: dict[str, Any] = {
        "brittle": {
            "url": "${CONTEXT_SERVICE_URL}",
            "circuit": {"failure_threshold": 1, "min_throughput": 1},
            "retry": {"attempts": 1},
        },
        "nobody": {},
        "closed": {"url": f"http://127.0.0.1:{free_port()}"},
    }
    system = systems.keep(
        "signing",
        "isaas",
        {"ACCESS_TOKEN_EXPIRE_MINUTES": str(MINUTES), **OFTEN},
        more={"services": services, "routes": routes},
        source=BUG,
    )
    if system.log.exists() and not (system.folder / "users-added").exists():
        options = {
            "alice": ["--scopes", "read write", "--email", "alice@x.example", "--full-name", "Al"],
            "bob": ["--scopes", "write"],
            "dave": ["--scopes", "read"],
        }
        for name, more in options.items():  # while it runs
            system.add_user(name, PASSWORDS[name], *more)
        (system.folder / "users-added").touch()
    return system


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Who vouches for the upstream that speaks TLS."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def secure(authority: Authority) -> Iterator[SecureUpstream]:
    """An upstream that speaks TLS."""
    with SecureUpstream(tls=serving(authority.issue("127.0.0.1"))) as up:
        up.identified = True
        yield up


@pytest.fixture
def moved(systems: Systems, secure: SecureUpstream, authority: Authority) -> System:
    """ISaaS below another prefix, in debug mode, with services at addresses of all kinds."""
    return systems.keep(
        "moved",
        "isaas",
        {
            "API_V1_PREFIX": "/v9",
            "DEBUG": "true",
            "CONTEXT_SERVICE_URL": f"https://127.0.0.1:{secure.port}/base/v2",
            key("context", "tls", "ca"): str(authority.file),
            "INTENT_SERVICE_URL": "http://intent.invalid",
        },
        source=BUG,
    )


def login(system: System, name: str, password: str = "", **form: str) -> Answer:
    """Ask for a token."""
    said = {"username": name, "password": password or PASSWORDS[name], **form}
    headers = [("Content-Type", "application/x-www-form-urlencoded")]
    return system.ask("POST", TOKEN, headers, urlencode(said).encode())


def test_e19_every_scope_is_needed(signing: System) -> None:
    """E19: a route that lists two scopes needs both; the claim is a list."""
    path = f"{V1}/both"
    answer = signing.ask_as("e19", "GET", path, scopes=["read"])
    assert (answer.status, is_envelope(answer, "AUTH_ERROR"), signing.hit()) == (403, True, {})
    assert signing.ask_as("e19", "GET", path, scopes=["read", "write"]).status == 200


def test_e20_token_for_a_password(signing: System) -> None:
    """E20: a user who was added while the gateway runs gets a token for the password."""
    answer = login(signing, "alice", scope="read write")
    said = answer.json()
    assert (answer.status, said["token_type"]) == (200, "bearer")
    claims = claims_of(said["access_token"])
    assert (claims["sub"], set(claims["scopes"])) == ("alice", {"read", "write"})
    assert claims["exp"] > time.time()
    path = f"{V1}/context/x"
    assert signing.ask(target=path, headers=bearer(said["access_token"])).status == 200


def test_e21_token_lasts_as_long_as_the_variable_says(signing: System) -> None:
    """E21: the token's life is ACCESS_TOKEN_EXPIRE_MINUTES, and SECRET_KEY signs it."""
    said = login(signing, "alice").json()
    claims = jwt.decode(said["access_token"], SECRET, algorithms=["HS256"])
    assert abs(claims["exp"] - claims["iat"] - MINUTES * 60) <= 5
    assert said["expires_in"] == MINUTES * 60


@timed
def test_e22_wrong_password_tells_nothing(signing: System, allowance: int) -> None:
    """E22: a wrong password and an unknown user get the same answer, after the same work; a bad form is 4xx."""
    took = {}
    bodies = set()
    # No name twice: after a failure, the next login of that name is delayed.
    for name in (f"nobody-{allowance}", "alice", f"nobody-else-{allowance}", "bob"):
        start = time.monotonic()
        answer = login(signing, name, f"wrong-{allowance}")
        took[name] = time.monotonic() - start
        assert (answer.status, is_envelope(answer, "AUTH_ERROR")) == (401, True)
        bodies.add(json.dumps(answer.json()["error"]))
    assert len(bodies) == 1
    known = min(took["alice"], took["bob"])
    unknown = min(time for name, time in took.items() if name.startswith("nobody"))
    # A hash takes most of it: without one, an answer would be there fifty times sooner.
    assert max(known, unknown) / min(known, unknown) < (2 if allowance == 1 else 20)
    for headers, body in (
        ([("Content-Type", "application/x-www-form-urlencoded")], b"username=alice"),
        ([("Content-Type", "application/json")], b'{"username":"alice","password":"x"}'),
    ):
        answer = signing.ask("POST", TOKEN, headers, body)
        assert (answer.status, is_envelope(answer, "INVALID_REQUEST")) in {(400, True), (422, True)}


def test_e23_nobody_gets_more_scopes_than_the_user_has(signing: System) -> None:
    """E23: a scope that the user has not is not granted; who asks for none gets the user's own."""
    answer = login(signing, "alice", scope="read admin")
    if answer.status == 200:
        assert claims_of(answer.json()["access_token"])["scopes"] == ["read"]
    own = login(signing, "alice").json()["access_token"]
    assert set(claims_of(own)["scopes"]) == {"read", "write"}
    assert signing.ask(target=ME, headers=bearer(own)).status == 200


def test_e24_user_can_read_their_own_account(signing: System) -> None:
    """E24: /users/me tells the account without the hash, to who may read; a disabled user is 403."""
    token = login(signing, "alice").json()["access_token"]
    said = signing.ask(target=ME, headers=bearer(token)).json()
    expected = {
        "username": "alice",
        "email": "alice@x.example",
        "full_name": "Al",
        "disabled": False,
    }
    assert said.items() >= {**expected, "scopes": ["read", "write"]}.items()
    assert not any("hash" in name or "password" in name for name in said)
    bob = login(signing, "bob").json()["access_token"]
    assert signing.ask(target=ME, headers=bearer(bob)).status == 403
    dave = login(signing, "dave").json()["access_token"]
    assert signing.command("user", "disable", "dave").returncode == 0
    # Tokens from before are revoked; another issuer with the same key may still give some out.
    assert signing.ask(target=ME, headers=bearer(dave)).status in {401, 403}
    later = int(time.time()) + 5
    assert signing.ask_as("dave", "GET", ME, scopes=["read"], iat=later).status == 403


@pytest.mark.parametrize(
    ("prefix", "service"),
    [
        ("context", "context"),
        ("intent", "intent"),
        ("predict", "prediction"),
        ("realtime", "realtime"),
    ],
)
def test_e25_each_prefix_has_its_service(isaas: System, prefix: str, service: str) -> None:
    """E25: each prefix leads to its own service, by GET and by POST."""
    for method in ("GET", "POST"):
        answer = isaas.ask_as("e25", method, f"{V1}/{prefix}/x?y=1", body=b"z" * (method == "POST"))
        assert (answer.status, isaas.of(service, answer).method) == (200, method)
    assert isaas.hit() == {service: 2}


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_e26_other_methods_are_405(isaas: System, method: str) -> None:
    """E26: a method that the document does not list is 405; Allow says which ones are."""
    answer = isaas.ask_as("e26", method, f"{V1}/context/x")
    assert (answer.status, is_envelope(answer, "METHOD_NOT_ALLOWED")) == (405, True)
    allowed = {word.strip() for word in (answer.get("allow") or "").split(",")}
    assert {"GET", "POST"} <= allowed
    assert allowed <= {"GET", "POST", "HEAD", "OPTIONS"}
    assert isaas.hit() == {}


def test_e27_prefixes_match_by_segments(signing: System) -> None:
    """E27: a prefix matches itself and what is below it, nothing that begins alike; the longest one wins."""
    assert signing.ask_as("e27", "GET", f"{V1}/contextual").status == 404
    for path in ("/context", "/context/"):
        assert signing.ask_as("e27", "GET", V1 + path).status == 200
    signing.reset()
    signing.ask_as("e27", "GET", f"{V1}/intent/deep/x")
    signing.ask_as("e27", "GET", f"{V1}/intent/deeper")
    assert signing.hit() == {"context": 1, "intent": 1}


def test_e28_prefix_is_stripped_by_a_flag(signing: System) -> None:
    """E28: with the flag the service gets the rest of the path, without it all of the path."""
    answer = signing.ask_as("e28", "GET", f"{V1}/intent/analyze")
    assert signing.of("intent", answer).target == b"/analyze"
    answer = signing.ask_as("e28", "GET", f"{V1}/intent/deep/analyze")
    assert signing.of("context", answer).target == b"/api/v1/intent/deep/analyze"


def provoke(system: System) -> dict[str, tuple[Answer, set[int]]]:
    """One error of each kind, and the statuses that it may have."""
    who = "e33"
    system.on("context", f"{V1}/brittle", answers.plain("500 Broken"))
    system.on("context", "/", answers.plain("500 Broken"))
    system.on("context", f"{V1}/hasty", answers.hang)
    for _ in range(2):
        opened = system.ask_as(who, "POST", f"{V1}/brittle")
    spent = [system.ask_as("e33-often", "GET", f"{V1}/intent") for _ in range(60)]
    limited = next(one for one in spent if one.status == 429)
    return {
        "AUTH_ERROR": (system.ask(target=f"{V1}/context"), {401}),
        "AUTH_ERROR of a scope": (system.ask_as(who, "GET", f"{V1}/both"), {403}),
        "RATE_LIMIT": (limited, {429}),
        "CIRCUIT_OPEN": (opened, {503}),
        "SERVICE_UNAVAILABLE": (system.ask_as(who, "GET", f"{V1}/nobody"), {503}),
        "INVALID_REQUEST": (
            system.ask_as(who, "GET", f"{V1}/context", [("X-Privacy-Level", "much")]),
            {400, 422},
        ),
        "NOT_FOUND": (system.ask_as(who, "GET", f"{V1}/nosuch"), {404}),
        "METHOD_NOT_ALLOWED": (system.ask_as(who, "PUT", f"{V1}/context"), {405}),
        "PAYLOAD_TOO_LARGE": (system.ask_as(who, "POST", f"{V1}/small", body=b"x" * 11), {413}),
        "UPSTREAM_ERROR": (system.ask_as(who, "POST", f"{V1}/closed"), {502}),
        "UPSTREAM_TIMEOUT": (system.ask_as(who, "GET", f"{V1}/hasty"), {504}),
        "INTERNAL_ERROR": (system.ask_as(who, "GET", f"{V1}/bug"), {500}),
    }


@pytest.fixture(scope="module")
def provoked() -> dict[str, tuple[Answer, set[int]]]:
    """What has been provoked once."""
    return {}


def test_e33_every_error_is_the_envelope(
    signing: System, provoked: dict[str, tuple[Answer, set[int]]]
) -> None:
    """E33: every error of the gateway has exactly the keys of the envelope, and the id of its header."""
    provoked.update(provoke(signing))
    for name, (answer, _) in provoked.items():
        assert is_envelope(answer, name.split()[0]), (name, answer.body)


def test_e34_every_code_has_its_status(
    signing: System, provoked: dict[str, tuple[Answer, set[int]]]
) -> None:
    """E34: each code comes with the status that the document gives it."""
    provoked.update({} if provoked else provoke(signing))
    wrong = {
        name: answer.status
        for name, (answer, statuses) in provoked.items()
        if answer.status not in statuses
    }
    assert wrong == {}


def test_e35_health_and_what_only_admins_see(isaas: System) -> None:
    """E35: /health is as the document shows it; services, breakers and limits are for admins."""
    answer = isaas.ask(target="/health")
    said = answer.json()
    assert (answer.status, said["status"]) == (200, "healthy")
    assert isinstance(said["version"], str)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", said["timestamp"])
    stamp = datetime.fromisoformat(said["timestamp"])
    assert abs(datetime.now(UTC) - stamp) < timedelta(seconds=60)
    for path in ("services", "circuits", "rate-limits"):
        target = f"{V1}/{path}"
        assert isaas.ask(target=target).status == 401
        assert isaas.ask_as("e35", "GET", target, scopes=["read"]).status == 403
        assert isaas.ask_as("e35", "GET", target, scopes=["admin"]).status == 200


@pytest.mark.parametrize(
    ("name", "sent", "received"),
    [
        ("X-Privacy-Level", " STRICT ", "strict"),
        ("X-Privacy-Level", "permissive", "permissive"),
        ("DNT", "1", "1"),
        ("Sec-GPC", "1", "1"),
    ],
)
def test_e36_privacy_headers_are_checked(
    signing: System, name: str, sent: str, received: str
) -> None:
    """E36: a valid privacy header is forwarded in its normal form; any other is 400 with its name; a default may stand in."""
    answer = signing.ask_as("e36", "GET", f"{V1}/context", [(name, sent)])
    assert (answer.status, signing.of("context", answer).get(name)) == (200, received)
    for bad in ([(name, "often")], [(name, sent), (name, sent)]):
        answer = signing.ask_as("e36-bad", "GET", f"{V1}/context", bad)
        assert (answer.status, is_envelope(answer, "INVALID_REQUEST")) == (400, True)
        assert answer.json()["error"]["details"]["header"].lower() == name.lower()
    assert signing.ask_as("e36-absent", "GET", f"{V1}/private").status == 400
    answer = signing.ask_as("e36-absent", "GET", f"{V1}/usual")
    assert signing.of("context", answer).get("x-privacy-level") == "standard"


def test_e37_strict_requests_leave_no_trace(isaas: System) -> None:
    """E37: of a strict request the log has no user, no query and no body."""
    path = f"{V1}/context/x?diagnosis=Zq81-gout"
    strict = [("X-Privacy-Level", "strict")]
    answer = isaas.ask_as("patient-Kx77", "POST", path, strict, b"body-Pw55-of-the-patient")
    assert answer.status == 200
    assert isaas.record(answer)["status"] == 200
    said = isaas.said()
    for private in ("Zq81-gout", "diagnosis", "patient-Kx77", "body-Pw55"):
        assert private not in said


def test_e38_prefix_and_debug(moved: System, signing: System) -> None:
    """E38: API_V1_PREFIX moves every path; without DEBUG, an error shows nothing of the program."""
    assert moved.ask_as("e38", "GET", "/v9/context/x").status == 200
    assert moved.ask_as("e38", "GET", "/v9/services", scopes=["admin"]).status == 200
    assert moved.ask("POST", "/v9/auth/token").status in {400, 422}
    for path in ("context/x", "services", "auth/token"):
        assert moved.ask_as("e38", "GET", f"{V1}/{path}", scopes=["admin"]).status == 404
    answer = signing.ask_as("e38", "GET", f"{V1}/bug")
    assert answer.status == 500
    for trace in (b"Traceback", b"ZeroDivision", b"team's own", b".py"):
        assert trace not in answer.body


def test_e39_addresses_of_all_kinds(moved: System, secure: SecureUpstream) -> None:
    """E39: a service's address may have https, a base path, or no port."""
    secure.reset()
    answer = moved.ask_as("e39", "GET", "/v9/context/x?y=1")
    assert (answer.status, secure.of(answer).target) == (200, b"/base/v2/x?y=1")
    listed = moved.ask_as("e39", "GET", "/v9/services", scopes=["admin"]).json()
    assert "intent.invalid:80" in json.dumps(listed)
    assert moved.ask_as("e39", "POST", "/v9/intent/x").status == 502


def test_e40_compose_starts_gateway_and_redis(isaas: System) -> None:
    """E40: the compose file starts the gateway with Redis, and tells it where it is; both have health checks."""
    services = yaml.safe_load((EXAMPLES / "isaas/compose.yaml").read_text())["services"]
    gateway, redis = services["gateway"], services["redis"]
    given = gateway["environment"]
    pairs = given if isinstance(given, dict) else dict(one.split("=", 1) for one in given)
    assert (pairs["REDIS_HOST"], str(pairs["REDIS_PORT"])) == ("redis", "6379")
    assert "redis" in gateway["depends_on"]
    assert redis["healthcheck"]["test"]
    dockerfile = (EXAMPLES / "isaas/Dockerfile").read_text()
    assert "healthcheck" in gateway or "HEALTHCHECK" in dockerfile
