"""A gateway with one key: a shared secret, a public key or a certificate."""

import datetime as dt
import json

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519

from propylon.proxy.authenticate.algorithms import UnusableKeys
from propylon.proxy.authenticate.jws import BadToken
from propylon.proxy.authenticate.keys import (
    KeySet,
    from_jwks,
    from_pem,
    from_secret,
    from_secrets,
)
from tests.proxy.authenticate.verdicts import refused, signed, unusable, verify
from tests.support.jose import (
    Sign,
    der,
    document,
    es,
    es_key,
    hs,
    other_rsa_key,
    pem,
    ps,
    rs,
    rsa_jwk,
    rsa_key,
)

SECRET = b"a secret of 32 bytes, for HS256."


def test_secret() -> None:
    """A shared secret verifies its own tokens and no others, whatever key they name."""
    keys = from_secret(SECRET, ["HS256"])
    assert keys.skipped == ()
    verify(keys, signed(hs(SECRET), alg="HS256"))
    verify(keys, signed(hs(SECRET), alg="HS256", kid="whatever"))
    assert refused(keys, signed(hs(SECRET + b"x"), alg="HS256")).reason == (
        "the signature is not the key's"
    )
    assert refused(keys, signed(hs(SECRET, 512), alg="HS512")).reason == (
        'signed with an algorithm that is not configured: it has "HS512", expected is HS256'
    )


def test_several_secrets() -> None:
    """Each secret of a list verifies, whatever key the token names; another secret does not."""
    other = SECRET[::-1]
    keys = from_secrets([SECRET, other], ["HS256"])
    for secret in (SECRET, other):
        verify(keys, signed(hs(secret), alg="HS256"))
        verify(keys, signed(hs(secret), alg="HS256", kid="whatever"))
    assert refused(keys, signed(hs(SECRET + b"x"), alg="HS256")).reason == (
        "the signature is not the key's"
    )
    assert "needs 48" in unusable(from_secrets, [b"x" * 48, SECRET], ["HS384"])


ORDINARY = [
    "",
    "k1",
    "9f86d081-884c-4d65-9a2f-eaa0c55ad015",
    "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs",
    "q0v+/Ab3==",
    "kid.with_all~of:it@them",
    "https://id.example/keys/2026?v=1#a",
    "projects/p/locations/l/keyRings/r/cryptoKeys/k",
    "did:example:123#key-1",
]
HOSTILE = [
    *("..", "../../dev/null", "a/../b", "a..b", "/", "/dev/null", "//host/share", "keys/"),
    *("x' OR '1'='1", 'x"y', "a\\b", "C:\\keys", "a;ls", "a|ls", "$(id)", "`id`", "a&b", "a b"),
    *(
        " ",
        "a\t",
        "a\n",
        "a\r\nX: 1",
        "\x00",
        "a\x1b[2J",
        "\x7f",
        "%2e%2e%2f",
        "<a>",
        "{}",
        "é",
        "\u2028",
    ),
]


def single() -> list[tuple[KeySet, Sign, str]]:
    """Sets of one key that was written into the configuration, and what signs for them."""
    return [
        (from_secret(SECRET, ["HS256"]), hs(SECRET), "HS256"),
        (from_pem(pem(rsa_key()), ["RS256"]), rs(rsa_key()), "RS256"),
    ]


@pytest.mark.parametrize("key_id", ORDINARY)
def test_a_token_may_name_its_key(key_id: str) -> None:
    """There is one key, whatever its issuer calls it."""
    for keys, sign, algorithm in single():
        verify(keys, signed(sign, alg=algorithm, kid=key_id))


@pytest.mark.parametrize("key_id", HOSTILE, ids=ascii)
def test_a_token_names_what_is_no_key(key_id: str) -> None:
    """Under a good signature, too: a path, a query or a command is nobody's key (threats of `kid`)."""
    for keys, sign, algorithm in single():
        error = refused(keys, signed(sign, alg=algorithm, kid=key_id))
        assert error.reason == "its kid cannot be the id of a key"
        assert type(error) is BadToken


def test_in_a_set_the_name_decides() -> None:
    """A published key may be called anything; a token that names it is verified with it."""
    keys = from_jwks(document(rsa_jwk(rsa_key(), kid="a b/..;")), ["RS256"])
    verify(keys, signed(rs(rsa_key()), alg="RS256", kid="a b/..;"))


def test_secret_among_other_algorithms() -> None:
    """Where other algorithms are configured too, a secret stays one for HMAC."""
    keys = from_secret(SECRET, ["HS256", "RS256", "ES256"])
    verify(keys, signed(hs(SECRET), alg="HS256"))
    for algorithm in ("RS256", "ES256"):
        error = refused(keys, signed(hs(SECRET), alg=algorithm))
        assert error.reason == "the key does not fit its algorithm"


def test_short_secrets() -> None:
    """A secret that is shorter than the hash of any configured algorithm is refused, if not asked for."""
    short = b"short"
    assert unusable(from_secret, short, ["HS256"]) == "the secret has 5 bytes; HS256 needs 32"
    assert unusable(from_secret, SECRET, ["HS256", "HS512", "HS384"]) == (
        "the secret has 32 bytes; HS512 needs 64"
    )
    keys = from_secret(short, ["HS256", "HS512"], allow_short=True)
    verify(keys, signed(hs(short), alg="HS256"))
    verify(keys, signed(hs(short, 512), alg="HS512"))
    with pytest.raises(UnusableKeys, match="empty"):
        from_secret(b"", ["HS256"], allow_short=True)


def openssh(key: rsa.RSAPrivateKey) -> bytes:
    """A public key as OpenSSH has it."""
    return key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )


def test_public_keys_are_no_secrets() -> None:
    """What everybody may know is refused as a secret, however it is written."""
    key = rsa_key()
    for public in (
        pem(key),
        pem(key).rstrip(),
        b"# ours\n" + pem(key),
        b"-----BEGIN PUBLIC KEY-----\n" + b"x" * 40,
        der(key),
        openssh(key),
        certificate(key),
        json.dumps(rsa_jwk(key)).encode(),
        document(rsa_jwk(key)),
    ):
        assert "looks like" in unusable(from_secret, public, ["HS256"])


def test_secrets_that_are_not_text() -> None:
    """Any bytes are a secret, if they are enough."""
    for secret in (bytes(range(200, 250)), b"[" * 9000, b'{"a": 1}' * 9, b"1" * 5000):
        verify(from_secret(secret, ["HS256"]), signed(hs(secret), alg="HS256"))


def certificate(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    """A certificate that has expired long ago."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "issuer")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 7)
    start = dt.datetime(2001, 1, 1, tzinfo=dt.UTC)
    builder = builder.not_valid_before(start).not_valid_after(start + dt.timedelta(days=1))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def public_pem(key: object) -> bytes:
    """Any public key as PEM."""
    return key.public_bytes(  # type: ignore[attr-defined, no-any-return]
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def test_pem() -> None:
    """A public key verifies its own tokens, whatever key id they name; so does a certificate's."""
    own = signed(rs(rsa_key()), alg="RS256", kid="whatever")
    for text in (
        pem(rsa_key()),
        pem(rsa_key()).decode(),
        certificate(rsa_key()),
        "Schlüssel des Ausstellers\n" + pem(rsa_key()).decode(),
        pem(rsa_key()).replace(b"\n", b"\r\n"),
        rsa_key()
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.PKCS1),
    ):
        keys = from_pem(text, ["RS256", "HS256"])
        verify(keys, own)
        assert refused(keys, signed(rs(other_rsa_key()), alg="RS256")).reason == (
            "the signature is not the key's"
        )
        assert type(refused(keys, signed(ps(rsa_key()), alg="PS256"))) is BadToken


def test_pem_of_curves() -> None:
    """A key of a curve verifies what its curve signs."""
    verify(from_pem(pem(es_key()), ["ES256"]), signed(es(es_key()), alg="ES256"))
    verify(from_pem(certificate(es_key()), ["ES256"]), signed(es(es_key()), alg="ES256"))
    edwards = ed25519.Ed25519PrivateKey.generate()
    keys = from_pem(public_pem(edwards.public_key()), ["EdDSA"])
    verify(keys, signed(edwards.sign, alg="EdDSA"))
    assert refused(keys, signed(edwards.sign, alg="Ed25519")).reason == (
        'signed with an algorithm that is not configured: it has "Ed25519", expected is EdDSA'
    )


def test_pem_is_no_secret() -> None:
    """A public key is never a secret, though HS256 is configured and the token says so (CVE-2016-10555)."""
    keys = from_pem(pem(rsa_key()), ["HS256", "RS256"])
    error = refused(keys, signed(hs(pem(rsa_key())), alg="HS256"))
    assert error.reason == "the key does not fit its algorithm"


@pytest.mark.parametrize(
    "form", [serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL]
)
def test_private_keys_are_refused(form: serialization.PrivateFormat) -> None:
    """A private key by mistake: the operator is told that it does not belong here."""
    text = rsa_key().private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    for given_text in (text, text + pem(rsa_key()), pem(rsa_key()) + text):
        reason = unusable(from_pem, given_text, ["RS256"])
        assert reason.startswith("a private key: give the public one")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not PEM with exactly one"),
        ("/etc/keys/issuer.pem", "not PEM with exactly one"),
        ("\ud800", "not PEM with exactly one"),
        (b"\xff\xfe", "not PEM with exactly one"),
        (pem(es_key()) * 2, "not PEM with exactly one"),
        (openssh(rsa_key()), "not PEM with exactly one"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "PEM that holds no"),
        ("-----BEGIN PUBLIC KEY-----", "PEM that holds no"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "PEM that holds no"),
        (pem(es_key()).replace(b"PUBLIC KEY", b"CERTIFICATE"), "PEM that holds no"),
        (pem(es_key()).replace(b"PUBLIC KEY", b"X509 CRL"), "PEM that holds no"),
        (public_pem(x25519.X25519PrivateKey.generate().public_key()), "a key of a kind that signs"),
        (pem(es_key()), "the public key is of another kind; the configured algorithms are HS256"),
    ],
    ids=range(13),
)
def test_pem_of_no_use(text: str | bytes, reason: str) -> None:
    """What is no public key, or one for other algorithms, is refused with a reason."""
    assert unusable(from_pem, text, ["HS256"]).startswith(reason)


def test_weak_pem() -> None:
    """An RSA key under 2048 bits is refused here too."""
    weak = rsa.RSAPublicNumbers(65537, 2**1023 + 1).public_key()
    assert "1024 bits" in unusable(from_pem, public_pem(weak), ["RS256"])
