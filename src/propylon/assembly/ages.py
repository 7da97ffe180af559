"""Tell how old what this worker knows is: the published keys, the list of revoked tokens, discovered instances."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from propylon.assembly.components import Components
from propylon.assembly.membership import Membership
from propylon.assembly.verification import Verification
from propylon.telemetry.families import DISCOVERY_UP, KEY_SET_AGE, REVOCATION_LAG
from propylon.telemetry.metrics import Measured

__all__ = ["ages_of", "without_secrets"]


def ages_of(
    components: Components, verification: Verification, membership: Membership
) -> Callable[[], Iterator[Measured]]:
    """Return what measures the ages at each look."""

    def measure() -> Iterator[Measured]:
        for keys in verification.published:
            if keys.age is not None and isinstance(keys.origin, tuple):
                yield KEY_SET_AGE, (
                    without_secrets(str(keys.origin[0] or keys.origin[1])),
                ), keys.age
        services = components.token_services
        if services is not None and services.lag is not None:
            yield REVOCATION_LAG, (), services.lag
        for source, up in membership.sources:
            yield DISCOVERY_UP, (source,), float(up)

    return measure


def without_secrets(url: str) -> str:
    """Return a URL without what may be a secret: user, password, query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
