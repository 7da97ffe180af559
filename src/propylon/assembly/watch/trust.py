"""Tell of the certificates that clients see, and of the key sets that tokens are verified with: names, dates and ages."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from propylon.assembly.ages import without_secrets
from propylon.config.models.schema import GatewayConfig

if TYPE_CHECKING:  # they load cryptography, which only a gateway that verifies tokens needs
    from propylon.compile.authentication import Authentication

__all__ = ["Trust", "certificates", "key_sets"]

_EVERY = 60.0  # seconds: a file that was replaced is shown a minute later
_NAMES = 4  # of a certificate


class Trust:
    """What is known of both; files are read once a minute, while somebody looks."""

    def __init__(
        self,
        config: Callable[[], GatewayConfig],
        authentication: Callable[[], Authentication | None],
    ) -> None:
        """Tell of what these return when they are asked."""
        self._config = config
        self._authentication = authentication
        self._read = -_EVERY
        self._certificates: dict[str, Any] = {}

    async def __call__(self) -> Mapping[str, dict[str, Any]]:
        """Return the sections `certificates` and `key_sets`."""
        now = time.monotonic()
        if now - self._read >= _EVERY:
            self._read = now
            pairs = [pair.certificate for pair in self._config().tls.pairs]
            found = await asyncio.to_thread(lambda: dict(certificates(pairs))) if pairs else {}
            self._certificates = found
        return {
            "certificates": self._certificates,
            "key_sets": dict(key_sets(self._authentication())),
        }


def certificates(paths: list[str]) -> Iterator[tuple[str, Any]]:
    """Yield each file, with the names and the dates of its certificate; or why it cannot be read."""
    from cryptography import x509  # noqa: PLC0415 — it takes a while to load

    for path in paths:
        try:
            found = x509.load_pem_x509_certificates(Path(path).read_bytes())[0]
        except (OSError, ValueError) as error:
            yield path, {"file": path, "error": type(error).__name__}
            continue
        yield (
            path,
            {
                "file": path,
                "names": [*_names(found)][:_NAMES],
                "begins": found.not_valid_before_utc.timestamp(),
                "ends": found.not_valid_after_utc.timestamp(),
            },
        )


def _names(certificate: Any) -> Iterator[str]:
    from cryptography import x509  # noqa: PLC0415 — as above

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        yield certificate.subject.rfc4514_string()
    else:
        yield from names.get_values_for_type(x509.DNSName)
        yield from map(str, names.get_values_for_type(x509.IPAddress))


def key_sets(authentication: Authentication | None) -> Iterator[tuple[str, Any]]:
    """Yield each published key set: where it is, when it was fetched, and whether the last attempt failed."""
    for keys in () if authentication is None else authentication.key_sets:
        origin = keys.origin if isinstance(keys.origin, tuple) else ()
        url = next((str(part) for part in origin if part), "")
        place = without_secrets(url)
        yield (
            place,
            {
                "source": place,
                "fetched": None if keys.age is None else time.time() - keys.age,
                "failing": keys.is_failing,
                "has_keys": keys.keys is not None,
            },
        )
