"""Claims that nobody may be known by, and JSON that not every reader reads alike."""

import json
from collections.abc import Callable, Iterator

from tests.support.jose import LATER, claims, hs, token

ODD_JSON = (
    ("NaN", b"NaN"),
    ("Infinity", b"-Infinity"),
    ("1e400", b"1e400"),
    ("a number of 400 digits", b"9" * 400),
    ("a leading zero", b"01"),
    ("hexadecimal", b"0x10"),
    ("a plus", b"+1"),
    ("a lone surrogate", b'"\\ud800"'),
    ("a raw surrogate", b'"\xed\xa0\x80"'),
    ("overlong UTF-8", b'"\xc0\xaf"'),
    ("Latin-1", b'"\xe9"'),
    ("a raw control character", b'"\x01"'),
    ("single quotes", b"'x'"),
    ("a comment", b"1/**/"),
    ("an open string", b'"'),
    ("a trailing comma", b"[1,]"),
    ("40 arrays in one another", b"[" * 40 + b"]" * 40),
    ("2,000 arrays in one another", b"[" * 2000 + b"]" * 2000),
    ("2,000 open arrays", b"[" * 2000),
    ("500 objects in one another", b'{"":' * 500 + b"1" + b"}" * 500),
)
NO_OBJECTS: tuple[tuple[str, Callable[[bytes], bytes]], ...] = (
    ("empty", lambda _: b""),
    ("a list", lambda text: b"[" + text + b"]"),
    ("a string", lambda text: json.dumps(text.decode()).encode()),
    ("a number", lambda _: b"1"),
    ("null", lambda _: b"null"),
    ("with a byte order mark", lambda text: b"\xef\xbb\xbf" + text),
    ("UTF-16", lambda text: text.decode().encode("utf-16")),
    ("twice", lambda text: text + text),
    ("with garbage behind it", lambda text: text + b"x"),
    ("with NUL behind it", lambda text: text + b"\x00"),
    ("cut off", lambda text: text[:-1]),
)


def payloads() -> Iterator[tuple[str, object]]:
    """Payloads that a good key signed, and nobody may be known by."""
    raw = b'{"sub":"mallory","exp":4102444800'
    for claim in ("sub", "exp"):
        yield f"no {claim}", {name: value for name, value in claims().items() if name != claim}
    for claim, values in _ODD_CLAIMS.items():
        for value in values:
            yield f"{claim} {json.dumps(value)[:40]}", claims(**{claim: value})
    for odd in (b"NaN", b"Infinity", b"-Infinity", b"1e400", b"1e300", b"9" * 5000, b"04102444800"):
        yield f"exp {odd[:12].decode()}", b'{"sub":"mallory","exp":' + odd + b"}"
    yield "exp twice", raw + b',"exp":4102444800}'
    yield "exp twice, once escaped", raw + b',"e\\u0078p":1}'
    yield "sub twice", raw + b',"sub":"root"}'
    yield "a name twice, further down", raw + b',"realm_access":{"roles":[],"roles":["admin"]}}'
    for name, odd in ODD_JSON:
        yield f"with {name}", raw + b',"x":' + odd + b"}"
    for name, wrap in NO_OBJECTS:
        yield name, wrap(raw + b"}")
    yield "a token within", token(
        {"alg": "HS256"}, claims(), hs(b"another secret, long enough for HS256")
    )


_FUTURE = 4000000000  # a time that has not come, for tokens that are valid from then on
_NOT_TEXT: tuple[object, ...] = (None, 1, True, ["mallory"], {"sub": "mallory"}, "", "x" * 257)
_NOT_LINES = (
    "a\r\nX-User-Id: root",
    "a\nb",
    "a\x00b",
    "a\x7fb",
    "a\x85b",
    "a\u2028b",
    "\ud800",
    " root",
    "root ",
    "root\u00a0",
    "\troot",
    " ",
)
_NOT_MOMENTS: tuple[object, ...] = (
    *(None, "4102444800", "", True, False, [4102444800], {"exp": 4102444800}),
    *(-1, -0.5, 4102444800000, 2**63, 10**30, 1e19),
)
_ODD_CLAIMS: dict[str, tuple[object, ...]] = {
    # An integer becomes text: some issuers number their users.
    "sub": (
        *(odd for odd in _NOT_TEXT if odd is None or isinstance(odd, bool | str | list | dict)),
        *_NOT_LINES,
    ),
    "jti": (*_NOT_TEXT, *_NOT_LINES),
    "exp": (*_NOT_MOMENTS, 0, 1, 1000000000, 1000000000.5),
    "nbf": (*_NOT_MOMENTS, _FUTURE, LATER),
    "iat": (*_NOT_MOMENTS, _FUTURE, LATER),
    "iss": (None, 1, True, [], ["issuer"], {}),
    "aud": (None, 1, True, {}, [1], ["a", None], [["a"]]),
    "type": ("refresh", "Access", "", None, 1, True, ["access"], {"access": True}),
}
