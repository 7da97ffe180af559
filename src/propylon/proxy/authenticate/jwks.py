"""Keep a published key set (JWK Set, RFC 7517) up to date, in the background: no request waits for a fetch.

While the source is down, the keys that are known stay in force. A token that names an unknown key id may mean
that the issuer has rotated its keys, so the set is fetched soon, but never more often than every few seconds:
key ids are not signed, and an attacker can make up any number of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection

from propylon.errors import GatewayError
from propylon.loop.tasks import spawn_forever
from propylon.proxy.authenticate.discovery import Discovery
from propylon.proxy.authenticate.keys import KeySet, UnusableKeys, from_jwks
from propylon.upstream.fetch import Fetched
from propylon.upstream.ports import Upstream

__all__ = ["COOL_DOWN", "LARGEST", "TIMEOUT", "PublishedKeys"]

log = logging.getLogger(__name__)

_OK = 200
# Strategy: one task fetches, forever. Verifying never waits for it: a request that waited would make every request
# wait when the identity provider is slow, and a burst of unknown key ids would become a burst of fetches.

TIMEOUT = 5.0  # seconds for one fetch, from the connection to the last byte
LARGEST = 1024 * 1024  # bytes; the large identity providers publish less than 20 KB
COOL_DOWN = 5.0  # seconds between two fetches at least, whatever is asked for
# Seconds. A withdrawn key stays in force for that long at most. The issuers' own Cache-Control says hours; KrakenD
# fetches every 15 minutes, Envoy every 5.
_REFRESH_EVERY = 300.0
# Seconds between tries while there are no keys, and no token can be verified; the last one repeats.
_RETRY_PAUSES = (1.0, 2.0, 5.0, 10.0, 30.0)


def _ignore() -> None:
    """Stand in for `on_change` until there is a listener."""


class PublishedKeys:
    """A `KeySource` that follows the key set of an identity provider."""

    def __init__(
        self,
        fetch: Callable[[], Awaitable[Fetched]],
        algorithms: Collection[str],
        *,
        cool_down: float = COOL_DOWN,
        origin: object = None,
        upstreams: tuple[Upstream, ...] = (),
        discovery: Discovery | None = None,
    ) -> None:
        """`fetch` gets the document. `origin` is equal for two objects that follow the same set.

        `upstreams` are the upstreams that `fetch` asks, for the owner of their connections; a `discovery` has its own.
        """
        self._upstreams = upstreams
        self.discovery = discovery
        self.origin = origin
        self.keys: KeySet | None = None
        # Called when the keys have changed. Tokens verified with the old ones must be verified again.
        self.on_change: Callable[[], None] = _ignore
        self._fetch = fetch
        self._algorithms = algorithms
        self._cool_down = cool_down
        self._document = b""
        self._failures = 0
        self._refresh_wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start fetching. Needs a running loop."""
        if self._task is None:
            self._task = spawn_forever(self._follow())

    def close(self) -> None:
        """Stop fetching; the keys stay."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    @property
    def upstreams(self) -> tuple[Upstream, ...]:
        """The upstreams that are asked."""
        return self._upstreams if self.discovery is None else self.discovery.upstreams

    def note_unknown_key(self) -> None:
        """Fetch the set soon, because a token names a key that is not in it."""
        self._refresh_wanted.set()

    @property
    def missing(self) -> str | None:
        """What `/readyz` waits for while there are no keys; None when there are."""
        return None if self.keys is not None else "the key set that tokens are verified with"

    async def _follow(self) -> None:
        while True:
            await self.refresh()
            # The cool-down is a plain sleep that nothing can shorten; only the rest can be cut by an unknown key.
            pause = self._pause()
            await asyncio.sleep(min(self._cool_down, pause))
            if pause > self._cool_down:
                await self._wait(pause - self._cool_down)
            self._refresh_wanted.clear()

    def _pause(self) -> float:
        if not self._failures:
            return _REFRESH_EVERY
        # Without keys every request is refused, so the first tries come soon; with keys there is no hurry.
        pause = _RETRY_PAUSES[min(self._failures, len(_RETRY_PAUSES)) - 1]
        return pause if self.keys is None else max(pause, self._cool_down)

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._refresh_wanted.wait()
        except TimeoutError:
            return

    async def refresh(self) -> None:
        """Fetch the set once. If that fails, or the document is unusable, the known keys stay."""
        try:
            document = await self._get()
            # An unchanged document is not installed again: that would empty the cache of tokens each time.
            if document != self._document or self.keys is None:
                self._install(document)
        except (GatewayError, UnusableKeys) as error:
            self._note_failure(error)
            return
        if self._failures:
            log.warning("the key set is available again")
        self._failures = 0

    async def _get(self) -> bytes:
        fetched = await self._fetch()
        if fetched.status != _OK:
            msg = f"the source answered {fetched.status}"
            raise UnusableKeys(msg)
        return fetched.body

    def _install(self, document: bytes) -> None:
        keys = from_jwks(document, self._algorithms)
        # A warning, not an error: identity providers publish encryption keys in the same set.
        for reason in keys.skipped:
            log.warning("a published key is not used: %s", reason)
        self.keys, self._document = keys, document
        self.on_change()

    def _note_failure(self, error: GatewayError | UnusableKeys) -> None:
        self._failures += 1
        if self._failures == 1:  # one line for each outage, not for each try
            kept = "the known keys stay in force" if self.keys else "no token can be verified"
            log.warning("the key set could not be fetched: %s; %s", error, kept)
