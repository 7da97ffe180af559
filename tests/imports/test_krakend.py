"""krakend.json: what is translated does what KrakenD's documentation says; what is not is closed."""

import json
from pathlib import Path

import pytest

from propylon.commands.imports.command import Imported, translate
from propylon.commands.imports.source import Source, Unreadable
from tests.imports.driving import Case, gateway_of, hold, imported

USERS, PRODUCTS = "users-1", "products"


def test_endpoints_are_driven(tmp_path: Path) -> None:
    """{id} in the backend's path, roles of a nested claim, claims as headers, one method, one level of path."""
    found = imported("krakend", "krakend.json")
    with gateway_of(found.text, tmp_path) as gateway:
        claims = {"realm_access": {"roles": ["customer"]}, "tenant": {"id": "acme"}}
        customer = gateway.token("ann", **claims)
        got = Case("GET /v1/users/7", service=USERS, path="/internal/customers/7")
        hold(gateway, got, customer)
        headers = gateway.upstream(USERS).requests[-1].headers
        assert (headers["x-customer"], headers["x-tenant"]) == ("ann", "acme")
        hold(gateway, Case("GET /v1/users/7", 401))
        hold(gateway, Case("GET /v1/users/7", 403), gateway.token("ann"))
        for asked in ("GET /v1/users", "GET /v1/users/7/orders"):
            hold(gateway, Case(asked, 404), customer)
        hold(gateway, Case("POST /v1/users/7", 405), customer)
        hold(gateway, Case("GET /v1/products", service=PRODUCTS, path="/products"))
        hold(gateway, Case("GET /v1/home", 503))
        # 5/s of each address; one was used.
        statuses = [gateway.get("/v1/users/7", token=customer).status_code for _ in range(7)]
        assert statuses.count(429) >= 2


def test_the_report_says_what_is_weaker() -> None:
    """KrakenD keeps headers and parameters from services unless they are named; here all of them pass."""
    report = imported("krakend", "krakend.json").report
    lost = {one.at.what: one.text for one in report.findings if one.verdict == "not translated"}
    assert set(lost) == {"endpoints[1].input_query_strings", "endpoints[2].backend"}
    assert "page, size" in lost["endpoints[1].input_query_strings"]
    assert [one.closed for one in report.findings if one.closed] == ["/v1/home"]
    assert report.status == 1


def endpoint(**keys: object) -> Imported:
    """Translate a file of one endpoint that forwards everything."""
    passing = {"input_headers": ["*"], "input_query_strings": ["*"], "output_encoding": "no-op"}
    backend = {"url_pattern": "/a", "host": ["http://a.internal:8000"]}
    made = {"endpoint": "/a", "backend": [backend], **passing, **keys}
    return translate(
        "krakend", [Source("krakend.json", json.dumps({"version": 3, "endpoints": [made]}))]
    )


def validator(**keys: object) -> dict[str, object]:
    """The settings of a validator with published keys."""
    return {"auth/validator": {"alg": "RS256", "jwk_url": "https://login.example/jwks", **keys}}


def test_all_of_it_is_translated() -> None:
    """Nothing is lost of an endpoint that passes everything on: the status is 0."""
    found = endpoint()
    assert found.report.status == 0
    assert "auth: none" in found.text


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"extra_config": validator(audience=["a", "b"])}, "KrakenD wants all audiences"),
        ({"extra_config": validator(frobnicate=True)}, "the importer does not know this key"),
        (
            {"extra_config": {"auth/validator": {"alg": "RS256", "jwk_local_path": "k"}}},
            "file of JWK",
        ),
        ({"extra_config": {"validation/cel": []}}, "validation/cel of an endpoint"),
        (
            {"extra_config": {"qos/ratelimit/router": {"client_max_rate": 1, "strategy": "param"}}},
            "a limit by param",
        ),
        (
            {"backend": [{"url_pattern": "/a", "host": ["http://a:1"], "deny": ["secret"]}]},
            "fields are taken out",
        ),
        (
            {"backend": [{"url_pattern": "/a", "host": ["http://a:1"], "method": "POST"}]},
            "never changes the method",
        ),
        ({"backend": [{"url_pattern": "/{other}", "host": ["http://a:1"]}]}, "{other}"),
        ({"backend": []}, "0 backends"),
    ],
)
def test_lost_protection_closes_the_endpoint(keys: dict[str, object], why: str) -> None:
    """The comment stands at the route, the route answers 503, and the status is 1."""
    found = endpoint(**keys)
    assert (found.report.status, "status: 503" in found.text) == (1, True)
    assert any(
        why in one.text and one.closed == "/a" for one in found.report.findings
    ), found.report


def test_scopes_of_which_any_would_do_are_all_asked_for() -> None:
    """Stricter than there, and said."""
    found = endpoint(extra_config=validator(scopes=["a", "b"], scopes_matcher="any"))
    assert "scopes: [a, b]" in found.text
    assert found.report.status == 0
    assert any("all of them are asked for" in one.text for one in found.report.findings)


def test_rates_are_never_rounded_up() -> None:
    """Seven in three minutes is 139 an hour, not 140; a burst is the bucket's size."""
    limit = {"max_rate": 7, "every": "3m", "capacity": 9}
    found = endpoint(extra_config={"qos/ratelimit/router": limit})
    assert "{name: max_rate, rate: 140/h, burst: 9, key: route}" in found.text
    limit = {"max_rate": 1, "every": "7m"}
    found = endpoint(extra_config={"qos/ratelimit/router": limit})
    assert "rate: 205/d" in found.text


def test_templates_and_other_versions_are_refused() -> None:
    """Flexible configuration must be put together first."""
    for text, why in (
        ('{"version": 3, "endpoints": [ {{ include "a.json" }} ]}', "a template"),
        ('{"version": 2, "endpoints": []}', "KrakenD 3"),
        ("[]", "KrakenD 3"),
    ):
        with pytest.raises(Unreadable, match=why):
            translate("krakend", [Source("krakend.json", text)])
