"""The shape of a signed token, before anybody asks who signed it."""

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.proxy.authenticate.jws import (
    MAX_DEPTH,
    MAX_KEY_ID,
    MAX_TOKEN,
    BadToken,
    parse,
    read_base64url,
    read_json,
    read_key_id,
)
from tests.support.jose import b64, pack

SIGNATURE = b64(b"signature")


def of(header: object, payload: bytes = b"{}") -> bytes:
    """A token with this header; the signature is a word."""
    return b64(pack(header)) + b"." + b64(payload) + b"." + SIGNATURE


def refused(token: bytes) -> str:
    """The reason why it is refused."""
    with pytest.raises(BadToken) as caught:
        parse(token)
    assert not caught.value.expired
    assert str(caught.value) == caught.value.reason
    return caught.value.reason


def test_parts() -> None:
    """A token comes apart into what was signed, as sent, and what its parts stand for."""
    token = of(b'{ "alg":\n"HS256", "kid": "k\\u0031" }', b'{"sub":"7"}')
    jws = parse(token)
    assert (jws.algorithm, jws.key_id) == ("HS256", "k1")
    assert jws.signed == token.rpartition(b".")[0]
    assert jws.signature == b"signature"
    assert jws.payload == b'{"sub":"7"}'


def test_no_key_id() -> None:
    """A header need not name a key."""
    assert parse(of({"alg": "RS256"})).key_id is None


def test_repr_shows_no_token() -> None:
    """A token that was taken apart cannot be read from a traceback or a log."""
    token = of({"alg": "HS256", "kid": "the-key"}, b'{"sub":"somebody"}')
    shown = repr(parse(token))
    for part in ("HS256", "the-key", "somebody", "signature", token.decode()[:20]):
        assert part not in shown


def test_payload_is_not_read() -> None:
    """What the payload says is nobody's business before its signature was verified."""
    assert parse(of({"alg": "HS256"}, b"\xff{{{")).payload == b"\xff{{{"


def test_longest() -> None:
    """A token may have as many bytes as the limit says, and not one more."""
    token = of({"alg": "HS256"}, b"{} ")
    signed, _, _ = token.rpartition(b".")
    fits = signed + b"." + b"A" * (MAX_TOKEN - len(signed) - 1)
    assert len(fits) == MAX_TOKEN
    assert len(parse(fits).signature) > 5000
    assert refused(fits + b"AAAA") == "longer than 8192 bytes"


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (b"", "no signed token: it has no dots"),
        (b"opaque", "no signed token: it has no dots"),
        (b"a.b", "no signed token: it has not three parts"),
        (b"a.b.c.d", "no signed token: it has not three parts"),
        (b"a.b.c.d.e.f", "no signed token: it has not three parts"),
        (
            b"a.b.c.d.e",
            "an encrypted token (five parts); the gateway has no key to decrypt it",
        ),
        (of({"alg": "HS256"})[: -len(SIGNATURE)], "not signed"),
        (b".." + SIGNATURE, "not JSON"),
    ],
)
def test_parts_are_three(token: bytes, reason: str) -> None:
    """Everything but three parts with a signature is refused, and the log says what it may have been."""
    assert refused(token) == reason


@pytest.mark.parametrize("name", ["crit", "b64", "zip", "enc", "jwk", "jku", "x5u", "x5c"])
@pytest.mark.parametrize("value", [None, [], ["exp"], {}, "", False, True, "DEF"])
def test_members_that_would_change_the_verification(name: str, value: object) -> None:
    """A header that asks for anything else than a plain signature is refused, whatever it says."""
    assert name in refused(of({"alg": "HS256", name: value}))


# Not x5c: a key that comes with the token proves nothing, and no issuer needs to send one.
@pytest.mark.parametrize("name", ["x5t", "x5t#S256", "cty", "nonce", "x-own"])
@pytest.mark.parametrize("value", ["abc", ["MIIB"], None, 1])
def test_members_that_mean_nothing(name: str, value: object) -> None:
    """Members that are not looked at do no harm: identity providers send thumbprints."""
    assert parse(of({"alg": "RS256", name: value})).algorithm == "RS256"


@pytest.mark.parametrize(
    "written", ["JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt", "Application/JWT"]
)
def test_types_of_access_tokens(written: str) -> None:
    """A token may say that it is a JWT, or an access token, in any case (RFC 7515, 4.1.9)."""
    assert parse(of({"alg": "RS256", "typ": written})).algorithm == "RS256"


@pytest.mark.parametrize(
    "written",
    [
        "logout+jwt",
        "dpop+jwt",
        "secevent+jwt",
        "JWE",
        "JWT ",
        "",
        "application/",
        "text/jwt",
        1,
        None,
    ],
)
def test_other_types(written: object) -> None:
    """A token that says to be something else is no access token (RFC 8725, 3.11)."""
    assert refused(of({"alg": "RS256", "typ": written})) == (
        "its type (typ) is not that of an access token"
    )


@pytest.mark.parametrize("header", [b"[]", b'"alg"', b"null", b"1", b"true"])
def test_header_is_an_object(header: bytes) -> None:
    """A header that is JSON, but no object, is refused."""
    assert refused(of(header)) == "the header is no JSON object"


@pytest.mark.parametrize("algorithm", [None, 1, True, ["HS256"], {"HS256": 1}])
def test_algorithm_is_text(algorithm: object) -> None:
    """An algorithm that is not text is none."""
    assert refused(of({"alg": algorithm})) == "the header names no algorithm"


def test_algorithm_is_named() -> None:
    """There is no default algorithm."""
    assert refused(of({"typ": "JWT"})) == "the header names no algorithm"


@pytest.mark.parametrize("key_id", [None, 1, True, ["k"], {}, "k" * (MAX_KEY_ID + 1)])
def test_key_id_is_short_text(key_id: object) -> None:
    """A key id is text of bounded length wherever it stands, or left out."""
    with pytest.raises(BadToken, match="kid"):
        read_key_id({"kid": key_id})
    assert "kid" in refused(of({"alg": "HS256", "kid": key_id}))


def test_key_id_may_be_anything_else() -> None:
    """In a set a key id is compared and nothing else: what it looks like does not matter."""
    for key_id in ("", "../../etc/passwd", "' OR 1=1", "é\r\n", "k" * MAX_KEY_ID):
        assert read_key_id({"kid": key_id}) == key_id
    assert read_key_id({}) is None


# ------------------------------------------------------------------------------------- base64url


@given(st.binary(max_size=40))
def test_base64url_there_and_back(octets: bytes) -> None:
    """What an encoder writes is read as what it was."""
    assert read_base64url(b64(octets)) == octets


@given(st.one_of(st.text("AB-_+/=.? \n", max_size=9).map(str.encode), st.binary(max_size=9)))
def test_base64url_has_one_spelling(text: bytes) -> None:
    """Whatever is read is what an encoder would write for it; anything else is refused."""
    try:
        octets = read_base64url(text)
    except BadToken:
        return
    assert b64(octets) == text


@pytest.mark.parametrize(
    "text",
    [
        b"QQ==",
        b"QQ=",
        b"QR",
        b"QUJ",
        b"QQ\n",
        b" QQ",
        b"Q Q",
        b"QUI+",
        b"Q",
        b"QUJDR",
        b"Q\xc3\xa9",
    ],
)
def test_base64url_spellings_that_lax_decoders_take(text: bytes) -> None:
    """Padding, loose bits, white space, the other alphabet and a lone letter are refused."""
    with pytest.raises(BadToken, match="not base64url"):
        read_base64url(text)


# ------------------------------------------------------------------------------------- JSON


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b"NaN",
        b"-Infinity",
        b"1e400",
        b"-1e400",
        b"9" * 400,
        b"9" * 5000,
        b"01",
        b"+1",
        b".5",
        b"1.",
        b"'a'",
        b"{a:1}",
        b"[1,]",
        b'{"a":1,}',
        b"[1]x",
        b"[1] [2]",
        b'"\\ud800"',
        b'"\\udc00\\ud800"',
        b'"\xed\xa0\x80"',
        b'"\xff"',
        b'"\xc0\x80"',
        b'"\x00"',
        b'"\n"',
        b'"\\x41"',
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
        b"\x00\x00\x00{",
        b"{}\x00",
        b"[" * 100_000,
        b"[" * 2000 + b"]" * 2000,
    ],
)
def test_json_that_is_read_in_two_ways(text: bytes) -> None:
    """What some readers take and others refuse is refused."""
    with pytest.raises(BadToken) as caught:
        read_json(text)
    assert caught.value.reason == "not JSON"
    # The decoder's own error holds the whole text.
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":1,"a":1}',
        b'{"a":1,"b":2,"a":3}',
        b'{"a":1,"\\u0061":2}',
        b'[{"b":[{"a":{"c":1,"c":1}}]}]',
        b'{"":1,"":2}',
        '{"é":1,"\\u00e9":2}'.encode(),
        b'{"a":{"b":1},"a":{"b":1}}',
    ],
)
def test_json_with_a_name_twice(text: bytes) -> None:
    """Of two members with one name, some readers take the first and others the last: neither counts."""
    with pytest.raises(BadToken, match="a name twice"):
        read_json(text)


def test_json_of_every_kind() -> None:
    """Strict is not narrow: all of JSON is read, white space and surrogate pairs too."""
    text = b' {"a":[1,-2.5,1e3,true,false,null,"\\ud83d\\ude00"],\r\n\t"b":{"a":{"a":""}}} '
    assert read_json(text) == {
        "a": [1, -2.5, 1000.0, True, False, None, "😀"],
        "b": {"a": {"a": ""}},
    }


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_json_depth(opening: bytes, closing: bytes) -> None:
    """JSON may be nested as deep as the limit says, and no deeper."""
    inner = b"1" if closing == b"}" else b""
    read_json(opening * MAX_DEPTH + inner + closing * MAX_DEPTH)
    for depth in (MAX_DEPTH + 1, 500, 1000):
        with pytest.raises(BadToken, match="nested deeper|not JSON"):
            read_json(opening * depth + inner + closing * depth)


def test_json_width_is_not_depth() -> None:
    """Many lists side by side, and brackets in a string, are no depth."""
    assert read_json(b"[" + b",".join([b"[[]]"] * 1000) + b"]") == [[[]]] * 1000
    assert read_json(b'"' + b"[{" * 1000 + b'"') == "[{" * 1000


_scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
_json = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=20,
)


@given(st.one_of(_json.map(json.dumps).map(str.encode), st.binary(max_size=30)))
def test_json_as_the_library_reads_it(text: bytes) -> None:
    """What is not refused is read as the library alone reads it; nothing but BadToken comes out."""
    try:
        value = read_json(text)
    except BadToken:
        return
    assert value == orjson.loads(text)


@given(st.binary(max_size=60))
def test_any_bytes(token: bytes) -> None:
    """No bytes are a token by chance, and none raise anything but BadToken."""
    with pytest.raises(BadToken):
        parse(token)


@given(st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "jwk", "x"]), _json))
def test_any_header(header: dict[str, object]) -> None:
    """A header is taken if its algorithm, its key id and its type are what they should be."""
    try:
        jws = parse(of(header))
    except BadToken:
        return
    assert jws.algorithm == header["alg"]
    assert jws.key_id == header.get("kid")
    assert not {"crit", "jwk"} & header.keys()
