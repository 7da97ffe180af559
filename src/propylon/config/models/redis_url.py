"""Read the URL of Redis or Valkey: one server, a socket, Sentinel or Cluster. Pure.

No message quotes a part of the URL: a password with an unescaped `@`, `/`, `?` or `#` shifts the parts, so any of them
may be a piece of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qsl, unquote

from propylon.config.models.syntax import check_hostname, check_port

__all__ = ["FORMS", "RedisUrl", "parse_redis_url"]

Kind = Literal["server", "socket", "sentinel", "cluster"]

FORMS = (
    "redis://host:6379/0, rediss://host:6379 (TLS), unix:///run/redis.sock,"
    " redis+sentinel://host:26379,host:26379/0?master=NAME or redis+cluster://host:6379,host:6379"
)
_KINDS: Mapping[str, tuple[Kind, bool]] = {
    "redis": ("server", False),
    "rediss": ("server", True),
    "unix": ("socket", False),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
}
_URL = re.compile(
    r"(?P<scheme>[a-z+]+)://(?:(?P<login>[^@/?#]*)@)?(?P<hosts>[^@/?#]*)"
    r"(?P<path>/[^?#]*)?(?:\?(?P<query>[^#]*))?"
)
_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\[\]:]+)(?::(?P<port>[0-9]{1,5}))?")
_DATABASE = re.compile(r"[0-9]{1,5}")
_TRUTHS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
# The names that redis-py gives them: such URLs are handed out by hosting providers and copied between programs.
_OF_TLS = frozenset(
    {"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname"}
)
_OF_SENTINEL = frozenset({"master", "sentinel_username", "sentinel_password"})
_PORTS: Mapping[Kind, int] = {"server": 6379, "socket": 0, "sentinel": 26379, "cluster": 6379}


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """The parts of the URL. `hosts` are those of the Sentinels, or of any nodes of the Cluster, where it is one."""

    kind: Kind
    hosts: tuple[tuple[str, int], ...] = ()
    socket: str = ""
    tls: bool = False
    user: str = ""
    password: str = field(default="", repr=False)
    database: int = 0
    master: str = ""
    sentinel_user: str = ""
    sentinel_password: str = field(default="", repr=False)
    ca: str = ""
    certificate: str = ""
    key: str = ""
    verify: bool = True
    check_hostname: bool = True


def parse_redis_url(text: str) -> RedisUrl:
    """Return the parts of the URL. Raises ValueError."""
    match = _URL.fullmatch(text)
    if match is None or match["scheme"] not in _KINDS or not text.isprintable() or " " in text:
        msg = f"must be a URL such as {FORMS}; in a user or password, write @ / ? # as %40 %2F %3F %23"
        raise ValueError(msg)
    kind, tls = _KINDS[match["scheme"]]
    user, _, password = (match["login"] or "").partition(":")
    query = _query(match["query"] or "", _allowed(kind, tls=tls))
    path = match["path"] or ""
    return RedisUrl(
        kind,
        hosts=() if kind == "socket" else _hosts(match["hosts"], kind),
        socket=_socket(match["hosts"], path) if kind == "socket" else "",
        tls=tls,
        user=unquote(user),
        password=unquote(password),
        database=_database(kind, path, query),
        master=_master(kind, query),
        sentinel_user=query.get("sentinel_username", ""),
        sentinel_password=query.get("sentinel_password", ""),
        ca=query.get("ssl_ca_certs", ""),
        certificate=query.get("ssl_certfile", ""),
        key=query.get("ssl_keyfile", ""),
        verify=_verifies(query),
        check_hostname=_truth(query, "ssl_check_hostname"),
    )


def _allowed(kind: Kind, *, tls: bool) -> frozenset[str]:
    found = frozenset() if kind == "cluster" else frozenset({"db"})
    return (
        found | (_OF_TLS if tls else frozenset()) | (_OF_SENTINEL if kind == "sentinel" else set())
    )


def _query(text: str, allowed: frozenset[str]) -> dict[str, str]:
    pairs = parse_qsl(text, keep_blank_values=True)
    names = [name for name, _ in pairs]
    # What another client reads there (a timeout, the size of its pool) would be passed over in silence.
    if not allowed.issuperset(names) or len(set(names)) != len(names):
        known = ", ".join(sorted(allowed)) or "none"
        msg = (
            f"has an unknown or repeated parameter after the ?; known for this kind of URL: {known}"
        )
        raise ValueError(msg)
    return dict(pairs)


def _hosts(text: str, kind: Kind) -> tuple[tuple[str, int], ...]:
    parts = text.split(",")
    if len(parts) > 1 and kind == "server":
        msg = "names several hosts; write redis+sentinel:// or redis+cluster:// for them"
        raise ValueError(msg)
    return tuple(_host(part, _PORTS[kind]) for part in parts)


def _host(text: str, default: int) -> tuple[str, int]:
    host, port = _parts(text)
    try:
        return check_hostname(host).strip("[]"), check_port(port) if port else default
    except ValueError:  # its message quotes what may be a piece of the password
        msg = "has a host that is none: write a name or an address, and a port from 1 to 65535"
        raise ValueError(msg) from None


def _parts(text: str) -> tuple[str, str]:
    match = _HOST.fullmatch(text)
    return ("", "") if match is None else (match["host"], match["port"] or "")


def _socket(hosts: str, path: str) -> str:
    found = unquote(path)
    if hosts or len(found) < 2 or "\0" in found:
        msg = "must name the file of the socket after three slashes: unix:///run/redis.sock"
        raise ValueError(msg)
    return found


def _database(kind: Kind, path: str, query: Mapping[str, str]) -> int:
    written = "" if kind == "socket" else path.strip("/")
    if written and "db" in query:
        msg = "names the database twice: after the host, and as db; write one of them"
        raise ValueError(msg)
    text = query.get("db", "") or written or "0"
    if not _DATABASE.fullmatch(text):
        msg = "must end in the number of a database, such as /0"
        raise ValueError(msg)
    if kind == "cluster" and int(text):
        msg = "must not name a database: a Cluster has only number 0"
        raise ValueError(msg)
    return int(text)


def _master(kind: Kind, query: Mapping[str, str]) -> str:
    name = query.get("master", "")
    if kind == "sentinel" and not name:
        msg = "must say which master the Sentinels watch: ?master=NAME"
        raise ValueError(msg)
    return name


def _verifies(query: Mapping[str, str]) -> bool:
    written = query.get("ssl_cert_reqs", "required")
    if written not in {"required", "none"}:
        msg = "must have ssl_cert_reqs=required (the default) or ssl_cert_reqs=none"
        raise ValueError(msg)
    return written == "required"


def _truth(query: Mapping[str, str], name: str) -> bool:
    found = _TRUTHS.get(query.get(name, "true").lower())
    if found is None:
        msg = f"must have {name}=true (the default) or {name}=false"
        raise ValueError(msg)
    return found
