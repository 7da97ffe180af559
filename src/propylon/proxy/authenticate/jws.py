"""Parse a signed token (JWS compact serialization, RFC 7515) strictly, and refuse every other shape. Pure.

Nothing here knows a key: what `parse` returns is well-formed and not yet verified. The `reason` of a BadToken is
a fixed sentence for the log. It holds nothing of the token, because the log must not hold tokens or text chosen
by an attacker. That is also why no foreign exception is kept as a cause: some contain the text.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

__all__ = [
    "MAX_DEPTH",
    "MAX_KEY_ID",
    "MAX_TOKEN",
    "BadToken",
    "Jws",
    "check_type",
    "parse",
    "read_base64url",
    "read_json",
    "read_key_id",
]

# Bytes. What nginx and Apache accept as one header line; the tokens of identity providers have 1 to 4 KB.
MAX_TOKEN = 8192
# Characters. Key ids in the wild are thumbprints, UUIDs or URLs.
MAX_KEY_ID = 256
# Verified claims (OpenID Identity Assurance) nest eight levels. A token of 8 KB could nest thousands, and both the
# json module, which reads it, and orjson, which writes no more than 254, recurse.
MAX_DEPTH = 32

_BASE64URL = re.compile(rb"[A-Za-z0-9_-]*")
_WRONG_PART_COUNTS = {
    1: "no signed token: it has no dots",
    5: "an encrypted token (five parts); the gateway has no key to decrypt it",
}
# The `typ` of a token (RFC 7515, 4.1.9). RFC 8725, 3.11: `logout+jwt`, `dpop+jwt`, `secevent+jwt` and whatever else ends in
# +jwt name a kind of their own, signed with the same keys; RFC 9068 has `at+jwt` for access tokens. Any other plain word
# says nothing about the kind, but for these: an encrypted token, and the words of `kinds`.
_ACCESS_TYPE = "at+jwt"
_PLAIN_TYPE = re.compile(r"[a-z0-9][a-z0-9._-]*")
_OTHER_TYPES = frozenset(
    {
        "jwe",
        "refresh",
        "refresh_token",
        "id",
        "id_token",
        "offline",
        "offline_token",
        "logout",
        "logout_token",
    }
)
# Header parameters that change what is verified, or with which key. A key inside the token (`jwk`, `x5c`) is the
# sender's own and proves nothing (CVE-2018-0114); no issuer needs to send one. A URL (`jku`, `x5u`) would have the
# gateway fetch whatever the sender likes (SSRF). The thumbprints `x5t` are not refused: identity providers send
# them, they are no keys, and nothing here reads them.
_REFUSED_MEMBERS = {
    "crit": "asks for an extension (crit): none is understood, so RFC 7515, 4.1.11 has it refused",
    "b64": "asks for an unencoded payload (b64)",
    "zip": "asks for decompression (zip)",
    "enc": "an encrypted token (enc)",
    "jwk": "brings a key with it (jwk)",
    "jku": "says where to fetch a key (jku)",
    "x5u": "says where to fetch a certificate (x5u)",
    "x5c": "brings a certificate with it (x5c)",
}


class BadToken(Exception):
    """The token is not acceptable; `reason` is for the log and holds nothing of the token."""

    def __init__(self, reason: str, *, expired: bool = False) -> None:
        """`expired`: this reason alone is told to the client, so that it refreshes the token."""
        super().__init__(reason)
        self.reason = reason
        self.expired = expired


@dataclass(frozen=True, slots=True, repr=False)
class Jws:
    """A parsed token. It has no repr, so that no log or traceback can show a token."""

    algorithm: str
    key_id: str | None
    signed: bytes  # the signing input: header and payload with the dot between, as sent
    signature: bytes
    payload: bytes
    kind: str | None = (
        None  # `typ`, in lower case and without "application/"; None if there is none
    )


def parse(token: bytes, required_type: str | None = "") -> Jws:
    """Parse a token. Raises BadToken.

    `required_type` is the only `typ` that is accepted; with an empty one, any that does not name another kind of token;
    with None, the caller calls `check_type` later, or never.
    """
    # First, since the cost of all that follows grows with the length.
    if len(token) > MAX_TOKEN:
        msg = f"longer than {MAX_TOKEN} bytes"
        raise BadToken(msg)
    parts = token.split(b".")
    if len(parts) != 3:
        msg = _WRONG_PART_COUNTS.get(len(parts), "no signed token: it has not three parts")
        raise BadToken(msg)
    header, payload, signature = [read_base64url(part) for part in parts]
    # `alg: none` (CVE-2015-2951), and an empty signature under another algorithm (CVE-2020-28042).
    if not signature:
        msg = "not signed"
        raise BadToken(msg)
    algorithm, key_id, kind = _read_header(header)
    if required_type is not None:
        check_type(kind, required_type)
    return Jws(algorithm, key_id, token[: token.rindex(b".")], signature, payload, kind)


def _read_header(text: bytes) -> tuple[str, str | None, str | None]:
    header = read_json(text)
    if not isinstance(header, dict):
        msg = "the header is no JSON object"
        raise BadToken(msg)
    # A member's presence is enough; its value is not looked at.
    for name, reason in _REFUSED_MEMBERS.items():
        if name in header:
            raise BadToken(reason)
    algorithm = header.get("alg")
    if not isinstance(algorithm, str):
        msg = "the header names no algorithm"
        raise BadToken(msg)
    return algorithm, read_key_id(header), _read_type(header)


def _read_type(header: Mapping[str, object]) -> str | None:
    if "typ" not in header:
        return None
    written = header["typ"]
    if not isinstance(written, str):
        msg = "its type (typ) is not that of an access token"
        raise BadToken(msg)
    # "application/" may be left out, and case does not count (RFC 7515, 4.1.9).
    return written.lower().removeprefix("application/")


def check_type(kind: str | None, required: str) -> None:
    """Return if a token with this `typ` can be an access token. Raises BadToken; see `parse` for `required`."""
    usual = kind is None or kind == _ACCESS_TYPE or _is_plain(kind)
    if not (kind == required if required else usual):
        msg = "its type (typ) is not that of an access token"
        raise BadToken(msg)


def _is_plain(kind: str) -> bool:
    return _PLAIN_TYPE.fullmatch(kind) is not None and kind.replace("-", "_") not in _OTHER_TYPES


def read_key_id(members: Mapping[str, object]) -> str | None:
    """Return the `kid` of a header or of a key, None if it has none. Raises BadToken for a malformed one."""
    if "kid" not in members:
        return None
    key_id = members["kid"]
    if not isinstance(key_id, str) or len(key_id) > MAX_KEY_ID:
        msg = f"its kid is no string of at most {MAX_KEY_ID} characters"
        raise BadToken(msg)
    return key_id


def read_base64url(text: bytes) -> bytes:
    """Decode base64url without padding (RFC 7515, 2), and accept only what an encoder writes. Raises BadToken.

    Python's decoder skips characters outside the alphabet and ignores unused bits at the end. So there would be
    many spellings of one token, and a revoked token in another spelling would not be found in the list.
    """
    if _BASE64URL.fullmatch(text) is None or len(text) % 4 == 1:
        msg = "not base64url without padding"
        raise BadToken(msg)
    octets = base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))
    if base64.urlsafe_b64encode(octets).rstrip(b"=") != text:
        msg = "not base64url as an encoder writes it"
        raise BadToken(msg)
    return octets


def read_json(text: bytes) -> object:
    """Read JSON that all readers read alike (RFC 7515, 10.12). Raises BadToken.

    orjson refuses NaN, infinities, 1e400, lone surrogates and byte order marks. But of two equal names it takes
    the last one, where other readers take the first. So the standard library reads the text again, only to find
    such pairs, and only after the depth was checked: it recurses.
    """
    try:
        value: object = orjson.loads(text)
    except orjson.JSONDecodeError:
        msg = "not JSON"
        raise BadToken(msg) from None
    if text.count(b"[") + text.count(b"{") > MAX_DEPTH and _is_deep(value):
        msg = f"JSON nested deeper than {MAX_DEPTH}"
        raise BadToken(msg)
    # Numbers stay text in this pass: int() refuses one of 5,000 digits with a ValueError.
    json.loads(
        text.decode(), object_pairs_hook=_reject_duplicate_names, parse_int=str, parse_float=str
    )
    return value


def _is_deep(value: object) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        containers = [item for item in level if isinstance(item, dict | list)]
        if not containers:
            return False
        level = [
            inner
            for item in containers
            for inner in (item.values() if isinstance(item, dict) else item)
        ]
    return True


def _reject_duplicate_names(pairs: list[tuple[str, object]]) -> None:
    if len({name for name, _ in pairs}) != len(pairs):
        msg = "JSON with a name twice in one object"
        raise BadToken(msg)
