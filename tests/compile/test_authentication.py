"""From what was written of authentication to what verifies tokens, and what it asks of others."""

import asyncio
import base64
import json
import ssl
from collections.abc import Awaitable
from typing import Any
from urllib.parse import parse_qs, unquote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.compile.authentication import Authentication, compile_authentication
from propylon.config.models.auth import AuthConfig
from propylon.errors import AuthError, ConnectFailed, GatewayError, ServiceUnavailable
from propylon.loop.signal import Signal
from propylon.proxy.authenticate import introspection, jwks
from propylon.proxy.authenticate.keys import UnusableKeys
from propylon.upstream.pool import Address
from propylon.upstream.ports import Answer, Outgoing, Sink
from propylon.wire.headers import fields, values
from propylon.wire.message import CHUNKED, Response
from tests.proxy.authenticate.stand_in import NOW, SECRET, Taken, Wall, signed
from tests.proxy.doubles import whole
from tests.support.jose import document, ec_jwk, es, es_key, hs, pem, token
from tests.support.virtual import run

KEYS = document(ec_jwk(es_key(), kid="a", use="sig"))
OF_KEY = token({"alg": "ES256", "kid": "a"}, {"sub": "42", "exp": NOW + 60}, es(es_key()))
ISSUER = "http://issuer.test/oauth/introspect"


class Site:
    """A server of somebody else's: notes what it is asked, and how it was connected to."""

    busy = 0

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.connected: list[tuple[Address, int]] = []
        self.got: list[Outgoing] = []
        self.forms: list[bytes] = []

    def connect(self, address: Address, limit: int) -> "Site":
        """Note it."""
        self.connected.append((address, limit))
        return self

    def send(self, outgoing: Outgoing, sink: Sink) -> Awaitable[Answer]:
        """Answer."""
        return self._exchange(outgoing)

    async def _exchange(self, outgoing: Outgoing) -> Answer:
        self.got.append(outgoing)
        if outgoing.body is not None:
            self.forms.append(b"")
            outgoing.body.pipe(self)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        reply: Answer = whole(200, answer) if isinstance(answer, bytes) else answer
        return reply

    def body_data(self, data: bytes) -> None:
        """Keep it."""
        self.forms[-1] += data

    def body_end(self, trailers: bytes = b"") -> None:
        """Nothing to do."""


def compiled(site: Site, *, debug: bool = False, **written: Any) -> Authentication | None:
    """What comes of this configuration."""
    config = AuthConfig.model_validate(written)
    return compile_authentication(config, site.connect, Taken(), Wall(), debug=debug)


def made(site: Site, **written: Any) -> Authentication:
    """The same, where something comes of it."""
    found = compiled(site, **written)
    assert found is not None
    return found


async def verdict(authentication: Authentication, sent: bytes) -> str:
    """Who a token is, or the status that it is refused with."""
    try:
        return (await authentication.verifier.verify(sent)).principal.subject
    except GatewayError as error:
        return str(error.status)


def judged(site: Site, sent: bytes, **written: Any) -> str:
    """What becomes of a token under this configuration; a published set has been fetched."""

    async def main() -> str:
        authentication = made(site, **written)
        if authentication.published is not None:
            await authentication.published.refresh()
        return await verdict(authentication, sent)

    return run(main())


# What there is to verify with


def test_nothing() -> None:
    """Then there is no verifier, and nobody is connected to."""
    site = Site(b"")
    assert compiled(site) is None
    assert compiled(site, jwt={"issuer": "https://a"}, introspection={"client_id": "x"}) is None
    assert site.connected == []


def test_a_secret() -> None:
    """Tokens that are signed with it, by the algorithms that are written."""
    jwt = {"secret": SECRET.decode()}
    assert judged(Site(b""), signed(), jwt=jwt) == "42"
    claims = {"sub": "42", "exp": NOW + 60}
    assert judged(Site(b""), token({"alg": "HS384"}, claims, hs(SECRET, 384)), jwt=jwt) == "401"
    assert judged(Site(b""), token({"alg": "HS256"}, claims, hs(SECRET[:-1])), jwt=jwt) == "401"
    assert judged(Site(b""), OF_KEY, jwt=jwt) == "401"


def test_a_short_secret() -> None:
    """Only for trying things out."""
    short = {"secret": "short"}
    sent = token({"alg": "HS256"}, {"sub": "42", "exp": NOW + 60}, hs(b"short"))

    async def main() -> str:
        found = compiled(Site(b""), debug=True, jwt=short)
        assert found is not None
        return await verdict(found, sent)

    assert run(main()) == "42"


def test_a_short_secret_verifies_nothing() -> None:
    """However it came past the configuration, whoever verifies with it refuses it (RFC 7518, 3.2)."""
    for secret in ("short", SECRET.decode()[:-1]):
        with pytest.raises(UnusableKeys, match="HS256 needs 32"):
            compiled(Site(b""), jwt={"secret": secret})


def test_a_public_key() -> None:
    """Tokens that its private half has signed, and never ones that it was the secret of."""
    jwt = {"public_key": pem(es_key()).decode()}
    assert judged(Site(b""), OF_KEY, jwt=jwt) == "42"
    confused = token({"alg": "HS256"}, {"sub": "42", "exp": NOW + 60}, hs(pem(es_key())))
    assert judged(Site(b""), confused, jwt=jwt) == "401"


def test_rules() -> None:
    """Issuer, audience, leeway and the names of claims are those of the file."""
    jwt = {
        "secret": SECRET.decode(),
        "issuer": ["https://a", "https://b"],
        "audience": "api",
        "leeway": "5s",
        "scopes_claim": "scp",
        "roles_claim": "realm_access.roles",
    }
    fine = {"iss": "https://b", "aud": "api", "exp": NOW - 4}

    async def main() -> None:
        authentication = made(Site(b""), jwt=jwt)
        more = {"scp": ["read"], "scope": "admin", "realm_access": {"roles": ["clerk"]}}
        verified = await authentication.verifier.verify(signed(**fine, **more))
        assert verified.principal.scopes == {"read"}
        assert verified.principal.roles == {"clerk"}
        for wrong in ({"iss": "https://c"}, {"aud": "x"}, {"exp": NOW - 5}):
            with pytest.raises(AuthError):
                await authentication.verifier.verify(signed(**{**fine, **wrong}))

    run(main())


def test_stages() -> None:
    """What a route's `auth` comes to: nobody, whoever brings a token, whoever has to."""
    stages = made(Site(b""), jwt={"secret": SECRET.decode()}).stages
    usual = {"none", "optional", "required", "offered"}
    assert set(stages) == usual | {"socket optional", "socket required"}


# A published set


@pytest.mark.parametrize(
    ("url", "host", "port", "tls", "line", "shown"),
    [
        ("http://a.test/keys", "a.test", 80, False, b"GET /keys HTTP/1.1", b"a.test"),
        ("https://a.test/keys?x=%20&y", "a.test", 443, True, b"GET /keys?x=%20&y HTTP/1.1", b"a.test"),
        ("https://a.test", "a.test", 443, True, b"GET / HTTP/1.1", b"a.test"),
        ("http://a.test:8080", "a.test", 8080, False, b"GET / HTTP/1.1", b"a.test:8080"),
        ("http://[::1]:81/k", "::1", 81, False, b"GET /k HTTP/1.1", b"[::1]:81"),
        ("https://A.test/.well-known/jwks.json", "a.test", 443, True, b"GET /.well-known/jwks.json HTTP/1.1", b"A.test"),
    ],
)  # fmt: skip
def test_where_keys_are_fetched(
    url: str, host: str, port: int, tls: bool, line: bytes, shown: bytes
) -> None:
    """From the URL as it is written, by its scheme and on its port; certificates are verified."""
    site = Site(KEYS)
    assert judged(site, OF_KEY, jwt={"jwks_url": url}) == "42"
    [(address, limit)] = site.connected
    assert (address.host, address.port, limit) == (host, port, 1)
    assert (address.tls is not None) is tls
    if address.tls is not None:
        assert address.tls.verify_mode is ssl.CERT_REQUIRED
        assert address.tls.check_hostname
    [asked] = site.got
    assert (asked.method, asked.line) == ("GET", line)
    names = [name.lower() for name, _ in fields(asked.block)]
    assert values(asked.block, b"host") == [shown]
    assert len(set(names)) == len(names)
    assert b"authorization" not in names


def test_how_long_a_fetch_may_take() -> None:
    """A source that hangs is given up after a few seconds, and its keys are missed."""

    class Hanging(Site):
        async def _exchange(self, outgoing: Outgoing) -> Answer:
            self.got.append(outgoing)
            await asyncio.sleep(3600)
            raise AssertionError

    async def main() -> float:
        authentication = made(Hanging(b""), jwt={"jwks_url": "http://a.test/keys"})
        assert authentication.published is not None
        began = asyncio.get_running_loop().time()
        await authentication.published.refresh()
        assert await verdict(authentication, OF_KEY) == "503"
        return asyncio.get_running_loop().time() - began

    assert run(main()) == jwks.TIMEOUT


def test_a_set_that_is_too_large() -> None:
    """It is not read."""
    padded = KEYS[:-1] + b" " * jwks.LARGEST + b"}"
    assert judged(Site(padded), OF_KEY, jwt={"jwks_url": "http://a.test/keys"}) == "503"


class Endless:
    """An answer of pieces that come for as long as anybody takes them, or until ten megabytes are sent."""

    body = None
    head = Response(200, b" 200 X", b"", CHUNKED, keep_alive=True)

    def __init__(self) -> None:
        self.sent = 0
        self.aborted = False

    def pipe(self, sink: Sink) -> Signal[None]:
        """Push a piece with every turn of the loop."""
        ended: Signal[None] = Signal()

        def push() -> None:
            if self.aborted:
                return
            if self.sent >= 10 * jwks.LARGEST:
                sink.finish()
                ended.set(None)
                return
            self.sent += 65536
            sink.write(b" " * 65536)
            asyncio.get_running_loop().call_soon(push)

        push()
        return ended

    def pause(self) -> None:
        """Do nothing."""

    def resume(self) -> None:
        """Do nothing."""

    def abort(self) -> None:
        """Push no more."""
        self.aborted = True


def test_a_set_that_does_not_end() -> None:
    """It is cut off where a set is too large, and not read to its end to find that out."""
    endless = Endless()
    assert judged(Site(endless), OF_KEY, jwt={"jwks_url": "http://a.test/keys"}) == "503"
    assert endless.aborted
    assert jwks.LARGEST < endless.sent <= jwks.LARGEST + 2 * 65536


def test_a_redirect_leads_nowhere() -> None:
    """Keys come from where the operator said, or not at all."""
    site = Site(whole(302, b"", b"\r\nLocation: http://evil.test/keys"))
    assert judged(site, OF_KEY, jwt={"jwks_url": "http://a.test/keys"}) == "503"
    assert (len(site.got), len(site.connected)) == (1, 1)


def test_new_keys_end_what_was_remembered() -> None:
    """A token of a key that is gone is refused with the next request."""
    other = document({**ec_jwk(es_key()), "kid": "b"})

    async def main() -> None:
        authentication = made(Site(KEYS, other), jwt={"jwks_url": "http://a.test/keys"})
        assert authentication.published is not None
        await authentication.published.refresh()
        assert await verdict(authentication, OF_KEY) == "42"
        await authentication.published.refresh()
        assert await verdict(authentication, OF_KEY) == "401"

    run(main())


# Introspection


def active(**more: object) -> bytes:
    """An answer that says yes."""
    return json.dumps({"active": True, "sub": "ann", "exp": NOW + 600, **more}).encode()


@pytest.mark.parametrize(
    ("client", "secret"),
    [
        ("gateway", "s3cret"),
        ("gateway", None),
        ("a:b", "c:d"),
        ("ä €", "%+ &=:/ü"),
        ("x" * 200, "y" * 200),
    ],
)
def test_who_asks(client: str, secret: str | None) -> None:
    """HTTP Basic, with both parts form-encoded first (RFC 6749, 2.3.1), so that no colon is in doubt."""
    written = {"url": ISSUER, "client_id": client}
    if secret is not None:
        written["client_secret"] = secret
    site = Site(active())
    assert judged(site, b"opaque", introspection=written) == "ann"
    [sent] = values(site.got[0].block, b"authorization")
    scheme, _, credentials = sent.partition(b" ")
    assert scheme == b"Basic"
    name, _, password = base64.b64decode(credentials, validate=True).decode("ascii").partition(":")
    assert (unquote_plus(name), unquote_plus(password)) == (client, secret or "")


def test_nobody_says_who_asks() -> None:
    """Without a `client_id` there is no such header."""
    site = Site(active())
    assert judged(site, b"opaque", introspection={"url": ISSUER}) == "ann"
    assert values(site.got[0].block, b"authorization") == []


def test_what_is_asked() -> None:
    """A form with the token (RFC 7662, 2.1), as large as it says."""
    site = Site(active())
    url = "https://issuer.test:8443/introspect?realm=a"
    assert judged(site, b"opaque", introspection={"url": url}) == "ann"
    [asked] = site.got
    assert asked.line == b"POST /introspect?realm=a HTTP/1.1"
    block = asked.block
    assert values(block, b"host") == [b"issuer.test:8443"]
    assert values(block, b"content-type") == [b"application/x-www-form-urlencoded"]
    assert asked.length == len(site.forms[0])
    assert values(block, b"accept") == [b"application/json"]
    assert parse_qs(site.forms[0].decode()) == {
        "token": ["opaque"],
        "token_type_hint": ["access_token"],
    }


@given(st.binary(min_size=1, max_size=60))
def test_no_token_says_more_than_itself(sent: bytes) -> None:
    """Whatever it is made of, it is one field of the form, and arrives as it was."""
    site = Site(active())
    assert judged(site, sent, introspection={"url": ISSUER}) == "ann"
    form = parse_qs(site.forms[0].decode("ascii"), keep_blank_values=True, encoding="latin-1")
    assert set(form) == {"token", "token_type_hint"}
    assert form["token"] == [sent.decode("latin-1")]


def test_who_is_asked() -> None:
    """A signed token is verified where there is a key; without one its issuer is asked."""
    both = {"jwt": {"secret": SECRET.decode()}, "introspection": {"url": ISSUER}}
    site = Site(active())
    assert judged(site, signed(), **both) == "42"
    assert site.got == []
    assert judged(site, b"opaque", **both) == "ann"
    assert judged(site, signed(), introspection={"url": ISSUER}) == "ann"
    assert len(site.got) == 2


def test_answers_are_remembered_as_long_as_is_written() -> None:
    """Thirty seconds unless it is said otherwise; `0s` asks each time."""
    for written, questions in (({}, 1), ({"cache": "0s"}, 3), ({"cache": "5m"}, 1)):
        site = Site(active())

        async def main(site: Site = site, written: dict[str, str] = written) -> None:
            authentication = made(site, introspection={"url": ISSUER, **written})
            for _ in range(3):
                assert await verdict(authentication, b"opaque") == "ann"

        run(main())
        assert len(site.got) == questions


@pytest.mark.parametrize(
    "answer",
    [
        ConnectFailed("refused"),
        whole(302, b"", b"\r\nLocation: http://evil.test"),
        whole(401, b"{}"),
        b"<html>",
        b" " * introspection.LARGEST + active(),
    ],
)
def test_nobody_can_tell(answer: Any) -> None:
    """503, and never a way in."""
    assert judged(Site(answer), b"opaque", introspection={"url": ISSUER}) == "503"


def test_a_source_that_hangs() -> None:
    """503 after a few seconds, for all who wait."""

    class Hanging(Site):
        async def _exchange(self, outgoing: Outgoing) -> Answer:
            await asyncio.sleep(3600)
            raise AssertionError

    async def main() -> float:
        authentication = made(Hanging(b""), introspection={"url": ISSUER})
        began = asyncio.get_running_loop().time()
        found = await asyncio.gather(*(verdict(authentication, b"opaque") for _ in range(5)))
        assert set(found) == {"503"}
        return asyncio.get_running_loop().time() - began

    assert run(main()) == introspection.TIMEOUT


def test_what_the_client_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing of whom we ask, nor of what proves who we are; the log has the reason without them."""

    async def main() -> ServiceUnavailable:
        secret = {"client_id": "gateway", "client_secret": "s3cret-7Qx"}
        site = Site(ConnectFailed("Cannot connect", reason="errno 111"))
        authentication = made(site, introspection={"url": ISSUER, **secret})
        with pytest.raises(ServiceUnavailable) as caught:
            await authentication.verifier.verify(b"opaque-Kd93jf")
        return caught.value

    error = run(main())
    told = f"{error.message} {error.details} {error.headers}"
    assert "issuer" not in told
    for secret in ("s3cret-7Qx", "opaque-Kd93jf", base64.b64encode(b"gateway:s3cret-7Qx").decode()):
        assert secret not in told + error.reason + caplog.text


# Several issuers


PROVIDER = "https://id.test/.well-known/openid-configuration"


class Provider(Site):
    """Publishes a document at one address, and keys at another."""

    def __init__(self, issuer: str) -> None:
        super().__init__(b"")
        self.issuer = issuer

    async def _exchange(self, outgoing: Outgoing) -> Answer:
        self.got.append(outgoing)
        document = {"issuer": self.issuer, "jwks_uri": "https://keys.test/jwks"}
        body = json.dumps(document).encode() if b"well-known" in outgoing.line else KEYS
        return whole(200, body)


def of_provider(issuer: str) -> bytes:
    """A token that the provider's key signed."""
    claims = {"sub": "42", "exp": NOW + 60, "iss": issuer}
    return token({"alg": "ES256", "kid": "a"}, claims, es(es_key()))


def test_a_provider_is_discovered() -> None:
    """Issuer and keys come from the document; until it is there, the provider's tokens are 503 and others pass."""

    async def main() -> None:
        site = Provider("https://id.test")
        found = made(site, jwt=[{"discovery_url": PROVIDER}, {"secret": SECRET.decode()}])
        assert found.missing is not None
        assert await verdict(found, of_provider("https://id.test")) == "503"
        assert await verdict(found, signed()) == "42"
        await found.key_sets[0].refresh()
        assert found.missing is None
        assert await verdict(found, of_provider("https://id.test")) == "42"
        assert await verdict(found, of_provider("https://other.test")) == "401"
        assert len(found.upstreams) == 2

    run(main())


def test_a_provider_that_takes_anothers_name() -> None:
    """A document that names another entry's issuer is not believed: its keys could sign for that one's users."""

    async def main() -> None:
        site = Provider("https://other.test")
        other = {"secret": SECRET.decode(), "issuer": "https://other.test"}
        found = made(site, jwt=[{"discovery_url": PROVIDER}, other])
        await found.key_sets[0].refresh()
        assert found.missing is not None
        assert await verdict(found, of_provider("https://other.test")) == "401"

    run(main())


def test_an_issuer_that_the_operator_wrote() -> None:
    """An `issuer` beside the document's address stands, whatever the document says."""

    async def main() -> None:
        site = Provider("https://id.test")
        found = made(
            site, jwt={"discovery_url": PROVIDER, "issuer": ["https://a.test", "https://b.test"]}
        )
        await found.key_sets[0].refresh()
        assert await verdict(found, of_provider("https://b.test")) == "42"
        assert await verdict(found, of_provider("https://id.test")) == "401"

    run(main())


def test_a_reload_keeps_each_key_set() -> None:
    """Key sets stay where their addresses do, with the issuer that was read; the entries may change places."""

    async def main() -> None:
        site = Provider("https://id.test")
        entries: list[dict[str, Any]] = [
            {"discovery_url": PROVIDER},
            {"jwks_url": "https://b.test/keys", "issuer": "https://b.test"},
        ]
        first = made(site, jwt=entries)
        for keys in first.key_sets:
            await keys.refresh()
        config = AuthConfig.model_validate({"jwt": [*entries[::-1], {"secret": SECRET.decode()}]})
        second = compile_authentication(config, site.connect, Taken(), Wall(), before=first)
        assert second is not None
        assert second.key_sets == first.key_sets[::-1]
        assert await verdict(second, of_provider("https://id.test")) == "42"
        assert await verdict(second, of_provider("https://b.test")) == "42"
        # The secret's entry gets the tokens of all other issuers, and this is not its key's.
        assert await verdict(second, of_provider("https://c.test")) == "401"

    run(main())


@pytest.mark.parametrize(
    ("said", "expected"), [("https://a.test", "42"), ("https://c.test", "401"), (None, "401")]
)
def test_opaque_tokens_of_several_issuers(said: str | None, expected: str) -> None:
    """What the introspection endpoint says is judged by the rules of the issuer that it names."""
    answer = {"active": True, "sub": "42", "aud": "api", "iss": said}
    site = Site(json.dumps({name: value for name, value in answer.items() if value}).encode())
    entries = [
        {"jwks_url": "https://a.test/k", "issuer": "https://a.test", "audience": "api"},
        {"jwks_url": "https://b.test/k", "issuer": "https://b.test"},
    ]
    introspection = {"url": ISSUER}
    config = AuthConfig.model_validate({"jwt": entries, "introspection": introspection})
    found = compile_authentication(config, site.connect, Taken(), Wall())
    assert found is not None
    assert run(verdict(found, b"opaque")) == expected
