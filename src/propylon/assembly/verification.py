"""Hold the verifier in force, and the one that a reload has configured while its keys are still being fetched.

Rule: fetch first, swap after. Where a reload names another source of keys, the verifier in force goes on, keys and rules
together, until the new source has answered. A mistake in the address then costs a warning instead of every request.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from propylon.assembly.components import Components
from propylon.compile.cors import allows_credentials
from propylon.compile.services import Connect
from propylon.config.models.schema import GatewayConfig
from propylon.config.reading.load import Loaded
from propylon.config.reading.problems import ConfigError
from propylon.upstream.ports import Upstream

# Cryptography takes a while to load: only who verifies tokens needs it.
if TYPE_CHECKING:
    from propylon.compile.authentication import Authentication
    from propylon.proxy.authenticate.jwks import Kept, PublishedKeys

__all__ = ["Verification", "verifies_otherwise"]

log = logging.getLogger(__name__)


class Verification:
    """The verifier in force (None: nothing verifies tokens), and the one that waits for its keys (`pending`)."""

    def __init__(self, swapped: Callable[[], None]) -> None:
        """`swapped` is called when the pending verifier has come into force."""
        self.in_force: Authentication | None = None
        self.pending: Authentication | None = None
        self._swapped = swapped

    @property
    def latest(self) -> Authentication | None:
        """The verifier that was configured last, in force or pending."""
        return self.pending or self.in_force

    def after(self, made: Authentication | None) -> Authentication | None:
        """Return what will be in force when `made` is applied. Changes nothing."""
        old = self.in_force
        waits = made is not None and made.missing is not None
        return old if waits and old is not None and old.missing is None else made

    def compile(
        self,
        loaded: Loaded,
        components: Components,
        connect: Connect,
        kept: Callable[[str], Kept],
    ) -> Authentication | None:
        """Return the verifier that a configuration describes; None if it describes none. Raises ConfigError.

        `connect` opens a pool of connections to a source of keys, `kept` returns what another worker has fetched of one.
        """
        config = loaded.config
        if components.token_services is None or not config.auth.verifies:
            return None
        # As at the top.
        from propylon.compile.authentication import compile_authentication  # noqa: PLC0415
        from propylon.proxy.authenticate.keys import UnusableKeys  # noqa: PLC0415

        try:
            return compile_authentication(
                config.auth,
                connect,
                components.token_services.revocations,
                time.time,
                debug=config.debug,
                before=self.in_force,
                pending=self.pending,
                kept=kept,
                trusted_origin=allows_credentials(config.cors),
                counts=components.metrics.tokens(),
            )
        except UnusableKeys as error:
            msg = f"with these, no published key could verify a token: {error.reason}"
            # With several entries, the message names no index: the source does not know which entry it is of.
            place = ("auth", "jwt") if config.auth.jwt.is_list else ("auth", "jwt", "algorithms")
            raise ConfigError([loaded.places.problem(place, msg)]) from error

    def apply(self, made: Authentication | None) -> None:
        """Put a verifier in force, or let it wait for its keys."""
        old = [*self.published]
        self.in_force = self.after(made)
        self.pending = None if self.in_force is made else made
        current = [*self.published]
        for published in old:
            if published not in current:
                published.close()
        # Here, and not where it is compiled: a reload may be dropped after that.
        if self.pending is not None:
            log.warning("reload: new keys are fetched first; until then tokens count as before")
            for published in self.pending.key_sets:
                published.without_keys = "tokens count as before the reload"
                published.on_change = self._swap
        # After that: a key set that both follow belongs to the verifier in force.
        if self.in_force is not None:
            for published in self.in_force.key_sets:
                published.on_change = self.in_force.verifier.forget
        for published in current:
            published.start()

    def _swap(self) -> None:
        """Put the pending verifier in force if all its keys are there."""
        made = self.pending
        if made is None or made.missing is not None:
            return
        self.apply(made)
        log.warning("reload: the new keys are in force")
        self._swapped()

    @property
    def published(self) -> Iterator[PublishedKeys]:
        """The key sets that are followed, those of a configuration that waits for its keys included."""
        for one in (self.in_force, self.pending):
            if one is not None:
                yield from one.key_sets

    def close(self) -> None:
        """Verify nothing any more, and fetch nothing."""
        self.apply(None)

    def upstreams(self) -> Iterator[Upstream]:
        """Yield what keys and answers are fetched from."""
        for one in (self.in_force, self.pending):
            if one is not None:
                yield from one.upstreams


def verifies_otherwise(new: GatewayConfig, old: GatewayConfig) -> bool:
    """Tell whether tokens are verified otherwise: CORS decides which pages may send one in a cookie."""
    return (new.auth, new.debug, new.cors) != (old.auth, old.debug, old.cors)
