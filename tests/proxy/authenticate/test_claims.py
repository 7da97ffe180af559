"""What a token may claim, and who is known by it."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.proxy.authenticate.claims import Rules, Verified, judge, principal_of
from propylon.proxy.authenticate.jws import BadToken
from propylon.proxy.principal import Principal
from tests.support.hostile_claims import payloads

NOW = 1_800_000_000.0
ANY = Rules()
STRICT = Rules(issuers=frozenset({"https://a", "https://b"}), audiences=frozenset({"api", "x"}))
ABSENT = object()
ISSUER = "not from a configured issuer (iss)"


def claims(**changed: object) -> dict[str, object]:
    """Claims that are fine but for what is changed."""
    fine = {"sub": "42", "exp": NOW + 60, **changed}
    return {name: value for name, value in fine.items() if value is not ABSENT}


def verdict(rules: Rules = ANY, now: float = NOW, **changed: object) -> Verified:
    """What comes of these claims."""
    return judge(claims(**changed), rules, now)


def refused(rules: Rules = ANY, now: float = NOW, **changed: object) -> str:
    """The reason why these claims are refused, without what was found; they have not merely expired."""
    return refusal(rules, now, **changed).partition(":")[0]


def refusal(rules: Rules = ANY, now: float = NOW, **changed: object) -> str:
    """The same with what was found and expected."""
    with pytest.raises(BadToken) as caught:
        verdict(rules, now, **changed)
    assert not caught.value.expired
    found = caught.value.reason.partition(", expected")[0]
    assert found.isascii()
    assert found.isprintable()
    return caught.value.reason


def known(rules: Rules = ANY, **changed: object) -> Principal:
    """Who is known by these claims."""
    return verdict(rules, **changed).principal


# ------------------------------------------------------------------------------------- a token


def test_good_claims() -> None:
    """A token says who is asking, until when, since when, and by what id it can be taken back."""
    verified = verdict(iat=NOW - 5, nbf=NOW - 5, jti="t-1", type="access", scope="read write")
    assert verified.principal.subject == "42"
    assert verified.principal.known
    assert verified.principal.scopes == {"read", "write"}
    assert verified.principal.claims["jti"] == "t-1"
    assert verified.principal.block == b"\r\nX-User-Id: 42\r\nX-User-Scopes: read,write"
    assert (verified.expires, verified.issued, verified.token_id) == (NOW + 60, NOW - 5, "t-1")


def test_fewest_claims() -> None:
    """A subject and an end are enough."""
    verified = verdict()
    assert (verified.issued, verified.token_id) == (None, None)
    assert verified.principal.claims == claims()


def test_payload_as_sent() -> None:
    """A payload is judged as bytes, too, and read strictly."""
    verified = judge(b'{"sub":"42","exp":1800000060}', ANY, NOW)
    assert verified == verdict(exp=1800000060)
    for payload in (b"", b"null", b"[]", b'"42"', b'{"sub":"42","exp":1800000060,"sub":"1"}'):
        with pytest.raises(BadToken):
            judge(payload, ANY, NOW)


# ------------------------------------------------------------------------------------- times


@pytest.mark.parametrize("name", ["iat", "nbf"])
def test_skew(name: str) -> None:
    """A clock that is some seconds ahead is no reason to refuse; the larger of skew and leeway counts."""
    for rules in (Rules(skew=60), Rules(skew=60, leeway=5), Rules(skew=5, leeway=60)):
        assert verdict(rules, **{name: NOW + 60})
        assert refused(rules, **{name: NOW + 60.25}) == "not valid yet (nbf or iat)"


def test_skew_is_not_for_the_expiry() -> None:
    """An expired token stays expired."""
    with pytest.raises(BadToken) as caught:
        verdict(Rules(skew=60), exp=NOW)
    assert caught.value.expired


@pytest.mark.parametrize(("leeway", "end"), [(0.0, NOW), (5.0, NOW - 5), (2.5, NOW - 2.5)])
def test_expiry(leeway: float, end: float) -> None:
    """A token is good until just before its end and the leeway; then it has expired, and says so."""
    rules = Rules(leeway=leeway)
    assert verdict(rules, exp=end + 0.25).expires == NOW + 0.25
    for exp in (end, end - 0.25, 0, 1):
        with pytest.raises(BadToken) as caught:
            verdict(rules, exp=exp)
        assert caught.value.expired
        assert caught.value.reason.startswith("expired ")


@pytest.mark.parametrize("name", ["nbf", "iat"])
def test_not_yet(name: str) -> None:
    """A token that begins, or was issued, in the future is refused, but for the leeway."""
    assert refused(**{name: NOW + 0.25}) == "not valid yet (nbf or iat)"
    assert refused(Rules(leeway=5), **{name: NOW + 5.25}) == "not valid yet (nbf or iat)"
    assert verdict(**{name: NOW})
    assert verdict(Rules(leeway=5), **{name: NOW + 5})
    assert verdict(**{name: 0})


def test_an_end_is_required() -> None:
    """A token that never ends is refused."""
    assert refused(exp=ABSENT) == "it never expires (no exp)"


def test_expired_is_the_last_thing_to_be_said() -> None:
    """A token that would not do anyway is not called expired."""
    late = NOW + 3600
    assert refused(now=late, sub="") == "its sub is missing, empty, too long or no plain text"
    assert refused(STRICT, now=late, iss="https://c") == "not from a configured issuer (iss)"
    assert refused(now=late, type="refresh") == "its type is not access"
    assert refused(now=late, nbf=late + 1) == "not valid yet (nbf or iat)"
    assert "its jti" in refused(now=late, jti=1)


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize("value", [None, True, False, "1800000060", [1800000060], {}, b"1"])
def test_times_are_numbers(name: str, value: object) -> None:
    """A time that is no number is refused; to Python, True is 1."""
    assert refused(**{name: value}) == f"its {name} is not a number"


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize(
    "value",
    [-1, -0.001, 253402300800, 1800000060000, 1e300, 10**400, math.inf, -math.inf, math.nan],
    ids=range(9),
)
def test_times_are_in_range(name: str, value: float) -> None:
    """A time before 1970, after the year 9999 (milliseconds are), or that is nowhere is refused."""
    assert refused(**{name: value}) == f"its {name} is not a time in seconds since 1970"


# ------------------------------------------------------------------------------------- for whom


def test_issuer() -> None:
    """Where issuers are configured, a token names one of them; where none are, it may name any."""
    assert verdict(STRICT, iss="https://b", aud="api")
    for issuer in (ABSENT, "", "https://c", "https://a/", "HTTPS://A", ["https://a"], None, 1):
        assert refused(STRICT, iss=issuer, aud="api") == "not from a configured issuer (iss)"
    assert verdict(iss="https://c")
    for odd in (None, 1, ["https://a"], {}):
        assert refused(iss=odd) == "not from a configured issuer (iss)"


def test_audience() -> None:
    """Where audiences are configured, a token is for one of them; where none are, for anybody."""
    for audience in ("api", ["api"], ["other", "x"]):
        assert verdict(STRICT, iss="https://a", aud=audience)
    for audience in (ABSENT, "", "API", "ap", "apix", [], ["other"], "api x"):
        assert refused(STRICT, iss="https://a", aud=audience) == (
            "not for a configured audience (aud)"
        )
    for audience in ("other", ["other"], []):
        assert verdict(aud=audience)


@pytest.mark.parametrize("audience", [None, 1, True, {}, {"api": 1}, ["api", 1], [["api"]], [None]])
def test_audience_of_another_type(audience: object) -> None:
    """An audience is text or a list of texts, whether or not it is checked (RFC 7519, 4.1.3)."""
    for rules in (ANY, STRICT):
        assert refused(rules, iss="https://a", aud=audience) == (
            "its audience (aud) is neither a string nor a list of strings"
        )


@pytest.mark.parametrize("value", ["refresh", "Access", "", None, 1, True, ["access"], {}])
def test_type(value: object) -> None:
    """A token that says to be another one is no access token."""
    assert refused(type=value) == "its type is not access"


# ------------------------------------------------------------------------------------- who


@pytest.mark.parametrize("name", ["sub", "jti"])
@pytest.mark.parametrize(
    "value",
    [
        *(None, 42.0, True, [], ["42"], {}, "", " ", "x" * 257, "42 ", " 42", "\t42"),
        *("a\r\nX-User-Id: root", "a\nb", "a\x00b", "a\x85", "a\u2028b", "\ud800"),
    ],
)
def test_subjects_and_ids(name: str, value: object) -> None:
    """A subject, or a token's id, that is no plain text of one line is refused."""
    assert refused(**{name: value}) == f"its {name} is missing, empty, too long or no plain text"


def test_subject_is_required() -> None:
    """A token about nobody is refused."""
    assert refused(sub=ABSENT) == "its sub is missing, empty, too long or no plain text"


def test_the_first_subject_counts() -> None:
    """The subject is the first of the configured claims that is there; a malformed one is not passed over."""
    rules = Rules(subject_claims=("user.id", "email", "sub"))
    assert known(rules, user={"id": 7}, email="ann@a.test").subject == "7"
    assert known(rules, user={"name": "ann"}, email="ann@a.test").subject == "ann@a.test"
    assert known(rules).subject == "42"
    assert (
        refused(rules, user={"id": ""})
        == "its user.id is missing, empty, too long or no plain text"
    )
    assert refused(rules, email=None).startswith("its email is missing")
    assert refused(Rules(subject_claims=("uid",))).startswith("its sub is missing")


@pytest.mark.parametrize(
    ("value", "subject"), [(42, "42"), (0, "0"), (-1, "-1"), (2**63, str(2**63))]
)
def test_integers_become_text(value: int, subject: str) -> None:
    """An issuer may number its users; a boolean or a fraction is no number of a user."""
    assert known(sub=value).subject == subject
    assert known(sub=value).block == b"\r\nX-User-Id: " + subject.encode()
    for odd in (True, False, 42.0, 10**300):
        assert refused(sub=odd).startswith("its sub is missing")


def test_a_caller_is_subject_and_issuer() -> None:
    """Two issuers may each have a subject of one name: these are two callers, and the service can be told."""
    ann, other = known(sub="ann", iss="https://a"), known(sub="ann", iss="https://b")
    assert ann.caller != other.caller
    assert (ann.issuer, known(sub="ann").issuer) == ("https://a", "")
    assert ann.block == b"\r\nX-User-Id: ann"
    told = known(Rules(tells_issuer=True), sub="ann", iss="https://a")
    assert told.block == b"\r\nX-User-Id: ann\r\nX-User-Issuer: https://a"
    assert known(Rules(tells_issuer=True), sub="ann").block == b"\r\nX-User-Id: ann"
    for odd in ("a\r\nX-User-Roles: admin", " a", "a\n", "x" * 1025, "\ud800"):
        assert refused(Rules(issuers=frozenset({odd}), tells_issuer=True), iss=odd) == ISSUER
        assert refused(iss=odd) == ISSUER


@pytest.mark.parametrize(
    "value", ["x" * 256, "auth0|5f7c", "Zoë, 李", "a b", "CN=x,O=y", "*", "root"]
)
def test_any_text_is_a_subject(value: str) -> None:
    """What a subject looks like does not matter."""
    assert known(sub=value).subject == value
    assert known(sub=value).block == b"\r\nX-User-Id: " + value.encode()


@pytest.mark.parametrize(
    ("value", "email"),
    [
        ("ann@example.com", "ann@example.com"),
        ("zoë@exämple.com", "zoë@exämple.com"),
        (ABSENT, ""),
        ("", ""),
        (None, ""),
        (1, ""),
        (["ann@example.com"], ""),
        ("ann@example.com\r\nX-User-Roles: admin", ""),
        ("ann @example.com", ""),
        ("ann@example.com ", ""),
        ("a\x00@example.com", ""),
        ("a" * 321, ""),
    ],
)
def test_email(value: object, email: str) -> None:
    """An address is passed on if it is one line without spaces; a token is not refused for it."""
    assert known(email=value).email == email


# ------------------------------------------------------------------------------------- what for


@pytest.mark.parametrize(
    ("value", "scopes"),
    [
        ("read", {"read"}),
        ("read write read", {"read", "write"}),
        ("  read   write ", {"read", "write"}),
        (["read", "write"], {"read", "write"}),
        ("", set()),
        ([], set()),
        (None, set()),
        (1, set()),
        (True, set()),
        ({"read": True}, set()),
        (["read", 1], set()),
        (["read", None], set()),
        (["read", ["write"]], set()),
        ("read,write", set()),
        ("read a,b", {"read"}),
        (["a,admin", "read"], {"read"}),
        (["", "read"], {"read"}),
        (["read write", "x"], {"x"}),
        ("read\tadmin\nroot x", {"x"}),
        (["a\r\nX-User-Id: root", "x"], {"x"}),
        ([" admin", "admin ", "x"], {"x"}),
        (["ad\u00a0min", "x"], {"x"}),
    ],
)
def test_scopes(value: object, scopes: set[str]) -> None:
    """Scopes are words parted by spaces, or a list of words; anything else grants nothing."""
    assert known(scope=value).scopes == scopes
    assert known(scopes=value).scopes == scopes


@pytest.mark.parametrize(
    ("value", "roles"),
    [
        (["admin"], {"admin"}),
        (["admin", "Super User", "admin"], {"admin", "Super User"}),
        ("admin", {"admin"}),
        ("admin user", {"admin user"}),
        ("a,admin", set()),
        ("admin ", set()),
        ("", set()),
        ([], set()),
        (None, set()),
        (1, set()),
        (True, set()),
        ({"admin": True}, set()),
        ({"roles": ["admin"]}, set()),
        ([["admin"]], set()),
        (["clerk", {"name": "admin"}], set()),
        (["clerk", None], set()),
        (["a,admin", "clerk"], {"clerk"}),
        (["clerk", "", " ", "admin ", " admin", "ad\nmin", "ad\x00min"], {"clerk"}),
    ],
)
def test_roles(value: object, roles: set[str]) -> None:
    """Roles are a list of texts, or one text that is one role; anything else grants nothing."""
    assert known(roles=value).roles == roles


def test_all_claims_count() -> None:
    """Scopes are the union of all the claims that may hold them; a void one adds nothing and takes nothing."""
    assert known(scope="a", scopes=["b"]).scopes == {"a", "b"}
    assert known(scope=None, scopes=["b"]).scopes == {"b"}
    assert known(scope="a", scopes={"b": True}).scopes == {"a"}
    assert known(scopes=["b"], scp=["c"]).scopes == {"b"}
    assert known(Rules(scopes_claims=("scp", "scope")), scope="a", scp=["c"]).scopes == {"a", "c"}
    assert known(Rules(scopes_claims=()), scope="a").scopes == set()
    assert known(scp="a").scopes == set()
    spread = Rules(roles_claims=("realm_access.roles", "resource_access.api.roles", "role"))
    found = known(
        spread,
        realm_access={"roles": ["user"]},
        resource_access={"api": {"roles": ["clerk"]}, "other": {"roles": ["admin"]}},
        role="Super User",
    )
    assert found.roles == {"user", "clerk", "Super User"}


def test_claim_within_a_claim() -> None:
    """A name with dots is a path, unless a claim has that very name."""
    rules = Rules(roles_claims=("realm_access.roles", "https://a.example/roles", "roles"))
    assert known(rules, realm_access={"roles": ["admin"]}).roles == {"admin"}
    assert known(rules, **{"realm_access.roles": ["x"]}, realm_access={"roles": ["y"]}).roles == {
        "x"
    }
    assert known(rules, **{"https://a.example/roles": ["x"]}).roles == {"x"}
    assert known(rules, realm_access={"roles": "admin"}, roles=["x"]).roles == {"admin", "x"}
    for other in (None, 1, [], ["roles"], "roles", {}, {"Roles": ["admin"]}):
        assert known(rules, realm_access=other, roles=["x"]).roles == {"x"}
    deep = Rules(roles_claims=("a.b.c",))
    assert known(deep, a={"b": {"c": ["admin"]}}).roles == {"admin"}
    assert known(deep, a={"b.c": ["admin"]}).roles == set()


def test_principal_alone() -> None:
    """Who is known can be asked without an end: for what an issuer says about an opaque token."""
    principal = principal_of({"sub": "42", "scope": "read", "active": True}, ANY)
    assert principal == Principal(
        "42",
        scopes=frozenset({"read"}),
        claims={"sub": "42", "scope": "read", "active": True},
        block=b"\r\nX-User-Id: 42\r\nX-User-Scopes: read",
    )
    for odd in ({}, {"sub": None}, {"sub": ""}, {"username": "42"}):
        with pytest.raises(BadToken, match="its sub is missing"):
            principal_of(odd, ANY)


# ------------------------------------------------------------------------------------- anything


def test_hostile_claims() -> None:
    """Claims by which nobody may be known are refused without a word of them in the reason."""
    for name, payload in payloads():
        sent = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        with pytest.raises(BadToken) as caught:
            judge(sent, ANY, NOW)
        assert "mallory" not in caught.value.reason, name


_words = st.text("ab, \n\x85é", max_size=5) | st.sampled_from(["admin", "access", "api", "42"])
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_words, inner, max_size=3),
    max_leaves=6,
)
_names = ["sub", "exp", "nbf", "iat", "iss", "aud", "jti", "type", "scope", "roles", "email", "a"]


def said(value: object, *, spaces: bool) -> set[str]:
    """The words that a claim can be taken to hold, at the most."""
    if isinstance(value, str):
        return set(value.split(" ")) if spaces else {value}
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        return set()
    return set(value)


@given(st.dictionaries(st.sampled_from(_names), _values), st.sampled_from([ANY, STRICT]))
def test_any_claims(changed: dict[str, object], rules: Rules) -> None:
    """Whatever is claimed, somebody is known with what the claims say and no more, or it is BadToken."""
    found = claims(iss="https://a", aud="api") | changed
    try:
        principal = judge(found, rules, NOW).principal
    except BadToken:
        return
    assert principal.subject == str(found["sub"])
    assert isinstance(found["sub"], str | int)
    assert principal.email in ("", found.get("email"))
    assert principal.scopes <= said(found.get("scope"), spaces=True)
    assert principal.roles <= said(found.get("roles"), spaces=False)
    lines = principal.block.decode().splitlines()[1:]
    assert len(lines) == 1 + sum(map(bool, (principal.email, principal.roles, principal.scopes)))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"iss": "https://c"}, 'it has "https://c", expected is https://a, https://b'),
        ({"iss": 7}, "it has 7, expected is https://a, https://b"),
        ({"iss": "\u202e\x1b[2J\n" * 100}, 'it has "\\u202e\\u001b[2J'),
        ({"iss": {"a": 1}}, "it has a dict, expected is https://a, https://b"),
        ({"aud": ["web", "app"]}, 'it has ["web", "app"], expected is api, x'),
    ],
)
def test_the_operator_reads_what_was_found(changed: dict[str, object], said: str) -> None:
    """And what was expected; a claim is anybody's text, so it is shown as ASCII, and not all of it."""
    text = refusal(STRICT, **{"iss": "https://a", "aud": "api"} | changed)
    assert said in text
    assert len(text) < 300
