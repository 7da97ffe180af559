"""Services that variables name, where there is no file: which of their paths are open."""

from pathlib import Path

import pytest

from propylon.config.models.endpoints import builtin_endpoints
from propylon.config.reading.load import load
from tests.config.texts import SECRET, doubts, problems

BASE = {"JWT_SECRET_KEY": SECRET}


def opened(**environ: str) -> set[tuple[str, str]]:
    """Each method and path that needs no token; `*` for all methods."""
    config = load(None, BASE | environ).config
    return {
        (method, route.path)
        for route in config.routes
        if route.auth == "none"
        for method in route.methods or ("*",)
    }


def test_an_auth_service_can_be_logged_in_at() -> None:
    """By POST on three paths, and the service sees its own paths."""
    config = load(None, BASE | {"AUTH_SERVICE_URL": "http://auth"}).config
    prefix = "/api/v1/auth"
    assert opened(AUTH_SERVICE_URL="http://auth") == {
        ("POST", f"{prefix}{path}") for path in ("/login", "/signup", "/refresh")
    }
    assert all(route.exact and route.rewrite for route in config.routes if route.auth == "none")
    rest = {route.path for route in config.routes if route.auth == "required"}
    assert rest == {prefix, *(f"{prefix}{path}" for path in ("/login", "/signup", "/refresh"))}


@pytest.mark.parametrize("text", ["", " ", ","])
def test_an_empty_variable_closes_it(text: str) -> None:
    """What is written counts, also where that is nothing."""
    assert opened(AUTH_SERVICE_URL="http://auth", AUTH_SERVICE_PUBLIC=text) == set()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/items", {("*", "/api/v1/shop/items")}),
        ("GET /items", {("GET", "/api/v1/shop/items")}),
        (
            "GET /items, HEAD /items,/x",
            {
                ("GET", "/api/v1/shop/items"),
                ("HEAD", "/api/v1/shop/items"),
                ("*", "/api/v1/shop/x"),
            },
        ),
        ("GET /items,/items", {("*", "/api/v1/shop/items")}),
    ],
)
def test_any_service_may_have_open_paths(text: str, expected: set[tuple[str, str]]) -> None:
    """With a method or for all of them."""
    assert opened(SHOP_SERVICE_URL="http://shop", SHOP_SERVICE_PUBLIC=text) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("items", 'the path must start with "/"'),
        ("/a/{id}", 'the path has "{id}": names of segments cannot stand here'),
        ("get /a", "methods are written in upper case: GET"),
    ],
)
def test_what_is_no_path_is_a_problem(text: str, said: str) -> None:
    """At the variable. Nothing is opened by half."""
    environ = {**BASE, "SHOP_SERVICE_URL": "http://shop", "SHOP_SERVICE_PUBLIC": text}
    Path("propylon.yaml").unlink(missing_ok=True)
    with pytest.raises(Exception) as caught:
        load(None, environ)
    assert str(caught.value) == f"SHOP_SERVICE_PUBLIC services.shop: {said}"


def test_paths_of_a_service_that_is_not_there_are_doubted() -> None:
    """A typo in a name would leave a login closed."""
    environ = {**BASE, "AUTH_SERVICE_URL": "http://auth", "AUHT_SERVICE_PUBLIC": "/login"}
    said = "AUHT_SERVICE_PUBLIC: opens nothing, because AUHT_SERVICE_URL is not set"
    assert said in doubts(load(None, environ))


SHADOWED = "below it, and the service never sees them"


@pytest.mark.parametrize("path", ["/api/v1/auth", "/api/v1/auth/"])
def test_a_service_behind_the_gateways_own_endpoints_is_doubted(path: str) -> None:
    """With the key that decides."""
    text = f"auth: {{jwt: {{secret: {SECRET}}}}}\nservices: {{a: {{url: 'http://a'}}}}\nroutes: [{{path: {path}, service: a}}]"
    Path("propylon.yaml").write_text(text)
    (said,) = doubts(load(None, {}))
    assert SHADOWED in said
    assert said.endswith("if the service issues the tokens, write auth.tokens.enabled: false")


@pytest.mark.parametrize("path", ["/", "/api", "/api/v1", "/auth", "/api/v1/orders"])
def test_what_is_left_over_is_not_doubted(path: str) -> None:
    """A route for everything else is what it seems to be."""
    text = f"auth: {{jwt: {{secret: {SECRET}}}}}\nservices: {{a: {{url: 'http://a'}}}}\nroutes: [{{path: {path}, service: a}}]"
    Path("propylon.yaml").write_text(text)
    assert doubts(load(None, {})) == []


def test_the_path_of_a_token_endpoint_that_is_off_is_free() -> None:
    """A team's own service may issue the tokens at the usual path."""
    text = "services: {a: {url: 'http://a'}}\nroutes: [{path: /api/v1/auth/token, service: a, auth: none}]\n"
    off = f"auth: {{jwt: {{secret: {SECRET}}}, tokens: {{enabled: false}}}}\n"
    Path("propylon.yaml").write_text(off + text)
    assert load(None, {}).config.routes[0].path == "/api/v1/auth/token"
    (said,) = problems(text)
    assert "is the path of one of the gateway's own endpoints" in said


@pytest.mark.parametrize(
    ("more", "enabled"),
    [
        ({}, "users"),
        ({"ACCESS_TOKEN_EXPIRE_MINUTES": "5"}, None),
        ({"PROPYLON_AUTH__TOKENS__ENABLED": "true"}, True),
        ({"PROPYLON_AUTH__TOKENS__ENABLED": "false"}, False),
    ],
)
def test_the_token_endpoint_hangs_on_users_by_variables_alone(
    more: dict[str, str], enabled: object
) -> None:
    """It is on while there are users, unless a variable asks for it; in any file, the key decides alone."""
    auth = load(None, BASE | {"AUTH_SERVICE_URL": "http://auth"} | more).config.auth
    assert auth.tokens.enabled == enabled
    assert auth.issues_while_users == (enabled == "users")


def test_an_empty_file_has_the_token_endpoint_on(tmp_path: Path) -> None:
    """With a file, it is on where there is a secret."""
    file = tmp_path / "propylon.yaml"
    file.write_text("")
    assert load(file, BASE).config.auth.tokens.enabled is None


@pytest.mark.parametrize(("users", "own"), [(False, set()), (True, {"/auth/token", "/users/me"})])
def test_what_is_off_without_users_is_free_for_services(*, users: bool, own: set[str]) -> None:
    """Until there is a user, /auth/token and /users/me go to the services; they are no error and no doubt."""
    environ = BASE | {"AUTH_SERVICE_URL": "http://auth", "USERS_SERVICE_URL": "http://users"}
    loaded = load(None, environ)
    found = {
        one.path.removeprefix("/api/v1"): one
        for one in builtin_endpoints("/api/v1", loaded.config.auth, users=users)
        if not any(one.yields_to(route.path) for route in loaded.config.routes)
    }
    assert found.keys() & {"/auth/token", "/users/me"} == own
    assert not [doubt for doubt in loaded.warnings if "/auth/token" in str(doubt)]


def test_a_route_on_the_very_path_keeps_it_when_users_come() -> None:
    """What a service answers at /auth/token does not change by itself."""
    environ = {"AUTH_SERVICE_URL": "http://auth", "AUTH_SERVICE_PUBLIC": "/token"}
    config = load(None, BASE | environ).config
    (token,) = (
        one for one in builtin_endpoints("/api/v1", config.auth) if one.path.endswith("/token")
    )
    assert any(token.yields_to(route.path) for route in config.routes)
