"""What the operator may write about tokens, and what is said of the rest."""

import secrets
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from pydantic import SecretStr

from propylon.config.models.auth import AuthConfig
from propylon.config.models.jwt import ASYMMETRIC, SYMMETRIC, JwtConfig
from propylon.config.models.units import Rate
from propylon.config.reading.credentials import weakness
from propylon.config.reading.load import load
from tests.config.texts import SECRET, doubts, loaded, problems

ADVICE = '; make one with: python -c "import secrets; print(secrets.token_urlsafe(48))"'
PUBLISHED = "auth.jwt.secret: is a published placeholder, so an attacker could sign tokens"
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def public(key: PrivateKey) -> str:
    """Write the public half."""
    encoded = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return encoded.decode()


def private(key: PrivateKey) -> str:
    """Write the half that nobody should have here."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


P256 = ec.generate_private_key(ec.SECP256R1())
ED25519 = ed25519.Ed25519PrivateKey.generate()
RSA = rsa.generate_private_key(65537, 2048)


def jwt(written: str) -> JwtConfig:
    """Load what is written under auth.jwt."""
    return loaded(f"auth: {{jwt: {{{written}}}}}").config.auth.jwt


def test_nothing_said_is_nothing_to_verify_with() -> None:
    """Without a key the gateway starts, verifies nothing and gives out nothing."""
    auth = loaded("").config.auth
    assert (auth.jwt.secret, auth.jwt.public_key, auth.jwt.jwks_url) == (None, None, None)
    assert (auth.introspection.url, auth.issues) == (None, False)
    assert auth == AuthConfig()


def test_what_is_not_said_has_its_default() -> None:
    """Tokens last 30 minutes, refresh tokens 30 days, and ten a minute are given to one address."""
    auth = loaded(f"auth: {{jwt: {{secret: {SECRET}}}}}").config.auth
    assert (auth.jwt.issuer, auth.jwt.audience, auth.jwt.leeway) == ((), (), 0.0)
    assert (auth.jwt.scopes_claim, auth.jwt.roles_claim) == (("scope", "scopes"), ("roles",))
    tokens, limit = auth.tokens, auth.tokens.rate_limit
    assert (tokens.enabled, tokens.expires, tokens.refresh_expires) == (None, 1800.0, 2_592_000.0)
    assert tokens.database.get_secret_value() == "sqlite:///propylon.db"
    assert (limit.rate, limit.burst, limit.key) == (Rate(10, 60.0), 10, "ip")
    assert auth.introspection.cache == 30.0


@pytest.mark.parametrize(("said", "issues"), [("", True), ("true", True), ("false", False)])
def test_tokens_are_given_out_where_there_is_a_secret(said: str, issues: bool) -> None:
    """With a secret there is a token endpoint, unless it was said that there is none."""
    text = f"auth: {{jwt: {{secret: {SECRET}}}, tokens: {{enabled: {said}}}}}"
    assert loaded(text).config.auth.issues is issues


def test_the_algorithms_follow_the_key() -> None:
    """HMAC goes with a secret alone; the others with a public key of their kind, or a set."""
    keys = {RSA: ASYMMETRIC[:6], P256: ("ES256",), ED25519: ("EdDSA", "Ed25519")}
    for key, algorithms in keys.items():
        assert JwtConfig(public_key=public(key)).algorithms == algorithms
    assert jwt(f"secret: {SECRET}").algorithms == ("HS256",)
    assert jwt("jwks_url: https://id.example/keys").algorithms == ASYMMETRIC
    assert not set(ASYMMETRIC) & set(SYMMETRIC)


def test_one_alone_needs_no_brackets() -> None:
    """Issuer, audience, claims and algorithms may be one or a list."""
    read = jwt(
        "issuer: https://a, audience: [x, y], algorithms: RS256, roles_claim: realm_access.roles"
    )
    assert (read.issuer, read.audience) == (("https://a",), ("x", "y"))
    assert (read.algorithms, read.roles_claim) == (("RS256",), ("realm_access.roles",))
    assert jwt(f"secret: {SECRET}, algorithms: [HS512, HS512]").algorithms == ("HS512",)


def test_empty_variables_count_as_not_written() -> None:
    """`${VAR:-}`, in quotes or not, is no key and no problem."""
    text = """\
auth:
  jwt:
    secret: ${A:-}
    public_key: "${B:-}"
    jwks_url: '${C:-}'
    issuer: "${D:-}"
    audience: ${E:-}
  introspection: {url: '${F:-}', client_id: "${G:-}", client_secret: '${H:-}'}
"""
    assert loaded(text).config.auth == AuthConfig()


@pytest.mark.parametrize("digits", ["1" * 18, "0" * 40, "1.5", "12345678901234567890" * 3])
def test_a_secret_of_digits_stays_text(digits: str) -> None:
    """Wherever it comes from, a number that is a secret keeps each of its digits."""
    lone, quoted = ("debug: true\nauth:\n  jwt:\n    secret: " + key for key in ("${S}", '"${S}"'))
    sources = [
        loaded(lone, {"S": digits}),
        loaded(quoted, {"S": digits}),
        loaded("debug: true", {"JWT_SECRET_KEY": digits}),
        loaded("debug: true", {"PROPYLON_AUTH__JWT__SECRET": digits}),
    ]
    for source in sources:
        assert source.config.auth.jwt.signing_secret == digits.encode()


@pytest.mark.parametrize("secret", [f"[{SECRET}]", f"{{{SECRET}}}", f"!{SECRET}", f"${{{SECRET}"])
def test_a_secret_from_the_environment_is_taken_as_it_is(secret: str) -> None:
    """Brackets, tags and dollars mean nothing in it."""
    for name in ("SECRET_KEY", "JWT_SECRET_KEY", "PROPYLON_AUTH__JWT__SECRET"):
        found = load(None, {name: secret}).config.auth.jwt
        assert found.secret == (SecretStr(secret),)


OTHER = SECRET[::-1]

ONE_PROBLEM = {
    "secret: 12345": "secret: must be text, not a number; put it in quotes",
    f"secret: [{SECRET}, 12345]": "secret[1]: must be text, not a number; put it in quotes",
    "secret: {a: b}": "secret: must be text, not a mapping",
    f"secret: [{', '.join(SECRET + str(n) for n in range(9))}]": "secret: has more than 8 entries;"
    " write fewer",
    f"secret: {SECRET}, jwks_url: https://a": "jwks_url: only one of secret,"
    " public_key, jwks_url, discovery_url can be set, and secret is set, too",
    f"secret: {SECRET}, algorithms: [HS256, RS256]": "algorithms: RS256 needs a public key;"
    " with a secret write HS256, HS384, HS512",
    "jwks_url: https://a, algorithms: [HS256]": "algorithms: HS256 needs a secret:"
    " with a public key for one, everyone could sign tokens",
    "algorithms: [HS256, ES256]": "algorithms: HS256 needs a secret: with a public key for one,"
    " everyone could sign tokens",
    "algorithms: []": "algorithms: is empty; leave it out for those that fit the key",
    "algorithms: [none]": "algorithms[0]: must be one of HS256, HS384, HS512, RS256, RS384, RS512,"
    " PS256, PS384, PS512, ES256, ES384, ES512, EdDSA, Ed25519, Ed448",
    "algorithms: [RS265]": "algorithms[0]: must be one of HS256, HS384, HS512, RS256, RS384, RS512,"
    " PS256, PS384, PS512, ES256, ES384, ES512, EdDSA, Ed25519, Ed448"
    '; did you mean "RS256"?',
    "jwks_url: id.example/keys": "jwks_url: must be a URL that starts with http:// or https://",
    "jwks_url: 'https://u:p@id.example/keys'": "jwks_url: must be a URL without a user and a"
    " password",
    "jwks_url: 'https://id.example/keys?a b'": "jwks_url: has a character in its query that cannot"
    " stand there as it is",
    "jwks_url: 'https://id.example/keys?a#b'": "jwks_url: must be a URL without a fragment",
    "leeway: 1h": "leeway: must be at most 600 s",
    "issuer: ['']": "issuer[0]: must not be empty",
    "audience: 5": "audience: must be a list, not a number",
    "public_key: no/such.pem": "public_key: is neither PEM nor the path of a file with PEM:"
    " no such file or directory",
    "public_key: .": "public_key: is neither PEM nor the path of a file with PEM: it is not a file",
    "public_key: propylon.yaml": "public_key: is neither PEM nor the path of a file with PEM:"
    " the file does not begin with -----BEGIN",
    'public_key: "a\\0b"': "public_key: is neither PEM nor the path of a file with PEM:"
    " embedded null byte",
    "public_key: '-----BEGIN PUBLIC KEY-----'": "public_key: cannot be used: PEM that holds no"
    " public key or certificate",
}


@pytest.mark.parametrize(("written", "expected"), ONE_PROBLEM.items())
def test_each_problem_of_a_key_is_one(written: str, expected: str) -> None:
    """A mistake under auth.jwt is one problem, at its key."""
    assert [f"propylon.yaml:1 auth.jwt.{expected}"] == problems(f"auth: {{jwt: {{{written}}}}}")


OTHER_PROBLEMS = {
    "introspection: {client_secret: x}": "introspection.client_secret: needs client_id beside it",
    "introspection: {url: ftp://a}": "introspection.url: must be a URL that starts with http:// or"
    " https://",
    "tokens: {enabled: true}": "tokens.enabled: needs a secret to sign with: set auth.jwt.secret,"
    " or JWT_SECRET_KEY",
    "tokens: {expires: 0}": "tokens.expires: must be a duration longer than zero",
    "tokens: {expires: 500ms}": "tokens.expires: must be at least 1 s",
    "tokens: {database: propylon.db}": "tokens.database: must be the URL of a database:"
    ' "sqlite:///propylon.db", "postgresql://host/name"',
    "tokens: {database: 'postgres://h/d'}": "tokens.database: must start with postgresql://,"
    " not postgres://",
    "tokens: {rate_limit: {rate: 10}}": "tokens.rate_limit.rate: must be a rate of at least one:"
    ' text such as "10/s", "600/m", "5/h"',
    "tokens: {rate_limit: {key: caller}}": "tokens.rate_limit.key: must be one of ip, route",
    "tokens: {rate_limit: {burst: 0}}": "tokens.rate_limit.burst: must be at least 1",
    "token: {}": 'token: unknown key; did you mean "tokens"?',
    "jwt: {jwks_uri: x}": 'jwt.jwks_uri: unknown key; did you mean "jwks_url"?',
}


@pytest.mark.parametrize(("written", "expected"), OTHER_PROBLEMS.items())
def test_each_other_problem_is_one(written: str, expected: str) -> None:
    """A mistake under auth is one problem, at its key."""
    assert [f"propylon.yaml:1 auth.{expected}"] == problems(f"auth: {{{written}}}")


@pytest.mark.parametrize(
    "secret",
    [
        "secret",
        "CHANGEME",
        " change-me ",
        "your-256-bit-secret",
        "your-secret-key-here",
        "your-super-secret-jwt-key",
        "your_jwt_secret_key_change_this_in_production",
        "my-service-key-please-change-in-production-123456",
        "a-string-secret-at-least-256-bits-long",
        "A-Valid-String-Secret-that-is-at-least-512-bits-long-which-is-very-long",
        "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
        "super-secret-jwt-token-with-at-least-32-characters-long",
        "django-insecure-0a1b2c3d4e5f6g7h8i9j0a1b2c3d4e5f6g7h8i9j",
        "<paste-the-output-of-openssl-rand-hex-32-between-these>",
        "dev-secret",
        "supersecretkey",
    ],
)
def test_a_published_secret_is_refused_but_in_debug(secret: str) -> None:
    """What stands in somebody's documentation signs nothing, and the message says how to make one."""
    text = f"auth:\n  jwt:\n    secret: '{secret}'\n"
    assert [f"propylon.yaml:3 {PUBLISHED}{ADVICE}"] == problems(text)
    assert [f"JWT_SECRET_KEY {PUBLISHED}{ADVICE}"] == problems("", {"JWT_SECRET_KEY": secret})
    assert problems(text, {"DEBUG": "false"}) == problems(text)
    assert loaded("debug: true\n" + text).config.auth.jwt.secret is not None
    assert loaded(text, {"DEBUG": "yes"}).config.auth.jwt.secret is not None


@pytest.mark.parametrize(
    ("algorithms", "size", "longest"),
    [
        ("", 32, "HS256"),
        ("HS256", 32, "HS256"),
        ("[HS256, HS384]", 48, "HS384"),
        ("[HS512, HS256]", 64, "HS512"),
    ],
)
def test_a_secret_is_as_long_as_the_longest_hash(algorithms: str, size: int, longest: str) -> None:
    """One byte less than an allowed algorithm needs is refused, and taken in debug (RFC 7518, 3.2)."""

    def text(length: int) -> str:
        return f"auth: {{jwt: {{secret: {SECRET:.{length}}, algorithms: {algorithms}}}}}"

    said = f"has {size - 1} bytes, and {longest} needs at least {size} (RFC 7518, 3.2)"
    assert [f"propylon.yaml:1 auth.jwt.secret: {said}{ADVICE}"] == problems(text(size - 1))
    assert doubts(loaded(text(size))) == []
    assert loaded("debug: true\n" + text(size - 1)).config.debug is True


def test_bytes_are_counted_not_characters() -> None:
    """Sixteen letters of two bytes each are 32 bytes."""
    assert jwt("secret: äöüéàèìòùâêîôûñç").secret is not None


def test_the_advice_makes_a_secret_that_is_taken() -> None:
    """What the message says to run gives something that every HMAC algorithm can use."""
    assert jwt(f"secret: '{secrets.token_urlsafe(48)}', algorithms: [HS512, HS256]").secret


def test_a_key_may_be_a_file_beside_the_configuration(directory: Path) -> None:
    """A path begins at the folder of the file that has it, not where the gateway was started."""
    (directory / "etc" / "keys").mkdir(parents=True)
    (directory / "etc" / "keys" / "id.pem").write_text(public(P256))
    file = directory / "etc" / "propylon.yaml"
    file.write_text("auth: {jwt: {public_key: keys/id.pem}}")
    assert load(Path("etc/propylon.yaml"), {}).config.auth.jwt.public_key == public(P256)
    environ = {"PROPYLON_AUTH__JWT__PUBLIC_KEY": "etc/keys/id.pem"}
    assert load(None, environ).config.auth.jwt.algorithms == ("ES256",)


def test_a_key_may_stand_in_the_configuration() -> None:
    """PEM in a block of text needs no file."""
    block = "".join(f"      {line}\n" for line in public(P256).splitlines())
    read = loaded(f"auth:\n  jwt:\n    public_key: |\n{block}").config.auth.jwt
    assert (read.public_key, read.algorithms) == (public(P256), ("ES256",))


@pytest.mark.parametrize(
    ("algorithms", "message"),
    [
        ("RS256", "RS256 does not fit the public key; write one of ES256"),
        ("ES384", "ES384 does not fit the public key; write one of ES256"),
        ("HS256", "HS256 needs a secret: with a public key for one, everyone could sign tokens"),
    ],
)
def test_an_algorithm_that_the_key_does_not_fit(algorithms: str, message: str) -> None:
    """Which algorithm a key is for is no matter of taste."""
    Path("id.pem").write_text(public(P256))
    text = f"auth: {{jwt: {{public_key: id.pem, algorithms: {algorithms}}}}}"
    assert [f"propylon.yaml:1 auth.jwt.algorithms: {message}"] == problems(text)


def test_keys_that_would_not_do() -> None:
    """A private key, a short one and one of a curve without an algorithm are told apart."""
    reasons = {
        private(P256): "a private key: give the public one",
        public(rsa.generate_private_key(65537, 1024)): "an RSA key of 1024 bits",
        public(ec.generate_private_key(ec.SECP224R1())): "the public key is of another kind",
    }
    for key, reason in reasons.items():
        Path("id.pem").write_text(key)
        (problem,) = problems("auth: {jwt: {public_key: id.pem}}")
        assert problem.startswith(f"propylon.yaml:1 auth.jwt.public_key: cannot be used: {reason}")


def test_a_public_key_is_no_secret() -> None:
    """A key that everybody may read does not sign, though HMAC would take it (CVE-2016-10555)."""
    (problem,) = problems("", {"JWT_SECRET_KEY": public(RSA)})
    assert problem.startswith("JWT_SECRET_KEY auth.jwt.secret: cannot be used: ")
    assert problem.endswith("; keys are written under public_key")


# Several secrets


def test_the_first_secret_signs_and_all_verify() -> None:
    """A list is for rotation with overlap; an item that is not set, or written twice, does not count."""
    assert jwt(f"secret: {SECRET}").secret == (SecretStr(SECRET),)
    text = f"auth: {{jwt: {{secret: ['${{NEW}}', '${{OLD:-}}', {OTHER}, {OTHER}]}}}}"
    found = loaded(text, {"NEW": SECRET}).config.auth.jwt
    assert found.secret == (SecretStr(SECRET), SecretStr(OTHER))
    assert found.signing_secret == SECRET.encode()
    assert loaded("auth: {jwt: {secret: ['${OLD:-}', '']}}").config.auth == AuthConfig()


def test_each_secret_of_a_list_is_strong_by_itself() -> None:
    """A weak one is a problem at its place in the list, wherever it stands."""
    (problem,) = problems(f"auth:\n  jwt:\n    secret:\n    - {SECRET}\n    - changeme\n")
    assert problem == f"propylon.yaml:5 auth.jwt.secret[1]: {PUBLISHED.partition(': ')[2]}{ADVICE}"
    (said,) = doubts(loaded(f"debug: true\nauth: {{jwt: {{secret: [{SECRET}, changeme]}}}}"))
    assert str(said).startswith("propylon.yaml:2 auth.jwt.secret[1]: is accepted only because of")


@pytest.mark.parametrize(
    ("secret", "why"),
    [
        ("a" * 40, "has fewer than 8 different characters"),
        ("abcdefg" * 6, "has fewer than 8 different characters"),
        ("1234567890" * 7, "repeats 10 characters"),
        ("x9-Kp2_wQ" * 8, "repeats 9 characters"),
        (("x9-Kp2_wQ" * 8)[:40], "repeats 9 characters"),
        ("0123456789abcdef" * 2, "repeats 16 characters"),
        ("abcdefghijklmnopqrstuvwxyz0123456789", "is a sequence of neighbouring characters"),
        ("ZYXWVUTSRQPONMLKJIHGFEDCBA9876543210", "is a sequence of neighbouring characters"),
        ("qwertyuiopasdfghjklzxcvbnm1234567890", "is a sequence of neighbouring characters"),
        ("aabbccddeeffgghhiijjkkllmmnnooppqqrr", "is a sequence of neighbouring characters"),
    ],
)
def test_a_secret_that_can_be_guessed_is_refused_but_in_debug(secret: str, why: str) -> None:
    """Repetitions and sequences are long, and still the first that an attacker tries."""
    (problem,) = problems(f"auth: {{jwt: {{secret: '{secret}'}}}}")
    assert problem.startswith(f"propylon.yaml:1 auth.jwt.secret: {why}")
    assert "secrets.token_urlsafe" in problem
    assert secret not in problem
    assert loaded(f"debug: true\nauth: {{jwt: {{secret: '{secret}'}}}}").config.debug is True


@pytest.mark.parametrize("make", [secrets.token_hex, secrets.token_urlsafe])
def test_random_secrets_are_never_refused(make: Callable[[int], str]) -> None:
    """The patterns do not occur by chance, also in hexadecimal secrets, and in a strong one written twice."""
    for _ in range(2000):
        assert weakness(make(32), ["HS256"]) == ""
    assert weakness(make(32) * 2, ["HS256"]) == ""
