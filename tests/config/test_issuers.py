"""Several issuers, claims as headers, and places for tokens: what may be written, and what is wrong with it."""

import json
from pathlib import Path

import pytest

from propylon.commands.routes import as_data
from propylon.config.reading.load import load
from tests.config.texts import SECRET, SERVICES, loaded, problems, route, warnings

OTHER = SECRET[::-1]
A, B = "https://a.test", "https://b.test"
TWO = f"auth: {{jwt: [{{jwks_url: {A}/k, issuer: '{A}'}}, {{jwks_url: {B}/k, issuer: '{B}'}}]}}\n"
DISCOVERED = "https://id.test/.well-known/openid-configuration"


def several(*entries: str, rest: str = "") -> str:
    """Write entries of auth.jwt, the first of them on line 3."""
    return "auth:\n  jwt:\n" + "".join(f"  - {{{entry}}}\n" for entry in entries) + rest


def test_a_list_of_issuers() -> None:
    """Each entry has its own key and rules; the first with a secret signs the gateway's own tokens."""
    text = several(
        f"jwks_url: {A}/k, issuer: '{A}', audience: api",
        f"secret: {SECRET}, subject_claim: [uid, sub]",
        f"secret: {OTHER}, issuer: '{B}', require_typ: Application/AT+JWT",
    )
    auth = loaded(text).config.auth
    assert auth.jwt.secret is not None
    assert [one.get_secret_value() for one in auth.jwt.secret] == [SECRET]
    assert auth.jwt.subject_claim == ("uid", "sub")
    assert [entry.issuer for entry in auth.jwt.entries] == [(A,), (), (B,)]
    assert auth.jwt.entries[2].require_typ == "at+jwt"
    assert (auth.issues, auth.verifies, auth.several_issuers) == (True, True, True)
    assert auth == loaded(text).config.auth
    assert auth != loaded(text.replace("api", "x")).config.auth


def test_a_single_entry() -> None:
    """A mapping is one entry, and so is a list of one; without a secret the gateway signs nothing."""
    for text in (f"auth: {{jwt: {{jwks_url: {A}/k, issuer: '{A}'}}}}", several(f"jwks_url: {A}/k")):
        auth = loaded(text).config.auth
        assert (len(auth.jwt.entries), auth.issues, auth.several_issuers) == (1, False, False)
    assert loaded(
        f"auth: {{jwt: {{secret: {SECRET}, issuer: [a, b]}}}}"
    ).config.auth.several_issuers


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        (
            (f"secret: {SECRET}, issuer: '{A}'", f"jwks_url: {A}/k, issuer: [{B}, {A}]"),
            f":4 auth.jwt[1].issuer: {A} is the issuer of auth.jwt[0], too: one issuer has one entry",
        ),
        (
            (f"discovery_url: {DISCOVERED}", f"discovery_url: {DISCOVERED}"),
            (
                f":4 auth.jwt[1].discovery_url: {DISCOVERED} is the issuer of auth.jwt[0], too:"
                " one issuer has one entry"
            ),
        ),
        (
            (f"secret: {SECRET}", f"jwks_url: {A}/k"),
            (
                ":4 auth.jwt[1]: has no issuer, and neither has auth.jwt[0]: the gateway could not choose; write"
                " issuer"
            ),
        ),
        (
            (f"issuer: '{A}'", f"secret: {SECRET}"),
            (
                ":3 auth.jwt[0].secret: is missing; write it, or public_key, jwks_url or discovery_url, or set"
                " JWT_SECRET_KEY"
            ),
        ),
        (
            (f"secret: {SECRET}", f"issuer: '{A}', secret: secret"),
            ":4 auth.jwt[1].secret: is a published placeholder, so an attacker could sign tokens;",
        ),
        (
            (f"secret: {SECRET}", f"jwks_url: {A}/k, isuer: '{A}'"),
            ":4 auth.jwt[1].isuer: unknown key; did",
        ),
        (
            (f"jwks_url: {A}, discovery_url: {B}",),
            ":3 auth.jwt[0].discovery_url: only one of secret,",
        ),
        (
            (f"discovery_url: {A}, algorithms: [HS256]",),
            ":3 auth.jwt[0].algorithms: HS256 needs a secret:",
        ),
        (
            ("public_key: nowhere.pem",),
            ":3 auth.jwt[0].public_key: is neither PEM nor the path of a file",
        ),
    ],
)
def test_problems_of_a_list(entries: tuple[str, ...], expected: str) -> None:
    """A mistake in an entry is said at the entry, or at its key."""
    found = problems(several(*entries))
    assert any(problem.startswith("propylon.yaml" + expected) for problem in found), found


def test_an_empty_list() -> None:
    """A list without entries is a mistake."""
    assert problems("auth: {jwt: []}") == [
        "propylon.yaml:1 auth.jwt: is an empty list; write an entry with a key, or leave it out"
    ]


def test_a_secret_from_the_environment() -> None:
    """JWT_SECRET_KEY sets the entry that has no other key, or none if each has a public one."""
    environ = {"JWT_SECRET_KEY": OTHER}
    entries = (f"jwks_url: {A}/k, issuer: '{A}'", f"secret: {SECRET}, issuer: x", "audience: api")
    found = loaded(several(*entries), environ).config.auth.jwt.entries
    assert [entry.secret and entry.secret[0].get_secret_value() for entry in found] == [
        None,
        SECRET,
        OTHER,
    ]
    found = loaded(several(*entries[:2]), environ).config.auth.jwt.entries
    assert [entry.secret and entry.secret[0].get_secret_value() for entry in found] == [None, OTHER]
    found = loaded(several(entries[0]), environ).config.auth.jwt.entries
    assert [entry.secret for entry in found] == [None]


def test_a_key_of_an_entry_from_the_environment() -> None:
    """A variable may set a key of an entry by its number; a secret in it is taken as it is."""
    environ = {"PROPYLON_AUTH__JWT__0__SECRET": "[" + SECRET}
    found = loaded(several("issuer: x"), environ).config.auth.jwt.entries[0].secret
    assert found is not None
    assert [one.get_secret_value() for one in found] == ["[" + SECRET]


def test_a_secret_of_an_entry_from_a_file(tmp_path: Path) -> None:
    """The variable of a numbered entry may name a file, and so may JWT_SECRET_KEY with a list of entries."""
    file = tmp_path / "secret"
    file.write_text(f"{OTHER}\n{SECRET}\n")
    for name in ("PROPYLON_AUTH__JWT__0__SECRET_FILE", "JWT_SECRET_KEY_FILE"):
        found = loaded(several("issuer: x"), {name: str(file)}).config.auth.jwt.entries[0].secret
        assert found is not None
        assert [one.get_secret_value() for one in found] == [OTHER, SECRET]


def test_a_public_key_of_an_entry(tmp_path: object) -> None:
    """With a provider's document, SECRET_KEY belongs to another program."""
    text = f"auth: {{jwt: {{discovery_url: {DISCOVERED}}}}}"
    assert loaded(text, {"SECRET_KEY": SECRET}).config.auth.jwt.secret is None
    assert warnings(text) == []


def test_doubts_about_keys() -> None:
    """A key set without issuer and audience is doubted, and so is a provider's document in its place."""
    (said,) = warnings(f"auth: {{jwt: {{jwks_url: {A}/k}}}}")
    assert said.startswith("propylon.yaml:1 auth.jwt.jwks_url: is without issuer and audience")
    (said,) = warnings(f"auth: {{jwt: {{jwks_url: {DISCOVERED}}}}}")
    assert said == (
        "propylon.yaml:1 auth.jwt.jwks_url: is the address of a provider's document, which holds no keys;"
        " write discovery_url for it"
    )
    for bound in (f"issuer: '{A}'", "audience: api"):
        assert warnings(f"auth: {{jwt: {{jwks_url: {A}/k, {bound}}}}}") == []
    (said,) = warnings("auth: {jwt: {discovery_url: http://id.test/x}}")
    assert said.startswith("propylon.yaml:1 auth.jwt.discovery_url: is fetched without TLS")
    (said,) = warnings(
        several(f"jwks_url: {A}/k, issuer: a", "jwks_url: http://b.test/k, issuer: b")
    )
    assert said.startswith("propylon.yaml:4 auth.jwt[1].jwks_url: is fetched without TLS")


def test_doubts_about_routes() -> None:
    """A route that accepts the tokens of several issuers without saying so is doubted."""
    (said,) = warnings(TWO + route("path: /a"))
    assert said == (
        "propylon.yaml:4 routes[0]: accepts the tokens of every issuer in auth.jwt; write issuers: with those that"
        " it is for"
    )
    assert warnings(TWO + route(f"path: /a, issuers: {A}")) == []
    assert warnings(TWO + route("path: /a, auth: none")) == []
    assert warnings(TWO + f"defaults: {{issuers: ['{A}']}}\n" + route("path: /a")) == []


def test_issuers_of_a_route() -> None:
    """A route names issuers that are configured, and needs tokens for it."""
    assert problems(TWO + route("path: /a, issuers: ['https://a.tset']")) == [
        (
            'propylon.yaml:4 routes[0].issuers: no entry of auth.jwt has the issuer "https://a.tset"; did you mean'
            ' "https://a.test"?'
        )
    ]
    (said,) = problems(TWO + route(f"path: /a, auth: none, issuers: ['{A}']"))
    assert "with `auth: none` no token is read" in said
    open_entry = several(f"jwks_url: {A}/k, issuer: '{A}'", f"secret: {SECRET}")
    assert loaded(open_entry + route("path: /a, issuers: [anything]"))
    assert loaded(TWO + f"defaults: {{issuers: ['{A}']}}\n" + route("path: /a, auth: none"))


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("{X_Tenant: t}", "X_Tenant has a _, and many frameworks take it for a -; write X-Tenant"),
        ("{X-User-Id: t}", "X-User-Id has a meaning of its own"),
        ("{x-user-issuer: t}", "x-user-issuer has a meaning of its own"),
        ("{X-Forwarded-User: t}", "X-Forwarded-User has a meaning of its own"),
        ("{Authorization: t}", "Authorization has a meaning of its own"),
        ("{Cookie: t}", "Cookie has a meaning of its own"),
        ("{Transfer-Encoding: t}", "Transfer-Encoding is the gateway's own"),
        ("{'X T': t}", '"X T" is no name of a header'),
        ("{X-T: ''}", "must not be empty"),
        ("{X-T: [a]}", "must be text, not a list"),
    ],
)
def test_claims_that_cannot_be_passed(written: str, said: str) -> None:
    """A claim is passed under a name that means nothing else."""
    (found,) = problems(route(f"path: /a, claims: {written}"))
    assert said in found
    (found,) = problems(f"services: {{orders: {{url: 'http://a', claims: {written}}}}}")
    assert said in found


def test_claims_and_set_headers() -> None:
    """A header is set by hand or from a claim, not both on one route; over a service's claim the route's header wins."""
    text = "path: /a, claims: {X-Tenant: t}, headers: {request: {set: {x-tenant: a}}}"
    (said,) = problems(route(text))
    assert said.endswith("sets x-tenant, which claims set, too; take it out of one of them")


def test_the_table_shows_issuers_and_claims() -> None:
    """`propylon routes --format json` shows what a route accepts and passes."""
    services = (
        "services: {orders: {url: 'http://a', claims: {X-Tenant: t, X-Plan: plan, X-Set: s}}}\n"
    )
    rest = f"issuers: ['{A}'], claims: {{x-tenant: tenant.id}}, headers: {{request: {{set: {{x-set: a}}}}}}"
    text = f"{TWO}{services}routes: [{{path: /a, service: orders, {rest}}}, {{path: /b, service: orders, auth: none}}]"
    shown = {entry["path"]: entry for entry in as_data(loaded(text)) if not entry["own"]}
    assert shown["/a"]["issuers"] == [A]
    assert shown["/a"]["claims"] == {"x-tenant": "tenant.id", "X-Plan": "plan"}
    assert (shown["/b"]["issuers"], shown["/b"]["claims"]) == (None, {})
    assert json.dumps(shown)


def test_places_for_tokens() -> None:
    """`auth.from` lists where tokens are looked for, in order; one needs no brackets."""
    assert loaded("auth: {}").config.auth.carriers == ("header",)
    assert loaded("auth: {from: }").config.auth.carriers == ("header",)
    assert loaded("auth: {from: 'cookie:__Host-token'}").config.auth.carriers == (
        "cookie:__Host-token",
    )
    places = ("header", "cookie:a", "header:X-Token")
    assert (
        loaded("auth: {from: [header, 'cookie:a', 'header:X-Token']}").config.auth.carriers
        == places
    )
    found = load(None, {"PROPYLON_AUTH__FROM": "[header, 'cookie:a']"}).config.auth.carriers
    assert found == ("header", "cookie:a")


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("[]", "is empty; write header, cookie:NAME or header:NAME"),
        ("[query]", '"query" is no place for a token; write header, cookie:NAME or header:NAME'),
        ("['query:token']", '"query:token" is no place for a token'),
        ("['cookie:']", '"" is no name of a cookie'),
        ("['cookie:a b']", '"a b" is no name of a cookie'),
        ("['header:a b']", '"a b" is no name of a header'),
        (
            "['header:Authorization']",
            "Authorization cannot carry a token: the gateway reads or removes it",
        ),
        ("['header:Cookie']", "write cookie:NAME"),
        ("['header:X-Forwarded-Access-Token']", "choose another name"),
        ("['header:X_User_Token']", "choose another name"),
        ("['header:Connection']", "Connection is the gateway's own"),
        ("[header, header]", "names the same place twice"),
    ],
)
def test_places_that_hold_no_token(written: str, said: str) -> None:
    """A place that cannot hold a token, or is not looked at, is a problem at its key."""
    (found,) = problems(f"auth: {{from: {written}}}")
    assert found.startswith("propylon.yaml:1 auth.from")
    assert said in found


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("subject_claim: []", "subject_claim: is empty; leave it out for sub"),
        ("require_typ: 'a b'", "require_typ: must be the typ of a token's header, such as at+jwt"),
        ("require_typ: 1", "require_typ: must be text, not a number"),
    ],
)
def test_rules_for_tokens(written: str, said: str) -> None:
    """A rule that no token could meet is a problem at its key."""
    (found,) = problems(f"auth: {{jwt: {{{written}}}}}")
    assert found.startswith(f"propylon.yaml:1 auth.jwt.{said}")


def test_an_unknown_key_beside_from() -> None:
    """A misspelt key is compared with the names that the file has."""
    (found,) = problems(SERVICES + "auth: {form: header}")
    assert found.endswith('unknown key; did you mean "from"?')
