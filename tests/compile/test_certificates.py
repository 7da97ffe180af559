"""Routes beside clients' certificates: where a certificate counts, and what becomes of a token."""

from dataclasses import replace
from typing import Any

import pytest

from propylon.proxy.pipeline import Pipeline
from propylon.proxy.principal import Principal, identify
from tests.compile.compiled import BAD, TOKEN, World, one
from tests.proxy.doubles import ENTROPY, Client, Counting, request, run

HOLDER = identify(Principal("CN=ann", issuer="CN=ca"), tells_issuer=True)
CLIENTS = {"tls": {"certificate": "a", "key": "b", "clients": {"ca": "c"}}}


def status(world: World, *lines: bytes, holder: Principal | None = HOLDER) -> int:
    """What a client with this certificate gets."""
    downstream = Client()
    downstream.origin = replace(downstream.origin, holder=holder)
    pipeline = Pipeline(world.table, (), clock=Counting(), chance=lambda _: ENTROPY)
    run(pipeline.handle(request(b"/a", *lines), downstream))
    [(_, head, _, _)] = downstream.events
    code: int = head.status
    return code


def caller(world: World) -> bytes | None:
    """The caller as the upstream was told of it last."""
    block: bytes = world.up.got[-1][1]
    lines = [line for line in block.split(b"\r\n") if line.startswith(b"X-User-Id: ")]
    return lines[0].removeprefix(b"X-User-Id: ") if lines else None


@pytest.mark.parametrize("auth", ["required", "optional"])
def test_a_certificate_is_enough(auth: str) -> None:
    """Without a token the certificate's holder is the caller; with a good one the token's subject; a bad one is 401."""
    world = one({"auth": auth}, top=CLIENTS, verified=True)
    assert status(world) == 200
    assert caller(world) == b"CN=ann"
    assert status(world, TOKEN) == 200
    assert caller(world) == b"alice"
    assert status(world, BAD) == 401


def test_without_a_certificate_nothing_changes() -> None:
    """A client without one needs its token as ever."""
    world = one({"auth": "required"}, top=CLIENTS, verified=True)
    assert status(world, holder=None) == 401
    assert status(world, TOKEN, holder=None) == 200


@pytest.mark.parametrize(
    ("route", "expected"),
    [
        ({"auth": "required", "scopes": ["read"]}, 403),
        ({"auth": "required", "roles": ["clerk"]}, 403),
        ({"auth": "required", "issuers": ["https://a.example"]}, 401),
        ({"auth": "optional", "issuers": ["https://a.example"]}, 200),
        ({"auth": "none"}, 200),
    ],
)
def test_what_a_certificate_does_not_give(route: dict[str, Any], expected: int) -> None:
    """No scopes, no roles, and no place among the issuers that a route names; on an open route the client stays anonymous."""
    world = one(route, top=CLIENTS, verified=True)
    assert status(world) == expected
    if expected == 200:
        assert caller(world) is None


def test_without_tls_clients_a_certificate_counts_for_nothing() -> None:
    """Another server may pass on a certificate that the gateway has not asked for."""
    assert status(one({"auth": "required"}, verified=True)) == 401
