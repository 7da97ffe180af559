"""A team's own Python: policies before routes, endpoints that know who is asking, stand-ins in tests."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Self

import httpx
import pytest
import yaml
from fastapi import Depends, FastAPI

from propylon import Gateway as Propylon
from propylon import Principal, current_principal, require_roles, require_scopes
from tests.gateway.test_auth import check_refused
from tests.support.client import RawClient, ask, request
from tests.support.gateway import EDGES, Config, Gateway
from tests.support.guarded import Kept
from tests.support.tokens import SECRET, authorized, bearer, mint
from tests.support.topology import Upstreams
from tests.support.upstream import Upstream

TEAM = '''
"""A team's gateway."""

import asyncio
from typing import Annotated

from fastapi import HTTPException

from propylon import Gateway, Principal, Request, current_principal, require_roles, require_scopes
from propylon.errors import Forbidden, RateLimited

gateway = Gateway.from_file("propylon.yaml")
app = gateway.asgi
seen: list[str] = []


@gateway.before("guarded")
async def first(request: Request, principal: Principal) -> None:
    seen.append("first " + principal.subject)
    if principal.subject == "barred":
        raise Forbidden("Not at this hour", details={"opens": "08:00"})
    if principal.subject == "teapot":
        raise HTTPException(418, "I am a teapot", headers={"X-Why": "tea"})
    if principal.subject == "later":
        raise RateLimited("Slowly", headers=((b"Retry-After", b"7"),))
    if principal.subject == "broken":
        raise ZeroDivisionError("p0licy-internals")
    if principal.subject == "slow":
        await asyncio.sleep(0.05)
        async with asyncio.timeout(1):
            await asyncio.sleep(0.01)
    if principal.subject == "late":
        await asyncio.sleep(0.05)
        raise Forbidden("Too late")
    if principal.subject == "endless":
        await asyncio.sleep(3600)


@gateway.before("guarded")
async def second(request: Request, principal: Principal) -> None:
    seen.append("second " + principal.subject)


@gateway.before("public")
async def third(request: Request, principal: Principal) -> None:
    seen.append("third " + str(principal.known))


@gateway.api.get("/team/seen")
async def what_was_seen(principal: Annotated[Principal, current_principal]) -> list[str]:
    return seen


@gateway.api.get("/team/me")
async def me(principal: Annotated[Principal, current_principal]) -> dict[str, object]:
    return {"subject": principal.subject, "scopes": sorted(principal.scopes)}


@gateway.api.get("/team/read", dependencies=[require_scopes("read", "list")])
async def read() -> str:
    return "read"


@gateway.api.get("/team/boss")
async def boss(principal: Annotated[Principal, require_roles("boss", "owner")]) -> str:
    return principal.subject


@gateway.api.get("/team/unsaid")
async def unsaid() -> str:
    return "unsaid"


@gateway.api.post("/team/items/{item}")
async def item(item: int, principal: Annotated[Principal, require_scopes("write")]) -> int:
    return item
'''


def configuration(port: int) -> Config:
    """The file beside the team's module."""
    return {
        "auth": {"jwt": {"secret": SECRET}},
        "services": {"main": {"url": f"http://127.0.0.1:{port}"}},
        "routes": [
            {"name": "guarded", "path": "/guarded", "service": "main", "scopes": ["read"]},
            {"name": "public", "path": "/public", "service": "main", "auth": "none"},
            {"name": "plain", "path": "/plain", "service": "main"},
        ],
    }


@pytest.fixture(scope="module")
def teams(guarded_upstreams: Upstreams, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    """A team's gateway on each edge, run as a module of its own."""
    config = configuration(guarded_upstreams.main.port)
    running = Kept(EDGES, tmp_path_factory.mktemp("team"), config, app="team", source=TEAM)
    yield running
    running.close()


@pytest.fixture(scope="module")
def team(edge: str, teams: Kept) -> Gateway:
    """The team's gateway on the edge in turn."""
    return teams.at(edge)


@pytest.fixture
def up(team: Gateway, guarded_upstreams: Upstreams) -> Iterator[Upstream]:
    """What stands behind it, with an empty record."""
    guarded_upstreams.reset()
    yield guarded_upstreams.main
    assert guarded_upstreams.faults == []


def seen(team: Gateway) -> list[str]:
    """What the policies have seen until now."""
    found: list[str] = ask(team.port, target="/team/seen", headers=authorized()).json()
    return found


def as_(subject: str, scope: str = "read") -> list[tuple[str, str]]:
    """The header with a token of that subject."""
    return authorized(subject, scope=scope)


def test_policies_run_in_order(team: Gateway, up: Upstream) -> None:
    """Those of a route run one after the other, before its upstream is asked, and only those."""
    before = len(seen(team))
    assert ask(team.port, target="/guarded", headers=as_("ann")).status == 200
    assert ask(team.port, target="/public").status == 200
    assert ask(team.port, target="/plain", headers=as_("ann")).status == 200
    assert seen(team)[before:] == ["first ann", "second ann", "third False"]
    assert len(up.requests) == 3


def test_policies_come_after_authorization(team: Gateway, up: Upstream) -> None:
    """Whom the rules refuse no policy hears of."""
    before = len(seen(team))
    check_refused(ask(team.port, target="/guarded"))
    check_refused(ask(team.port, target="/guarded", headers=as_("eve", "other")), 403)
    check_refused(ask(team.port, target="/guarded", headers=bearer("no-such-token-6Hj")))
    assert seen(team)[before:] == []
    assert up.raw == b""


@pytest.mark.parametrize(
    ("subject", "status", "code", "message"),
    [
        ("barred", 403, "AUTH_ERROR", "Not at this hour"),
        ("late", 403, "AUTH_ERROR", "Too late"),
        ("later", 429, "RATE_LIMIT", "Slowly"),
        ("teapot", 418, None, "I am a teapot"),
    ],
)
def test_policy_refuses(
    team: Gateway, up: Upstream, subject: str, status: int, code: str | None, message: str
) -> None:
    """An error of ours or of FastAPI's: its status and words in the envelope, its headers with it."""
    answer = ask(team.port, target="/guarded", headers=as_(subject))
    error = answer.json()["error"]
    assert (answer.status, error["message"]) == (status, message)
    assert code is None or error["code"] == code
    assert answer.json()["request_id"] == answer.get("x-request-id")
    assert answer.get("x-error-source") == "gateway"
    assert answer.get("cache-control") == "no-store"
    if subject == "barred":
        assert error["details"] == {"opens": "08:00"}
    if subject == "teapot":
        assert answer.get("x-why") == "tea"
    if subject == "later":
        assert answer.get("retry-after") == "7"
    assert up.raw == b""
    assert team.record(answer)["principal"] == subject


def test_policy_may_wait(team: Gateway, up: Upstream) -> None:
    """A policy may await whatever it needs, timeouts of its own among it."""
    assert ask(team.port, target="/guarded", headers=as_("slow")).status == 200


def test_broken_policy_lets_nobody_in(team: Gateway, up: Upstream) -> None:
    """A bug in a policy is a 500 without a word of it, the traceback is in the log, others go on."""
    answer = ask(team.port, target="/guarded", headers=as_("broken"))
    assert (answer.status, answer.json()["error"]["code"]) == (500, "INTERNAL_ERROR")
    assert b"p0licy" not in answer.body
    assert b"ZeroDivision" not in answer.body
    team.record(answer)
    assert up.wait(lambda: "p0licy-internals" in team.said())
    assert up.raw == b""
    assert ask(team.port, target="/guarded", headers=as_("ann")).status == 200


def test_client_that_leaves_ends_the_policy(team: Gateway, up: Upstream) -> None:
    """A policy that waits for ever does not outlive its client; the exchange is recorded."""
    client = RawClient(team.port)
    headers = [*as_("endless"), ("X-Request-ID", f"endless-{team.edge}")]
    client.send(request(target="/guarded", headers=headers))
    assert up.wait(lambda: "first endless" in seen(team))
    client.reset()
    assert len(team.records(f"endless-{team.edge}")) == 1
    assert b"/guarded" not in up.raw


def test_refused_upload_is_not_sent_on(team: Gateway, up: Upstream) -> None:
    """A body that a policy refuses reaches nobody, and is no request of its own."""
    answer = ask(team.port, "POST", "/guarded", as_("barred"), request(target="/public/SMUGGLED"))
    assert answer.status == 403
    assert b"SMUGGLED" not in up.raw


def test_body_arrives_whole_behind_a_policy(team: Gateway, up: Upstream) -> None:
    """While a policy waits the body waits too, and then arrives whole."""
    body = bytes(range(256)) * 2000
    assert ask(team.port, "POST", "/guarded", as_("slow"), body).status == 200
    assert up.last.length == len(body)


# Endpoints


def test_endpoint_knows_who_is_asking(team: Gateway, up: Upstream) -> None:
    """current_principal is whom the gateway has verified; without a token it is 401."""
    answer = ask(team.port, target="/team/me", headers=as_("ann", "b a"))
    assert (answer.status, answer.json()) == (200, {"subject": "ann", "scopes": ["a", "b"]})
    check_refused(ask(team.port, target="/team/me"))
    check_refused(ask(team.port, target="/team/me", headers=bearer(mint(exp=1))))
    spoofed = [("X-User-Id", "root"), ("x_user_id", "root")]
    check_refused(ask(team.port, target="/team/me", headers=spoofed))
    assert (
        ask(team.port, target="/team/me", headers=[*as_("ann"), *spoofed]).json()["subject"]
        == "ann"
    )


@pytest.mark.parametrize(
    ("target", "said", "status"),
    [
        ("/team/read", None, 401),
        ("/team/read", {"scope": "read"}, 403),
        ("/team/read", {"scope": "read list"}, 200),
        ("/team/boss", None, 401),
        ("/team/boss", {"roles": ["clerk"]}, 403),
        ("/team/boss", {"roles": ["owner"]}, 200),
        ("/team/unsaid", None, 401),
        ("/team/unsaid", {}, 200),
        ("/team/nothing", {}, 404),
        ("/team", {}, 404),
        ("/team/me/below", {}, 404),
    ],
)
def test_endpoint_says_who_may(
    team: Gateway, up: Upstream, target: str, said: dict[str, Any] | None, status: int
) -> None:
    """Scopes all, roles any; an endpoint that says nothing wants a token all the same."""
    headers = [] if said is None else authorized(**said)
    answer = ask(team.port, target=target, headers=headers)
    assert answer.status == status
    if status == 403:
        check_refused(answer, 403)
        assert "insufficient_scope" in (answer.get("www-authenticate") or "")


def test_endpoint_with_a_parameter(team: Gateway, up: Upstream) -> None:
    """Path parameters are FastAPI's: a bad one is 422 in the gateway's envelope, after the question."""
    assert ask(team.port, "POST", "/team/items/7", as_("ann", "write")).json() == 7
    check_refused(ask(team.port, "POST", "/team/items/7"))
    check_refused(ask(team.port, "POST", "/team/items/7", as_("ann")), 403)
    answer = ask(team.port, "POST", "/team/items/x", as_("ann", "write"))
    assert (answer.status, answer.json()["error"]["code"]) == (422, "INVALID_REQUEST")
    assert "item" in str(answer.json()["error"]["details"])
    assert ask(team.port, "GET", "/team/items/7", as_("ann", "write")).status == 405


# In process


class InProcess:
    """A client of an app in this process, all of its requests on one loop."""

    def __init__(self, app: Any, gateway: Propylon | None = None) -> None:
        self._app = app
        self._gateway = gateway
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()

    def __enter__(self) -> Self:
        self._runner.run(self._begin())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._runner.run(self._stack.aclose())
        self._runner.close()

    async def _begin(self) -> None:
        if self._gateway is not None:
            await self._stack.enter_async_context(self._gateway.lifespan())
        transport = httpx.ASGITransport(self._app)
        client = httpx.AsyncClient(transport=transport, base_url="http://gw.test")
        self._client = await self._stack.enter_async_context(client)

    def get(self, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
        """Ask."""
        return self._runner.run(self._client.get(path, headers=headers))

    def post(self, path: str, content: str, headers: dict[str, str]) -> httpx.Response:
        """Send something."""
        return self._runner.run(self._client.post(path, content=content, headers=headers))


@pytest.fixture
def gateway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, guarded_upstreams: Upstreams
) -> Propylon:
    """A gateway in this process, as a team's own tests have it."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("PROPYLON")]:
        monkeypatch.delenv(name)
    file = tmp_path / "propylon.yaml"
    file.write_text(yaml.safe_dump(configuration(guarded_upstreams.main.port)))
    guarded_upstreams.reset()
    return Propylon.from_file(file)


def test_principal_is_overridden(gateway: Propylon, guarded_upstreams: Upstreams) -> None:
    """In a team's tests a principal stands in for tokens; scopes are looked at all the same."""
    with InProcess(gateway.asgi, gateway) as client:
        assert client.get("/plain").status_code == 401
        with gateway.override_principal(Principal(subject="42", roles=frozenset({"clerk"}))):
            assert client.get("/plain").status_code == 200
            assert client.get("/guarded").status_code == 403
            assert client.get("/nowhere").status_code == 404
        told = guarded_upstreams.main.last
        assert (told.get("x-user-id"), told.get("x-user-roles")) == ("42", "clerk")
        with gateway.override_principal(Principal(subject="43", scopes=["read"], roles=())):
            assert client.get("/guarded").status_code == 200
        assert guarded_upstreams.main.last.get("x-user-id") == "43"
        assert client.get("/plain").status_code == 401


def test_override_cannot_make_a_header(gateway: Propylon, guarded_upstreams: Upstreams) -> None:
    """A principal whose name would break a header is refused when it is put in."""
    with pytest.raises(ValueError, match="."):
        gateway.override_principal(Principal(subject="a\r\nX-User-Roles: admin"))


def test_policy_of_no_route(gateway: Propylon) -> None:
    """A policy on a route that is not there would guard nothing: an error that names the nearest."""
    with pytest.raises(ValueError, match="guarded"):
        gateway.before("gaurded")


def test_dependencies_are_overridden(gateway: Propylon) -> None:
    """Endpoints are tested by FastAPI's own means: what stands in for one dependency serves all three."""
    api = gateway.api

    @api.get("/me")
    async def me(principal: Annotated[Principal, current_principal]) -> str:
        return principal.subject

    @api.get("/depends")
    async def depends(principal: Annotated[Principal, Depends(current_principal)]) -> str:
        return principal.subject

    @api.get("/read", dependencies=[require_scopes("read")])
    async def read() -> str:
        return "read"

    @api.get("/boss")
    async def boss(principal: Annotated[Principal, require_roles("boss")]) -> str:
        return principal.subject

    def statuses(api: FastAPI) -> list[int]:
        with InProcess(api) as client:
            return [client.get(path).status_code for path in ("/me", "/depends", "/read", "/boss")]

    assert statuses(api) == [401] * 4
    somebody = Principal(subject="42", scopes=frozenset({"read"}))
    api.dependency_overrides[current_principal] = lambda: somebody
    assert statuses(api) == [200, 200, 200, 403]
    api.dependency_overrides.clear()
    assert statuses(api) == [401] * 4


def test_policy_registered_in_process(gateway: Propylon, guarded_upstreams: Upstreams) -> None:
    """A policy that a test adds holds from then on."""
    asked: list[str] = []

    @gateway.before("plain")
    async def note(request: object, principal: Principal) -> None:
        await asyncio.sleep(0)
        asked.append(principal.subject)

    with (
        InProcess(gateway.asgi, gateway) as client,
        gateway.override_principal(Principal(subject="42")),
    ):
        assert client.get("/plain").status_code == 200
    assert asked == ["42"]
