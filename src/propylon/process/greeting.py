"""Say where the gateway listens, and what it found: file, services, routes, keys, and where state is kept. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from propylon.config.models.auth import AuthConfig
from propylon.config.models.endpoints import PUBLIC, REDIRECT
from propylon.config.models.jwt import JwtConfig
from propylon.config.models.listeners import Tcp
from propylon.config.models.redis_url import RedisUrl
from propylon.config.models.schema import GatewayConfig
from propylon.config.reading.load import Loaded
from propylon.process.sockets import Listening

__all__ = ["greeting"]


def greeting(
    loaded: Loaded, listeners: Iterable[Listening], place: Path | None = None
) -> Iterator[str]:
    """Yield a line for each socket; `place` is the directory that the workers share, if there is one."""
    config = loaded.config
    for listening in listeners:
        edge = listening.wanted.edge
        what = _found(loaded, place) if edge == PUBLIC else _served_on(edge, config)
        proxied = " (PROXY protocol)" if listening.wanted.proxied else ""
        for where in _places(listening):
            yield f"listening on {where}{proxied}{what}"


def _places(listening: Listening) -> Iterator[str]:
    scheme = "https" if listening.wanted.tls else "http"
    for sock in listening.sockets:
        name = sock.getsockname()
        if isinstance(name, tuple):
            yield f"{scheme}://{Tcp(name[0], name[1])}"
        else:  # a path; of a socket that was passed without one, the address as it is written
            shown = f"unix:{name}" if name else str(listening.wanted.address)
            yield f"{shown} ({scheme})"


def _served_on(edge: str, config: GatewayConfig) -> str:
    if edge == REDIRECT:
        return ", which redirects to https"
    if edge != config.admin.listen:
        return " for /metrics"
    alone = config.metrics.listen not in (None, edge)
    return " for the endpoints that want admin" + ("" if alone else " and /metrics")


def _found(loaded: Loaded, place: Path | None) -> str:
    config = loaded.config
    facts = (f"{loaded.source}: {config.size}", _verifying(config.auth), _state(config, place))
    opened = "" if loaded.path is not None else config.open_paths
    return "".join(f"; {fact}" for fact in (*facts, opened) if fact)


def _verifying(auth: AuthConfig) -> str:
    """Say what verifies tokens. A secret that was wrapped in its file would be counted as more than one."""
    found = [text for entry in auth.jwt.entries for text in _keys(entry)]
    if auth.introspection.url is not None:
        found.append(f"introspection at {_host(auth.introspection.url)}")
    if not found:
        return "nothing verifies tokens"
    *others, last = found
    many = others or last.endswith("secrets") or last.startswith("the keys")
    subject = f"{', '.join(others)} and {last}" if others else last
    return f"{subject} {'verify' if many else 'verifies'} tokens"


def _keys(entry: JwtConfig) -> Iterator[str]:
    if entry.secret:
        count = len(entry.secret)
        yield "1 secret" if count == 1 else f"{count} secrets"
    if entry.public_key is not None:
        yield "a public key"
    if (published := entry.jwks_url or entry.discovery_url) is not None:
        yield f"the keys of {_host(published)}"


def _host(url: str) -> str:
    # Without a path or a query, which may hold secrets, and without a password.
    return urlsplit(url).netloc.rpartition("@")[2]


def _state(config: GatewayConfig, place: Path | None) -> str:
    """Say where limits, breakers and registered instances are kept, and where users are."""
    redis = config.redis.address
    local = "memory" if place is None else str(place)
    kept = (
        f"state in {local}"
        if redis is None
        else f"limits in {_shown(redis)}, other state in {local}"
    )
    return f"{kept}, users in {_database(config.auth)}" if config.auth.issues else kept


def _shown(redis: RedisUrl) -> str:
    hosts = ",".join(str(Tcp(host, port)) for host, port in redis.hosts)
    return f"Redis at {redis.socket or hosts}"


def _database(auth: AuthConfig) -> str:
    url = auth.tokens.database.get_secret_value()
    scheme, _, rest = url.partition("://")
    if scheme.startswith("sqlite"):
        return rest.removeprefix("/").partition("?")[0]
    return f"PostgreSQL at {rest.partition('?')[0].rpartition('@')[2]}"
