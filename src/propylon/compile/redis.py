"""Compile the section `redis` into where Redis is and how to log in."""

from __future__ import annotations

import ssl

from propylon.config.models.redis import RedisConfig
from propylon.config.models.redis_url import RedisUrl
from propylon.stores.redis.target import Address, Login, Target

__all__ = ["UnusableRedis", "compile_redis"]


class UnusableRedis(Exception):
    """A file that the URL names cannot be used; the message says which, and why."""


def compile_redis(config: RedisConfig) -> Target | None:
    """Return where Redis is; None: there is none. Raises UnusableRedis."""
    url = config.address
    if url is None:
        return None
    return Target(
        url.kind,
        _addresses(url),
        Login(url.user, url.password, url.database),
        tls=_tls(url) if url.tls else None,
        master=url.master,
        sentinel_login=_sentinel_login(url),
        namespace=config.namespace,
        timeout=config.timeout,
    )


def _addresses(url: RedisUrl) -> tuple[Address, ...]:
    if url.kind == "socket":
        return (Address(path=url.socket),)
    return tuple(Address(host, port) for host, port in url.hosts)


def _sentinel_login(url: RedisUrl) -> Login:
    # Not the password of the data: Sentinels have none by default, and would answer AUTH with an error.
    return Login(url.sentinel_user, url.sentinel_password)


def _tls(url: RedisUrl) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=url.ca or None)
    except (OSError, ValueError) as error:
        msg = "ssl_ca_certs"
        raise _unusable(msg, error) from error
    context.check_hostname = url.verify and url.check_hostname
    context.verify_mode = ssl.CERT_REQUIRED if url.verify else ssl.CERT_NONE
    if url.certificate:
        try:
            context.load_cert_chain(url.certificate, url.key or None)
        except (OSError, ValueError) as error:
            msg = "ssl_certfile, or ssl_keyfile,"
            raise _unusable(msg, error) from error
    return context


def _unusable(name: str, error: Exception) -> UnusableRedis:
    reason = getattr(error, "strerror", None) or getattr(error, "reason", None) or "no PEM"
    return UnusableRedis(f"the file of {name} cannot be used: {str(reason).lower()}")
