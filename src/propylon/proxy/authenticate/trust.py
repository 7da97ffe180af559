"""Choose the keys and the rules for a token by its issuer. Pure.

Each entry of `auth.jwt` is one `Trust`: a source of keys, and the rules for the claims of tokens that these keys sign. A
key proves only what its own issuer says: a token that names another issuer is verified with that one's keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from propylon.proxy.authenticate.claims import Rules
from propylon.proxy.authenticate.jws import BadToken
from propylon.proxy.authenticate.keys import KeySet
from propylon.proxy.challenge import unlike

__all__ = ["KeySource", "Trust", "chosen"]


class KeySource(Protocol):
    """Where the keys come from that verify signatures."""

    @property
    def keys(self) -> KeySet | None:
        """The keys now; None before the first fetch."""

    async def renew(self, key_id: str) -> bool:
        """Look for a newer set, because a token names a key that is not in it; tell whether the key is there now.

        The source bounds how often it looks, and how long the request waits for it.
        """


@dataclass(slots=True, eq=False)
class Trust:
    """An entry of `auth.jwt`. Its source is None if only opaque tokens are judged by its rules.

    `discovers`: the issuer is read from the provider's document, which replaces `rules` when it has arrived.
    """

    rules: Rules
    source: KeySource | None = None
    discovers: bool = False

    @property
    def issuers(self) -> frozenset[str]:
        """The issuers whose tokens this entry is for; empty for all that no other entry names."""
        return self.rules.issuers

    @property
    def decided(self) -> bool:
        """False while the issuer is not known: without it, the rules would accept any."""
        return bool(self.rules.issuers) or not self.discovers


def chosen(trusts: Sequence[Trust], claims: Mapping[str, object]) -> Trust:
    """Return the entry for a token with these claims. Raises BadToken if there is none.

    A token whose issuer no entry names gets the entry without issuers. While an entry has still to learn its issuer,
    it may be the one: it is not `decided`, so the answer is 503 and not 401.
    """
    if len(trusts) == 1:
        return trusts[0]
    issuer = claims.get("iss")
    # A dict would do for many entries; there are two or three, and their issuers may be learnt later.
    for trust in trusts:
        if isinstance(issuer, str) and issuer in trust.issuers:
            return trust
    nameless = [trust for trust in trusts if not trust.issuers]
    # A provider's tokens name their issuer: without `iss` it is not the entry that has still to learn its own.
    undecided = [trust for trust in nameless if trust.discovers and issuer is not None]
    for trust in (*undecided, *(trust for trust in nameless if not trust.discovers)):
        return trust
    known = [name for trust in trusts for name in trust.issuers]
    raise BadToken(unlike("not from a configured issuer (iss)", issuer, known))
