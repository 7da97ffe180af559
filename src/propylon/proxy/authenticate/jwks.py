"""Keep a published key set (RFC 7517) at hand: fetched in the background, never while a request waits.

While the source is down, the keys that are known stay in force. A token that names an unknown key may
mean that the source has new ones: it is asked again, but not more often than every few seconds,
because anybody can make up key ids.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection

from propylon.errors import GatewayError
from propylon.loop.tasks import spawn_forever
from propylon.proxy.authenticate.keys import KeySet, UnusableKeys, from_jwks
from propylon.upstream.fetch import Fetched
from propylon.upstream.ports import Upstream

__all__ = ["COOL_DOWN", "LARGEST", "TIMEOUT", "PublishedKeys"]

log = logging.getLogger(__name__)

_OK = 200
TIMEOUT = 5.0  # seconds for one fetch, from the connection to the last byte
LARGEST = 1024 * 1024  # bytes; the large identity providers publish less than 20 KB
COOL_DOWN = 5.0  # seconds between two fetches, whatever is asked for
_REFRESH_EVERY = 300.0  # so long does a key that was withdrawn stay in force, at the most
_RETRY_PAUSES = (1.0, 2.0, 5.0, 10.0, 30.0)  # pauses while there are no keys; then the last one


def _ignore() -> None:
    """Be told nothing."""


class PublishedKeys:
    """A `KeySource` that follows what a source publishes."""

    def __init__(
        self,
        fetch: Callable[[], Awaitable[Fetched]],
        algorithms: Collection[str],
        *,
        cool_down: float = COOL_DOWN,
        origin: object = None,
        upstreams: tuple[Upstream, ...] = (),
    ) -> None:
        """Ask `fetch` for the document; `origin` is equal for what follows the same set.

        `upstreams` is whom it asks, for whoever keeps connections.
        """
        self.upstreams = upstreams
        self.origin = origin
        self.keys: KeySet | None = None
        # Called when other keys are in force: what the old ones vouched for is to be forgotten.
        self.on_change: Callable[[], None] = _ignore
        self._fetch = fetch
        self._algorithms = algorithms
        self._cool_down = cool_down
        self._document = b""
        self._failures = 0
        self._refresh_wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to follow the source. Needs a running loop."""
        if self._task is None:
            self._task = spawn_forever(self._follow())

    def close(self) -> None:
        """Follow it no longer."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def note_unknown_key(self) -> None:
        """Look for new keys, soon."""
        self._refresh_wanted.set()

    @property
    def missing(self) -> str | None:
        """Say what is being waited for, as long as there are no keys."""
        return None if self.keys is not None else "the key set that tokens are verified with"

    async def _follow(self) -> None:
        while True:
            await self.refresh()
            # The cool-down comes first, so that no flood of unknown keys can shorten it.
            pause = self._pause()
            await asyncio.sleep(min(self._cool_down, pause))
            if pause > self._cool_down:
                await self._wait(pause - self._cool_down)
            self._refresh_wanted.clear()

    def _pause(self) -> float:
        if not self._failures:
            return _REFRESH_EVERY
        pause = _RETRY_PAUSES[min(self._failures, len(_RETRY_PAUSES)) - 1]
        return pause if self.keys is None else max(pause, self._cool_down)

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._refresh_wanted.wait()
        except TimeoutError:
            return

    async def refresh(self) -> None:
        """Fetch the document once; keep the keys that are known if it is of no use."""
        try:
            document = await self._get()
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
        for reason in keys.skipped:
            log.warning("a published key is not used: %s", reason)
        self.keys, self._document = keys, document
        self.on_change()

    def _note_failure(self, error: GatewayError | UnusableKeys) -> None:
        self._failures += 1
        if self._failures == 1:  # once an outage, not once a try
            kept = "the known keys stay in force" if self.keys else "no token can be verified"
            log.warning("the key set could not be fetched: %s; %s", error, kept)
