"""Read issuer and key set from a provider's own document (OpenID Connect Discovery 1.0, 4; RFC 8414, 3).

The operator writes one address, `discovery_url`. The document there names the issuer, which tokens must name in `iss`, and
the address of the key set. Both are read anew with each refresh of the keys.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from propylon.proxy.authenticate.algorithms import UnusableKeys
from propylon.proxy.authenticate.jws import BadToken, read_json
from propylon.upstream.fetch import Fetched
from propylon.upstream.ports import Upstream

__all__ = ["Discovery"]

log = logging.getLogger(__name__)

_OK = 200
_LONGEST = 2048  # characters of an address
Ask = Callable[[], Awaitable[Fetched]]


class Discovery:
    """Fetches the document, and then the key set that it names. `fetch` is what a `PublishedKeys` fetches with."""

    def __init__(
        self,
        url: str,
        connect: Callable[[str], tuple[Ask, Upstream]],
        learn: Callable[[str], None],
    ) -> None:
        """`connect` returns what fetches a document from an address, and the upstream there.

        `learn` takes the issuer; it raises UnusableKeys for one that cannot be this provider's.
        """
        self._url = url
        self._connect = connect
        self._learn = learn
        self._issuer = ""
        # By address: the document's own, and the one of the key set.
        self._sites = {url: connect(url)}

    @property
    def upstreams(self) -> tuple[Upstream, ...]:
        """The upstreams that are asked now."""
        return tuple(upstream for _, upstream in self._sites.values())

    def teach(self, learn: Callable[[str], None]) -> None:
        """Tell the issuer to another configuration from now on, after a reload. Raises what `learn` raises."""
        self._learn = learn
        if self._issuer:
            learn(self._issuer)

    async def fetch(self) -> Fetched:
        """Return the key set. Raises UnusableKeys for a document that names none, and what asking raises."""
        ask, _ = self._sites[self._url]
        issuer, address = self._read(await ask())
        self._learn(issuer)
        if issuer != self._issuer:
            self._note_issuer(issuer)
        return await self._asking(address)()

    def _asking(self, address: str) -> Ask:
        if address not in self._sites:
            # The old one is left to the next reload, which closes what is not in use.
            self._sites = {self._url: self._sites[self._url], address: self._connect(address)}
        return self._sites[address][0]

    def _read(self, fetched: Fetched) -> tuple[str, str]:
        if fetched.status != _OK:
            msg = f"the discovery document: the provider answered {fetched.status}"
            raise UnusableKeys(msg)
        try:
            document = read_json(fetched.body)
        except BadToken as error:
            msg = f"the discovery document: {error.reason}"
            raise UnusableKeys(msg) from None
        if not isinstance(document, dict):
            msg = "the discovery document is no JSON object"
            raise UnusableKeys(msg)
        return _address(document, "issuer", self._url), _address(document, "jwks_uri", self._url)

    def _note_issuer(self, issuer: str) -> None:
        self._issuer = issuer
        # 4.3 wants the issuer to be the beginning of the address. Inside a cluster the address is often another one.
        if not self._url.startswith(issuer.rstrip("/")):
            log.warning(
                "the issuer of %s calls itself %s; tokens must name it so", self._url, issuer
            )


def _address(document: dict[str, object], name: str, url: str) -> str:
    value = document.get(name)
    if not isinstance(value, str) or not value.isascii() or len(value) > _LONGEST:
        msg = f"the discovery document has no {name}"
        raise UnusableKeys(msg)
    # Azure's document for all tenants has https://login.microsoftonline.com/{tenantid}/v2.0.
    if "{" in value:
        msg = f"the {name} of the discovery document is a pattern; write jwks_url, and issuer with the issuers to accept"
        raise UnusableKeys(msg)
    # Keys that travel without TLS can be replaced on the way, so a document that came with TLS may not lead there.
    if not _is_address(value, ("https",) if url.startswith("https:") else ("https", "http")):
        msg = f"the {name} of the discovery document is no address that is accepted: it needs https"
        raise UnusableKeys(msg)
    return value


def _is_address(text: str, schemes: tuple[str, ...]) -> bool:
    try:
        parts = urlsplit(text)
        sound = parts.port is None or parts.port > 0
    except ValueError:
        return False
    plain = all(" " < letter < "\x7f" for letter in text)
    return (
        sound and plain and parts.scheme in schemes and bool(parts.hostname) and not parts.username
    )
