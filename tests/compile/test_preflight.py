"""`preflight: pass`: a service answers preflights itself; nothing else passes without what the route asks for."""

import pytest

from propylon.proxy.principal import ANONYMOUS
from tests.compile.compiled import KEY, TOKEN, World

ASKED = (b"Origin: https://a.example", b"Access-Control-Request-Method: PUT")
STRICT = {
    "path": "/a",
    "service": "orders",
    "methods": ["PUT"],
    "scopes": ["read"],
    "roles": ["clerk"],
    "privacy": "required",
    "preflight": "pass",
}


def world(**changed: object) -> World:
    """One route that asks for everything."""
    return World({"routes": [{**STRICT, **changed}], **KEY}, verified=True)


def test_a_preflight_passes_without_anything() -> None:
    """Token, scope, role, privacy header and method: a browser sends none of them with a preflight."""
    asked = world()
    status, block = asked.handle("/a", *ASKED, method="OPTIONS")
    assert status == 200
    assert b"X-Theirs" in block
    assert b"\r\nX-User-" not in asked.up.got[-1][1]


@pytest.mark.parametrize("method", ["OPTIONS", "PUT", "GET"])
@pytest.mark.parametrize(
    "lines",
    [
        (),
        ASKED[:1],
        ASKED[1:],
        (*ASKED, b"Content-Length: 5"),
        (*ASKED, b"Transfer-Encoding: chunked"),
    ],
)
def test_nothing_else_passes(method: str, lines: tuple[bytes, ...]) -> None:
    """Another method with the lines of a preflight, a part of them, and a body behind them."""
    asked = world(privacy="optional")
    status, _ = asked.handle("/a", *lines, method=method)
    assert status == (405 if method == "GET" else 401)
    assert not asked.up.got


def test_another_method_with_all_lines_needs_a_token() -> None:
    """The lines alone make no preflight."""
    asked = world(privacy="optional")
    assert asked.handle("/a", *ASKED, method="PUT")[0] == 401
    assert asked.handle("/a", *ASKED, TOKEN, method="PUT")[0] == 200


def test_policies_are_not_asked() -> None:
    """A policy expects a caller, and a preflight has none."""
    seen = []

    async def before(request: object, principal: object) -> None:
        seen.append(principal)

    policies = {"/a": lambda total: before}
    asked = World(
        {"routes": [{**STRICT, "auth": "none", "scopes": [], "roles": [], "privacy": "ignored"}]},
        policies=policies,
    )
    assert asked.handle("/a", *ASKED, method="OPTIONS")[0] == 200
    assert seen == []
    assert asked.handle("/a", method="PUT")[0] == 200
    assert seen == [ANONYMOUS]


def test_without_the_key_a_preflight_is_like_any_request() -> None:
    """401 where the method is served, and 405 where it is not."""
    assert (
        world(preflight=None, privacy="optional", methods=["OPTIONS"]).handle(
            "/a", *ASKED, method="OPTIONS"
        )[0]
        == 401
    )
    assert world(preflight=None).handle("/a", *ASKED, method="OPTIONS")[0] == 405
