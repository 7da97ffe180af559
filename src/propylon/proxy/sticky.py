"""Keep a caller with the instance that it has got, or with the service: by a signed cookie. Pure.

Strategy. The cookie holds a digest of the name of an instance or a service, and a signature: nobody learns an address from it, and no
client can make one up. What the digest names is looked up among what there is now. A restart, another worker and another gateway
with the same secret read it alike, and nothing is stored.

Rules.

1. A cookie that was not signed here counts as none.
2. What cannot be asked (unhealthy, ejected, drained, removed, tried before by this request) is not asked. `reassign` chooses anew, and
   the answer sets the new cookie. `refuse` is 503; if the instance is gone for good, the 503 takes the cookie away, so that the next
   request begins anew.
3. An instance is named when it is chosen, so that a retry elsewhere leaves the cookie of the instance that was asked last.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from hmac import compare_digest

from propylon.errors import ServiceUnavailable
from propylon.proxy.exchange import Exchange
from propylon.proxy.route import Selects
from propylon.proxy.select import Candidates
from propylon.services.service import Instance, Service
from propylon.wire.cookies import cookie
from propylon.wire.message import Request

__all__ = ["Cookie", "StickyInstance"]

_NAME, _MAC = 8, 16  # bytes
_TEXT = (_NAME + _MAC) * 4 // 3
_GONE = b"; Max-Age=0"


class Cookie:
    """A cookie that names one of several things."""

    __slots__ = ("_attributes", "_kept", "_keys", "_name", "_secure", "_values")

    def __init__(
        self,
        name: str,
        keys: Sequence[bytes],
        *,
        attributes: str = "; Path=/; HttpOnly; SameSite=Lax",
        max_age: float | None = None,
        secure: bool | None = None,
    ) -> None:
        """The first of the `keys` signs, all verify. `secure` None: where the request came by https. `max_age` in seconds."""
        self._name = name.encode("ascii")
        self._keys = tuple(keys)
        self._attributes = attributes.encode("ascii")
        self._kept = b"" if max_age is None else b"; Max-Age=%d" % max_age
        self._secure = secure
        self._values = lru_cache(maxsize=4096)(self._value)

    def read(self, request: Request) -> bytes | None:
        """Return the value that the client sent; None: none, or one that was not signed here."""
        value = cookie(request.block, self._name)
        if value is None or len(value) != _TEXT:
            return None
        try:
            raw = urlsafe_b64decode(value)
        except ValueError:
            return None
        name, mac = raw[:_NAME], raw[_NAME:]
        if not any(compare_digest(mac, self._mac(key, name)) for key in self._keys):
            return None
        return urlsafe_b64encode(raw)  # the only spelling of it

    def names(self, value: bytes, what: str) -> bool:
        """Whether a value that was read names this."""
        return any(value == self._values(key, what) for key in self._keys)

    def is_current(self, value: bytes, what: str) -> bool:
        """Whether a value is the one that would be set: signed by the first key."""
        return value == self._values(self._keys[0], what)

    def put(self, exchange: Exchange, what: str) -> None:
        """Have the answer set the cookie to this, in place of what it was to set it to before."""
        self._set(exchange, self._values(self._keys[0], what), self._kept)

    def take(self, exchange: Exchange) -> None:
        """Have the answer take the cookie away."""
        self._set(exchange, b"", _GONE)

    def _set(self, exchange: Exchange, value: bytes, kept: bytes) -> None:
        start = b"\r\nSet-Cookie: %b=" % self._name
        if start in exchange.lines:
            before, _, rest = exchange.lines.partition(start)
            _, end, behind = rest.partition(b"\r\n")
            exchange.lines = before + end + behind
        scheme = exchange.downstream.origin.scheme
        secure = self._secure if self._secure is not None else scheme == "https"
        exchange.lines += b"%b%b%b%b%b" % (
            start,
            value,
            self._attributes,
            kept,
            b"; Secure" if secure else b"",
        )

    def _value(self, key: bytes, what: str) -> bytes:
        name = blake2b(what.encode(), digest_size=_NAME, key=key, person=b"named").digest()
        return urlsafe_b64encode(name + self._mac(key, name))

    def _mac(self, key: bytes, name: bytes) -> bytes:
        return blake2b(
            self._name + b"=" + name, digest_size=_MAC, key=key, person=b"sticky"
        ).digest()


@dataclass(frozen=True, slots=True)
class StickyInstance:
    """Sends a caller to the instance that it had. Fills the port `route.Selects`.

    `fresh` chooses for a caller without a cookie; None: the balance of the service.
    """

    service: Service
    cookie: Cookie
    refuses: bool
    fresh: Selects | None = None

    def choose(self, exchange: Exchange, request: Request, candidates: Candidates) -> Instance:
        """Return the caller's instance, or another one and set the cookie. Raises ServiceUnavailable."""
        value = self.cookie.read(request)
        if value is not None:
            named = self._named(value, candidates)
            if named is not None:
                if not self.cookie.is_current(value, named.id):
                    self.cookie.put(exchange, named.id)
                return named
            if self.refuses:
                raise self._refusal(exchange, value)
        chosen = self._anew(exchange, request, candidates)
        self.cookie.put(exchange, chosen.id)
        return chosen

    def narrowed(
        self, exchange: Exchange, request: Request, candidates: Candidates  # noqa: ARG002
    ) -> Candidates:
        """Return the caller's instance, where it may be asked: no other one, however much it has to do."""
        value = self.cookie.read(request)
        named = None if value is None else self._named(value, candidates)
        return candidates if named is None else (named,)

    def left(self, exchange: Exchange, request: Request, untried: Candidates) -> Candidates:
        """Return the instances that may get a further attempt: none but the caller's, where no other one may have it."""
        if self.refuses and self.cookie.read(request) is not None:
            return ()
        return untried if self.fresh is None else self.fresh.left(exchange, request, untried)

    def _named(self, value: bytes, instances: Iterable[Instance]) -> Instance | None:
        return next((one for one in instances if self.cookie.names(value, one.id)), None)

    def _anew(self, exchange: Exchange, request: Request, candidates: Candidates) -> Instance:
        if self.fresh is not None:
            chosen: Instance = self.fresh.choose(exchange, request, candidates)
            return chosen
        return candidates[0] if len(candidates) == 1 else self.service.balance(candidates)

    def _refusal(self, exchange: Exchange, value: bytes) -> ServiceUnavailable:
        name = self.service.name
        if self._named(value, self.service.instances) is None:
            self.cookie.take(exchange)
        msg = f'The instance of the service "{name}" that this caller stays with cannot be asked'
        return ServiceUnavailable(msg, details={"service": name})
