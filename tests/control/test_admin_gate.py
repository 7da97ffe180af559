"""What an endpoint is told of its caller, where it does more for admins."""

import asyncio
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from propylon.control.admin import AdminGate
from propylon.control.app import create_app
from propylon.proxy.authorize import AdminRule
from propylon.proxy.exchange import Exchange
from propylon.proxy.principal import Principal
from propylon.upstream.inprocess import CONTEXT
from tests.proxy.doubles import ENTROPY, Client, request, route

ADMIN = Principal("root", scopes=["admin", "read"])
HERE = "127.0.0.1:8001"


def app_of(gate: AdminGate) -> FastAPI:
    """An endpoint that says which scopes its caller has for it, and one for admins."""
    app = create_app("1", [])
    judged = gate.caller("tokens")

    @app.get("/caller")
    async def caller(principal: Principal = judged) -> list[str]:
        return sorted(principal.scopes)

    @app.get("/admins", dependencies=[gate.requires("tokens")])
    async def admins() -> None:
        return None

    return app


def exchange(principal: Principal, listener: str, client: str) -> Exchange:
    """A request that the gateway has let through to the app."""
    found = Exchange(request(b"/caller"), Client(client=client), b"%080x" % ENTROPY, 0.0)
    found.principal = principal
    found.route = route(listener=listener)
    return found


def ask(gate: AdminGate, context: object, path: str = "/caller") -> httpx.Response:
    """Call the app with this context."""
    app = app_of(gate)

    async def with_context(scope: Any, receive: Any, send: Any) -> None:
        scope["state"] = {CONTEXT: context}
        await app(scope, receive, send)

    async def main() -> httpx.Response:
        transport = httpx.ASGITransport(with_context)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://a") as client:
            return await client.get(path)

    return asyncio.run(main())


def gate_of(listener: str = "", **rule: Any) -> AdminGate:
    """Rules for the revocation of others' tokens."""
    gate = AdminGate()
    gate.apply({"tokens": AdminRule(**{"scopes": ("admin",), **rule})}, listener)
    return gate


@pytest.mark.parametrize(
    ("gate", "principal", "listener", "expected"),
    [
        (AdminGate(), ADMIN, "", ["admin", "read"]),
        (gate_of(), ADMIN, "", ["admin", "read"]),
        (gate_of(scopes=("operate",)), ADMIN, "", ["read"]),
        (
            gate_of(scopes=("operate",)),
            Principal("o", scopes=["operate"]),
            "",
            ["admin", "operate"],
        ),
        (gate_of(HERE), ADMIN, "", ["read"]),
        (gate_of(HERE), ADMIN, HERE, ["admin", "read"]),
        (gate_of(role="operator"), ADMIN, "", ["read"]),
        (gate_of(issuer="https://id.example"), ADMIN, "", ["read"]),
        (gate_of(networks=()), ADMIN, "", ["read"]),
    ],
)
def test_the_scope_admin_is_what_the_rules_make_of_it(
    gate: AdminGate, principal: Principal, listener: str, expected: list[str]
) -> None:
    """The caller has it if every condition holds here, and not because the token has it."""
    answer = ask(gate, exchange(principal, listener, "192.0.2.1"))
    assert (answer.status_code, answer.json()) == (200, expected)


def test_without_the_gateway_in_front() -> None:
    """What cannot be told is refused: the address, and the listener."""
    alone = SimpleNamespace(principal=ADMIN)
    assert ask(gate_of(), alone).json() == ["admin", "read"]
    assert ask(gate_of(HERE), alone).json() == ["read"]
    assert ask(gate_of(networks=()), alone).json() == ["read"]
    assert ask(gate_of(), None).status_code == 401


def test_endpoints_for_admins_check_the_token_once_more() -> None:
    """The route has checked it already; the app alone is not open either."""
    gate = gate_of(scopes=("admin", "revoke"))
    assert ask(gate, SimpleNamespace(principal=ADMIN), "/admins").status_code == 200
    narrow = Principal("n", scopes=["revoke"])
    assert ask(gate, SimpleNamespace(principal=narrow), "/admins").status_code == 200
    other = Principal("o", scopes=["read"])
    assert ask(gate, SimpleNamespace(principal=other), "/admins").status_code == 403
    assert ask(gate, None, "/admins").status_code == 401
