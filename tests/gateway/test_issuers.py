"""Several issuers, claims as headers, tokens in cookies: over real sockets, on both edges."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import answers
from tests.support.client import ask
from tests.support.gateway import EDGES, Gateway
from tests.support.issuer import Issuer, as_json
from tests.support.tokens import ABSENT, SECRET, bearer, ec_key, mint
from tests.support.upstream import Upstream

A, B = ec_key("a"), ec_key("b")
OF_A, OF_B = "https://a.example", "https://b.example"
SHOP = "https://shop.example"


def discovery(issuer: Issuer, name: str, keys: str) -> dict[str, object]:
    """Publish a provider's document, and its keys; return the entry for it."""
    base = f"http://127.0.0.1:{issuer.port}"
    document = {"issuer": name, "jwks_uri": f"{base}{keys}"}
    issuer.pages["/.well-known/openid-configuration"] = as_json(document)
    return {"discovery_url": f"{base}/.well-known/openid-configuration"}


@pytest.fixture(scope="module")
def provider() -> Iterator[Issuer]:
    """An identity provider with a document of its own."""
    with Issuer() as issuer:
        issuer.publish(A)
        yield issuer


@pytest.fixture(scope="module")
def behind() -> Iterator[Upstream]:
    """The service behind all routes."""
    with Upstream(fallback=answers.plain(body=b"ok")) as upstream:
        yield upstream


@pytest.fixture(scope="module", params=EDGES)
def gateway(
    request: pytest.FixtureRequest,
    provider: Issuer,
    behind: Upstream,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Gateway]:
    """A gateway with three issuers: one discovered, one with a public key, and its own secret."""
    folder = tmp_path_factory.mktemp("issuers")
    url = f"http://127.0.0.1:{behind.port}"
    config = {
        "auth": {
            "jwt": [
                discovery(provider, OF_A, "/keys.json"),
                {
                    "public_key": B.pem,
                    "issuer": OF_B,
                    "subject_claim": "uid",
                    "roles_claim": ["realm_access.roles", "role"],
                },
                {"secret": SECRET},
            ],
            "from": ["header", "cookie:session", "header:X-Token"],
            "tokens": {"database": f"sqlite:///{folder}/t.db"},
        },
        "cors": {"origins": [SHOP], "credentials": True},
        "services": {
            "main": {"url": url, "claims": {"X-Tenant": "tenant.id"}},
            "blind": {"url": url, "forward_token": False},
        },
        "routes": [
            {"path": "/any", "service": "main"},
            {"path": "/a", "service": "main", "issuers": [OF_A], "claims": {"X-Plan": "plan"}},
            {"path": "/open", "service": "main", "auth": "none"},
            {"path": "/blind", "service": "blind"},
        ],
    }
    running = Gateway(request.param, config, Path(folder))
    try:
        running.wait_ready()
        assert provider.wait(lambda: provider.fetches > 0)
        yield running
    finally:
        running.kill()


def told(upstream: Upstream) -> dict[str, str | None]:
    """What the service was told of the caller."""
    names = ("X-User-Id", "X-User-Issuer", "X-User-Roles", "X-Tenant", "X-Plan")
    return {name: value for name in names if (value := upstream.last.get(name)) is not None}


def test_each_issuer_signs_for_its_own(gateway: Gateway, behind: Upstream) -> None:
    """The service learns subject and issuer; the rules are those of the issuer's entry."""
    assert ask(gateway.port, target="/any", headers=bearer(A.mint(7, iss=OF_A))).status == 200
    assert told(behind) == {"X-User-Id": "7", "X-User-Issuer": OF_A}
    of_b = B.mint("x", iss=OF_B, uid="ann", realm_access={"roles": ["user"]}, role="Super User")
    assert ask(gateway.port, target="/any", headers=bearer(of_b)).status == 200
    assert told(behind) == {
        "X-User-Id": "ann",
        "X-User-Issuer": OF_B,
        "X-User-Roles": "Super User,user",
    }
    assert ask(gateway.port, target="/any", headers=bearer(mint("ann"))).status == 200
    assert told(behind) == {"X-User-Id": "ann"}


def test_no_issuer_signs_for_another(gateway: Gateway, behind: Upstream) -> None:
    """A token that names an issuer whose key did not sign it is refused."""
    behind.reset()
    for sent in (
        B.mint("ann", iss=OF_A, headers={"kid": "a"}),
        A.mint("ann", iss=OF_B, uid="ann"),
        mint("ann", iss=OF_A),
        mint("ann", iss=OF_B, uid="ann"),
        A.mint("ann"),
    ):
        assert ask(gateway.port, target="/any", headers=bearer(sent)).status == 401
    assert not behind.requests


def test_a_route_names_its_issuers(gateway: Gateway, behind: Upstream) -> None:
    """A route with `issuers` refuses the good tokens of the others."""
    good = A.mint("ann", iss=OF_A, plan="gold", tenant={"id": 12})
    assert ask(gateway.port, target="/a", headers=bearer(good)).status == 200
    assert told(behind) == {
        "X-User-Id": "ann",
        "X-User-Issuer": OF_A,
        "X-Tenant": "12",
        "X-Plan": "gold",
    }
    for other in (B.mint("ann", iss=OF_B, uid="ann"), mint("ann")):
        assert ask(gateway.port, target="/a", headers=bearer(other)).status == 401


@pytest.mark.parametrize("target", ["/any", "/a", "/open", "/blind"])
def test_claims_are_never_the_clients_word(gateway: Gateway, behind: Upstream, target: str) -> None:
    """Headers that carry claims, and the issuer, are removed from every request, on every route and in any spelling."""
    names = ("X-Tenant", "x-tenant", "X_Tenant", "x_TENANT", "X-Plan", "X_Plan", "X-User-Issuer")
    forged = [(name, "forged") for name in (*names, "X_User_Issuer")]
    headers = [*forged, ("Connection", "X-Tenant, X-User-Issuer"), *bearer(A.mint("ann", iss=OF_A))]
    assert ask(gateway.port, target=target, headers=headers).status == 200
    assert b"forged" not in behind.raw


def test_a_cookie(gateway: Gateway, behind: Upstream) -> None:
    """A token in a cookie is as good as one in the header, but for requests that another site's page may have sent."""
    cookie = ("Cookie", f"a=b; session={mint('ann')}")
    evil = ("Origin", "https://evil.example")
    assert ask(gateway.port, target="/any", headers=[cookie, evil]).status == 200
    assert told(behind) == {"X-User-Id": "ann"}
    behind.reset()
    refused = ask(gateway.port, "POST", "/any", [cookie, evil], b"x")
    assert (refused.status, refused.json()["error"]["code"]) == (403, "AUTH_ERROR")
    site = [("Sec-Fetch-Site", "cross-site")]
    assert ask(gateway.port, "POST", "/any", [cookie, *site], b"x").status == 403
    assert not behind.requests
    for allowed in ([("Origin", SHOP)], [("Sec-Fetch-Site", "same-origin")], []):
        assert ask(gateway.port, "POST", "/any", [cookie, *allowed], b"x").status == 200


def test_tokens_are_hidden(gateway: Gateway, behind: Upstream) -> None:
    """A service with `forward_token: false` gets the token in none of the places."""
    sent = mint("ann")
    for place in (("Cookie", f"session={sent}; a=b"), ("X-Token", sent), *bearer(sent)):
        assert ask(gateway.port, target="/blind", headers=[place]).status == 200
        assert told(behind) == {"X-User-Id": "ann"}
        assert sent.encode() not in behind.raw
        behind.reset()
    ask(gateway.port, target="/any", headers=[("X-Token", sent)])
    assert sent.encode() in behind.raw


@pytest.mark.parametrize("claim", [{"token_use": "id"}, {"typ": "Refresh"}, {"at_hash": "x"}])
def test_other_kinds_of_tokens(gateway: Gateway, claim: dict[str, str]) -> None:
    """A refresh or ID token of an issuer does not open a route (RFC 8725, 3.11)."""
    for sent in (A.mint("ann", iss=OF_A, **claim), mint("ann", **claim)):
        assert ask(gateway.port, target="/any", headers=bearer(sent)).status == 401


def test_a_caller_is_revoked_by_subject_and_issuer(gateway: Gateway) -> None:
    """Two issuers' subjects of one name are two people: revoking the one leaves the other."""
    admin = bearer(mint("root", scope="admin"))
    form = [("Content-Type", "application/x-www-form-urlencoded"), *admin]

    # The tokens have been issued long before.
    early = {"iat": 1_000_000_000}
    sent = [
        A.mint("eve", iss=OF_A, **early),
        B.mint("x", iss=OF_B, uid="eve", **early),
        mint("eve", **early),
    ]

    def statuses() -> list[int]:
        return [ask(gateway.port, target="/any", headers=bearer(one)).status for one in sent]

    def revoke(body: bytes) -> int:
        return ask(gateway.port, "POST", "/api/v1/auth/revoke", form, body).status

    assert statuses() == [200, 200, 200]
    assert revoke(b"subject=eve&issuer=https://a.example") == 200
    assert statuses() == [401, 200, 200]
    assert revoke(b"subject=eve&issuer=") == 200
    assert statuses() == [401, 200, 401]
    assert revoke(b"subject=eve") == 200
    assert statuses() == [401, 401, 401]
    assert revoke(b"issuer=https://a.example") == 422


def test_nobody_revokes_the_token_of_a_namesake(gateway: Gateway) -> None:
    """A caller may revoke its own tokens, and not those of another issuer's subject of the same name."""
    mine, namesakes = mint("kim"), A.mint("kim", iss=OF_A)
    form = [("Content-Type", "application/x-www-form-urlencoded"), *bearer(mine)]
    body = f"token={namesakes}".encode()
    assert ask(gateway.port, "POST", "/api/v1/auth/revoke", form, body).status == 403
    assert ask(gateway.port, target="/any", headers=bearer(namesakes)).status == 200


def test_the_log_holds_no_issuer_that_was_not_verified(gateway: Gateway) -> None:
    """A refused token leaves nothing of itself in the log."""
    ask(gateway.port, target="/any", headers=bearer(A.mint("ann", iss="https://mallory.example")))
    ask(gateway.port, target="/any", headers=bearer(A.mint(ABSENT, iss=OF_A)))
    assert "mallory" not in json.dumps(gateway.lines())
