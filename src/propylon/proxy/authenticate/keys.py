"""Hold the keys that verify tokens, and find the one key for each token. Pure.

A token is verified with the key that it names, or with the only key that fits its algorithm. Several public keys are
never tried in turn: that would let the token choose, and each bad token would cost a signature check for each key.
Only shared secrets are tried in turn. They have no names, there are few of them, and an HMAC costs microseconds.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import HMACAlgorithm
from jwt.exceptions import InvalidKeyError

from propylon.proxy.authenticate.algorithms import (
    ALGORITHMS,
    Binding,
    UnusableKeys,
    bind_public,
    bind_secret,
)
from propylon.proxy.authenticate.jwk import Key, read_jwk
from propylon.proxy.authenticate.jws import BadToken, Jws
from propylon.proxy.authenticate.key_set import Entry, read_entries
from propylon.proxy.challenge import unlike

__all__ = [
    "KeySet",
    "UnknownKey",
    "UnusableKeys",
    "from_jwks",
    "from_pem",
    "from_secret",
    "from_secrets",
]

_BEGIN = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----")
# Key ids in use are thumbprints, UUIDs or URLs, in any base64. Refused are paths that leave a folder, and
# everything that a shell, a database or a terminal would interpret: such ids attack lookups that others do.
_KEY_ID = re.compile(r"(?!/|.*\.\.)[A-Za-z0-9._~:@=+/#?-]*(?<!/)")


class UnknownKey(BadToken):
    """The token names a key id that is not in the set; a newer set may have it."""

    def __init__(self, key_id: str) -> None:
        """Keep the id, to look for it in the newer set. It is not for the log: the client chose it."""
        super().__init__("signed with a key that is not in the set")
        self.key_id = key_id


class KeySet:
    """Keys with their bindings. `skipped` says why other keys of the published set are not used."""

    __slots__ = ("_algorithms", "_by_id", "_keys", "_named", "skipped")

    def __init__(
        self,
        keys: Sequence[Key],
        algorithms: Collection[str],
        *,
        named: bool = True,
        skipped: Sequence[str] = (),
    ) -> None:
        """`named`: a token's `kid` selects the key. Else the keys are tried in turn, whatever the `kid`."""
        self._keys = tuple(keys)
        self._algorithms = frozenset(algorithms)
        self._named = named
        self._by_id: Mapping[str | None, Key] = {key.key_id: key for key in keys}
        self.skipped = tuple(skipped)

    def verify(self, jws: Jws) -> None:
        """Return if one of the keys signed the token. Raises BadToken, or UnknownKey for a `kid` not in the set."""
        if jws.algorithm not in self._algorithms:
            # First of all, so that a token with an unwanted algorithm cannot trigger a fetch of the key set.
            said = "signed with an algorithm that is not configured"
            raise BadToken(unlike(said, jws.algorithm, self._algorithms))
        if self._named:
            self._find(jws).verify(jws.signed, jws.signature)
        else:
            self._try_each(jws)

    def knows(self, key_id: str) -> bool:
        """Tell whether a key of this id is in the set."""
        return key_id in self._by_id

    def _find(self, jws: Jws) -> Binding:
        # Many issuers with a single key write no `kid`; RFC 7515, 4.1.4 leaves it optional.
        if jws.key_id is None:
            return self._only_fitting(jws.algorithm)
        key = self._by_id.get(jws.key_id)
        if key is None:
            raise UnknownKey(jws.key_id)
        if jws.algorithm not in key.bindings:
            msg = "signed with an algorithm that is not its key's"
            raise BadToken(msg)
        return key.bindings[jws.algorithm]

    def _only_fitting(self, algorithm: str) -> Binding:
        # Exactly one key may fit: see the module.
        fitting = [key.bindings[algorithm] for key in self._keys if algorithm in key.bindings]
        if len(fitting) != 1:
            msg = "the token names no key, and not exactly one fits its algorithm"
            raise BadToken(msg)
        return fitting[0]

    def _try_each(self, jws: Jws) -> None:
        if jws.key_id is not None and _KEY_ID.fullmatch(jws.key_id) is None:
            msg = "its kid cannot be the id of a key"
            raise BadToken(msg)
        refusal = BadToken("the key does not fit its algorithm")
        for key in self._keys:
            binding = key.bindings.get(jws.algorithm)
            if binding is None:
                continue
            try:
                return binding.verify(jws.signed, jws.signature)
            except BadToken as error:
                refusal = error
        raise refusal


def from_secret(secret: bytes, algorithms: Collection[str], *, allow_short: bool = False) -> KeySet:
    """Return the set of one shared secret. Raises UnusableKeys.

    `allow_short` is for trials only. A secret shorter than the hash can be found from any one token by trying
    secrets offline (RFC 7518, 3.2).
    """
    return from_secrets([secret], algorithms, allow_short=allow_short)


def from_secrets(
    secrets: Sequence[bytes], algorithms: Collection[str], *, allow_short: bool = False
) -> KeySet:
    """Return the set of shared secrets, each of which verifies tokens. Raises UnusableKeys."""
    wanted = _known_algorithms(algorithms)
    keys = [_secret_key(secret, wanted, allow_short=allow_short) for secret in secrets]
    return KeySet(keys, wanted, named=False)


def _secret_key(secret: bytes, wanted: frozenset[str], *, allow_short: bool) -> Key:
    _check_secret(secret)
    bindings = bind_secret(secret, wanted, allow_short=allow_short)
    possible = bind_secret(secret, wanted, allow_short=True)
    if short := wanted & possible.keys() - bindings.keys():
        msg = f"the secret has {len(secret)} bytes; {max(short)} needs {int(max(short)[2:]) // 8}"
        raise UnusableKeys(msg)
    return _key_without_name(bindings, wanted, "a secret verifies HS256, HS384 and HS512")


def from_pem(text: str | bytes, algorithms: Collection[str]) -> KeySet:
    """Return the set of one public key or certificate in PEM. Raises UnusableKeys."""
    wanted = _known_algorithms(algorithms)
    key = _read_pem(text.encode("utf-8", "replace") if isinstance(text, str) else text)
    only = _key_without_name(bind_public(key, wanted), wanted, "the public key is of another kind")
    return KeySet([only], wanted, named=False)


def from_jwks(document: bytes, algorithms: Collection[str]) -> KeySet:
    """Return the set of a published document (RFC 7517, 5). Raises UnusableKeys.

    A key that is unusable or doubtful is left out (RFC 7517, 5), and the others are used.
    """
    wanted = _known_algorithms(algorithms)
    entries = read_entries(document)
    keys: list[Key] = []
    skipped: list[str] = []
    for number, entry in enumerate(entries, 1):
        # A key that is no use for us must not take the others down with it.
        try:
            keys.append(_read_entry(entry, wanted))
        except UnusableKeys as error:
            skipped.append(f"key {number} of {len(entries)}: {error.reason}")
    if not keys:
        msg = "; ".join(["no key of the set can be used", *skipped[:5]])
        raise UnusableKeys(msg)
    return KeySet(keys, wanted, skipped=skipped)


def _read_entry(entry: Entry, wanted: Collection[str]) -> Key:
    if isinstance(entry, str):
        raise UnusableKeys(entry)
    return read_jwk(entry, wanted)


def _known_algorithms(algorithms: Collection[str]) -> frozenset[str]:
    wanted = frozenset(algorithms)
    if unknown := wanted - ALGORITHMS:
        msg = f"no algorithm to verify with: {', '.join(sorted(unknown))}"
        raise UnusableKeys(msg)
    return wanted


def _key_without_name(bindings: Mapping[str, Binding], wanted: Collection[str], what: str) -> Key:
    if not bindings:
        msg = f"{what}; the configured algorithms are {', '.join(sorted(wanted)) or 'none'}"
        raise UnusableKeys(msg)
    return Key(None, bindings)


def _check_secret(secret: bytes) -> None:
    if not secret:
        msg = "the secret is empty"
        raise UnusableKeys(msg)
    # An operator who puts the public key where the secret belongs lets everyone who has it sign tokens.
    if b"-----BEGIN" in secret or (b'"kty"' in secret and b"{" in secret):
        msg = "the secret looks like a key file (PEM or JWK); a public key is no secret"
        raise UnusableKeys(msg)
    try:
        # PyJWT also recognises OpenSSH and DER keys.
        HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(secret)
    except InvalidKeyError:
        msg = "the secret looks like a public key or a certificate"
        raise UnusableKeys(msg) from None


def _read_pem(text: bytes) -> object:
    labels = _BEGIN.findall(text)
    # The gateway only verifies. With the private key in it, an intruder could sign tokens for every service.
    if any(label.endswith(b"PRIVATE KEY") for label in labels):
        msg = "a private key: give the public one, and keep this out of the gateway's reach"
        raise UnusableKeys(msg)
    if len(labels) != 1:
        msg = "not PEM with exactly one public key or certificate"
        raise UnusableKeys(msg)
    try:
        if labels[0] == b"CERTIFICATE":
            # Only the key of the certificate is used. The operator trusts it by naming it, whatever its dates.
            return x509.load_pem_x509_certificate(text).public_key()
        return load_pem_public_key(text)
    except (UnsupportedAlgorithm, ValueError, x509.InvalidVersion):
        msg = "PEM that holds no public key or certificate"
        raise UnusableKeys(msg) from None
