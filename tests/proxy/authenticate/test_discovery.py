"""The provider's document: which issuer and which keys are read from it, and what is not believed."""

import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from propylon.proxy.authenticate.discovery import Discovery
from propylon.proxy.authenticate.keys import UnusableKeys
from propylon.upstream.fetch import Fetched
from propylon.upstream.ports import Upstream
from tests.support.virtual import run

ISSUER = "https://id.test/realm"
URL = f"{ISSUER}/.well-known/openid-configuration"
KEYS = "https://keys.test/jwks"
DOCUMENT = {"issuer": ISSUER, "jwks_uri": KEYS, "token_endpoint": "https://id.test/token"}


class Provider:
    """Answers at several addresses; notes what it was asked."""

    def __init__(self, document: object, status: int = 200) -> None:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.document = Fetched(status, b"", body)
        self.asked: list[str] = []
        self.learnt: list[str] = []

    def connect(self, url: str) -> tuple[Callable[[], Awaitable[Fetched]], Upstream]:
        """Return what asks at this address."""

        async def ask() -> Fetched:
            self.asked.append(url)
            return self.document if "well-known" in url else Fetched(200, b"", url.encode())

        upstream: Any = url
        return ask, upstream

    def discovery(self, url: str = URL) -> Discovery:
        """What reads its document."""
        return Discovery(url, self.connect, self.learnt.append)


def test_issuer_and_keys_are_read() -> None:
    """One address is enough: the document names the issuer and the key set."""
    provider = Provider(DOCUMENT)
    discovery = provider.discovery()
    assert run(discovery.fetch()).body == KEYS.encode()
    assert (provider.learnt, provider.asked) == ([ISSUER], [URL, KEYS])
    assert discovery.upstreams == (URL, KEYS)


def test_the_key_set_moves() -> None:
    """A document that names another address is followed, and the old one is let go."""
    provider = Provider(DOCUMENT)
    discovery = provider.discovery()
    run(discovery.fetch())
    provider.document = Fetched(200, b"", json.dumps({**DOCUMENT, "jwks_uri": KEYS + "2"}).encode())
    assert run(discovery.fetch()).body == f"{KEYS}2".encode()
    assert discovery.upstreams == (URL, KEYS + "2")


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (b"<html>", "not JSON"),
        ([], "is no JSON object"),
        ({}, "has no issuer"),
        ({"issuer": ISSUER}, "has no jwks_uri"),
        ({**DOCUMENT, "issuer": 1}, "has no issuer"),
        ({**DOCUMENT, "issuer": "https://id.test/{tenantid}/v2.0"}, "is a pattern"),
        ({**DOCUMENT, "jwks_uri": "http://keys.test/jwks"}, "needs https"),
        ({**DOCUMENT, "jwks_uri": "file:///etc/passwd"}, "needs https"),
        ({**DOCUMENT, "jwks_uri": "https:///jwks"}, "needs https"),
        ({**DOCUMENT, "jwks_uri": "https://me:pw@keys.test/"}, "needs https"),
        ({**DOCUMENT, "jwks_uri": "https://keys.test:x/"}, "needs https"),
        ({**DOCUMENT, "jwks_uri": "https://keys.test/a b"}, "needs https"),
        ({**DOCUMENT, "jwks_uri": "https://keys.test/" + "x" * 2048}, "has no jwks_uri"),
    ],
)
def test_documents_that_are_not_believed(document: object, said: str) -> None:
    """A document without an issuer, or that leads to keys without TLS, gives no keys and no issuer."""
    provider = Provider(document)
    with pytest.raises(UnusableKeys, match=said):
        run(provider.discovery().fetch())
    assert (provider.learnt, provider.asked) == ([], [URL])


def test_an_answer_that_is_no_document() -> None:
    """Any answer but 200 is none."""
    with pytest.raises(UnusableKeys, match="answered 404"):
        run(Provider(DOCUMENT, 404).discovery().fetch())


def test_plain_http_where_the_operator_wrote_it() -> None:
    """A document that came without TLS may lead to keys without TLS: it makes nothing worse."""
    plain = {"issuer": "http://id.test", "jwks_uri": "http://id.test/keys"}
    provider = Provider(plain)
    run(provider.discovery("http://id.test/.well-known/openid-configuration").fetch())
    assert provider.learnt == ["http://id.test"]


def test_an_issuer_with_another_name(caplog: pytest.LogCaptureFixture) -> None:
    """An issuer that calls itself otherwise than the address is accepted, and the log says so once."""
    provider = Provider({**DOCUMENT, "issuer": "https://public.test/"})
    discovery = provider.discovery()
    with caplog.at_level(logging.WARNING):
        run(discovery.fetch())
        run(discovery.fetch())
    assert [record.getMessage() for record in caplog.records] == [
        f"the issuer of {URL} calls itself https://public.test/; tokens must name it so"
    ]


def test_a_reload_is_told() -> None:
    """A new configuration that keeps the key set learns the issuer at once, if it is known."""
    provider = Provider(DOCUMENT)
    discovery = provider.discovery()
    told: list[str] = []
    discovery.teach(told.append)
    assert told == []
    run(discovery.fetch())
    discovery.teach(told.append)
    assert told == [ISSUER, ISSUER]
