"""Keep a published key set (JWK Set, RFC 7517) up to date.

While the source is down, the keys that are known stay in force. A token that names an unknown key id may mean
that the issuer has rotated its keys (OpenID Connect Core, 10.1.1). So its request has the set fetched and waits for it,
but not for long, and not more often than every few seconds: key ids are not signed, and an attacker can make up any
number of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Protocol

from propylon.errors import GatewayError
from propylon.loop.tasks import in_task, spawn, spawn_forever
from propylon.proxy.authenticate.discovery import Discovery
from propylon.proxy.authenticate.keys import KeySet, UnusableKeys, from_jwks
from propylon.upstream.fetch import Fetched
from propylon.upstream.ports import Upstream

__all__ = ["COOL_DOWN", "LARGEST", "LONGEST_WAIT", "TIMEOUT", "Kept", "PublishedKeys"]

log = logging.getLogger(__name__)

_OK = 200
# Strategy: at most one fetch runs at a time, in a task of its own. A background task starts one every few minutes. A
# request with an unknown key id starts one, or joins the one that runs. A request that leaves cancels only its own wait.

TIMEOUT = 5.0  # seconds for one fetch, from the connection to the last byte
LARGEST = 256 * 1024  # bytes; the large identity providers publish less than 20 KB
COOL_DOWN = 5.0  # seconds between two fetches for unknown key ids at least, however many there are
LONGEST_WAIT = 2.0  # seconds that a request with an unknown key id waits for the fetch
# Seconds. A withdrawn key stays in force for that long at most. The issuers' own Cache-Control says hours; KrakenD
# fetches every 15 minutes, Envoy every 5.
_REFRESH_EVERY = 300.0
# Seconds between tries while there are no keys, and no token can be verified; the last one repeats.
_RETRY_PAUSES = (1.0, 2.0, 5.0, 10.0, 30.0)
# Reasons for keys that are left out, in one line of the log.
_REASONS_SAID = 5


def _ignore() -> None:
    """Stand in for `on_change` until there is a listener."""


def _now() -> float:
    return asyncio.get_running_loop().time()


class Kept(Protocol):
    """Where the document of a source is kept for the other workers, and for those that replace them."""

    def find(self) -> bytes | None:
        """Return the document that a worker fetched last; None if there is none."""

    def keep(self, document: bytes) -> None:
        """Keep a document that this worker has fetched, and tell the other workers of it."""

    def hear(self, callback: Callable[[bytes], None]) -> None:
        """Call back with each document of the source that another worker has fetched."""


class _NotKept:
    """A `Kept` that keeps nothing: for a command, and for tests."""

    def find(self) -> bytes | None:
        return None

    def keep(self, document: bytes) -> None:
        """Drop the document: no other worker asks for it."""

    def hear(self, callback: Callable[[bytes], None]) -> None:
        """Do nothing: there are no other workers."""


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
        kept: Kept | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`fetch` gets the document. `origin` is equal for two objects that follow the same set.

        `upstreams` are the upstreams that `fetch` asks, for the owner of their connections; a `discovery` has its own.
        `kept` is what the workers of the gateway share of this source. `clock` measures the age of the keys.
        """
        self._upstreams = upstreams
        self.discovery = discovery
        self.origin = origin
        self.keys: KeySet | None = None
        # What the log says while there are no keys.
        self.without_keys = "no token can be verified"
        # Called when the keys have changed. Tokens verified with the old ones must be verified again.
        self.on_change: Callable[[], None] = _ignore
        self._fetch = fetch
        self._algorithms = algorithms
        self._cool_down = cool_down
        self._kept: Kept = kept or _NotKept()
        self.document = b""
        self._clock = clock
        self._confirmed: float | None = None  # when the source, or another worker, last had it
        self._failures = 0
        self._skipped: tuple[str, ...] = ()
        self._fetching: asyncio.Task[None] | None = None
        self._is_for_unknown = False  # the fetch in flight
        self._fetched_for_unknown = -math.inf  # when the last fetch for an unknown key id ended
        self._fetched = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def recall(self) -> None:
        """Use what another worker has fetched, if there is something."""
        if self.keys is None and (document := self._kept.find()) is not None:
            self._use(document)

    def start(self) -> None:
        """Start fetching, and use what other workers fetch. Needs a running loop."""
        if self._task is None:
            self._kept.hear(self._use)
            self._task = spawn_forever(self._follow())

    def close(self) -> None:
        """Stop fetching; the keys stay."""
        for task in (self._task, self._fetching):
            if task is not None:
                task.cancel()
        self._task = self._fetching = None
        self._is_for_unknown = False

    @property
    def upstreams(self) -> tuple[Upstream, ...]:
        """The upstreams that are asked."""
        return self._upstreams if self.discovery is None else self.discovery.upstreams

    def bind(self, document: bytes) -> None:
        """Use a document that is known already. Raises UnusableKeys if no key of it can be used."""
        self._install(document)

    async def renew(self, key_id: str) -> bool:
        """Fetch the set, because a token names a key that is not in it; tell whether the key is there now.

        Waits for the fetch for `LONGEST_WAIT` at most. Does not wait if the last fetch was a moment ago.
        """
        if self._fetch_for_unknown() is not None:
            # An exchange is no task, and `asyncio.timeout` needs one.
            await in_task(self._wait_for(key_id))
        return self._knows(key_id)

    async def _wait_for(self, key_id: str) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LONGEST_WAIT):
                # Twice, if a fetch was on its way already: it may have been answered before the key was published.
                for _ in range(2):
                    if self._knows(key_id) or (fetching := self._fetch_for_unknown()) is None:
                        return
                    await asyncio.wait({fetching})

    def _knows(self, key_id: str) -> bool:
        return self.keys is not None and self.keys.knows(key_id)

    def _fetch_for_unknown(self) -> asyncio.Task[None] | None:
        if self._fetching is not None or self._task is None:
            return self._fetching
        if _now() < self._fetched_for_unknown + self._cool_down:
            return None
        self._is_for_unknown = True
        return self._start_fetch()

    def _start_fetch(self) -> asyncio.Task[None]:
        if self._fetching is None:
            self._fetching = spawn(self._fetch_once())
        return self._fetching

    async def _fetch_once(self) -> None:
        try:
            await self.refresh()
        finally:
            # Else it was closed, and perhaps started again.
            if self._fetching is asyncio.current_task():
                self._note_end()

    def _note_end(self) -> None:
        # Counted from the end: a source that hangs must not make every request with an invented key id wait.
        if self._is_for_unknown:
            self._fetched_for_unknown = _now()
        self._is_for_unknown = False
        self._fetching = None
        self._fetched.set()

    @property
    def age(self) -> float | None:
        """The seconds since the source was last heard of; None: not yet."""
        return None if self._confirmed is None else self._clock() - self._confirmed

    @property
    def missing(self) -> str | None:
        """What `/readyz` waits for while there are no keys; None when there are."""
        return None if self.keys is not None else "the key set that tokens are verified with"

    async def _follow(self) -> None:
        while True:
            await asyncio.wait({self._start_fetch()})
            # A fetch for an unknown key id counts, too: the next one is due a full pause after it.
            self._fetched.clear()
            while await self._is_fetched_within(self._pause()):
                self._fetched.clear()

    async def _is_fetched_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                return await self._fetched.wait()
        return False

    def _pause(self) -> float:
        if not self._failures:
            return _REFRESH_EVERY
        # Without keys every request is refused, so the first tries come soon; with keys there is no hurry.
        tries = self._failures if self.keys is None else len(_RETRY_PAUSES)
        return _RETRY_PAUSES[min(tries, len(_RETRY_PAUSES)) - 1]

    async def refresh(self) -> None:
        """Fetch the set once. If that fails, or the document is unusable, the known keys stay."""
        try:
            document = await self._get()
            # An unchanged document is not installed again: that would empty the cache of tokens each time.
            if document != self.document or self.keys is None:
                self._install(document)
                self._kept.keep(document)
        except (GatewayError, UnusableKeys) as error:
            self._note_failure(error)
            return
        self._confirmed = self._clock()
        if self._failures:
            log.warning("the key set is available again")
        self._failures = 0

    @property
    def is_failing(self) -> bool:
        """Whether the last attempt to fetch the set failed; the known keys stay in use."""
        return self._failures > 0

    async def _get(self) -> bytes:
        fetched = await self._fetch()
        if fetched.status != _OK:
            msg = f"the source answered {fetched.status}"
            raise UnusableKeys(msg)
        return fetched.body

    def _use(self, document: bytes) -> None:
        """Use what another worker has fetched from the same source."""
        self._confirmed = self._clock()
        if document != self.document or self.keys is None:
            try:
                self._install(document)
            except (
                UnusableKeys
            ) as error:  # this worker may have other algorithms, in the middle of a reload
                log.info("the key set that another worker fetched is not used: %s", error)

    def _install(self, document: bytes) -> None:
        keys = from_jwks(document, self._algorithms)
        self._say_skipped(keys.skipped)
        self.keys, self.document = keys, document
        self.on_change()

    def _say_skipped(self, skipped: tuple[str, ...]) -> None:
        """Say which keys are left out, once for each change.

        A warning, not an error: identity providers publish encryption keys in the same set.
        """
        if skipped and skipped != self._skipped:
            more = len(skipped) - _REASONS_SAID
            rest = f"; and {more} more" if more > 0 else ""
            log.warning(
                "published keys are not used: %s%s", "; ".join(skipped[:_REASONS_SAID]), rest
            )
        self._skipped = skipped

    def _note_failure(self, error: GatewayError | UnusableKeys) -> None:
        self._failures += 1
        if self._failures == 1:  # one line for each outage, not for each try
            kept = "the known keys stay in force" if self.keys else self.without_keys
            log.warning("the key set could not be fetched: %s; %s", error, kept)
