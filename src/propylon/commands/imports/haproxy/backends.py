"""Backends as services: servers, balance, checks, cookies, timeouts."""

from __future__ import annotations

import re
from typing import Any

from propylon.commands.imports.draft import Draft
from propylon.commands.imports.haproxy.syntax import Line, Section
from propylon.commands.imports.parts import Part, Variable
from propylon.commands.imports.rates import duration, seconds_of

__all__ = ["milliseconds", "write_service"]

_BALANCE = {
    "roundrobin": "round_robin", "static-rr": "round_robin", "leastconn": "least_connections", "random": "random",
}  # fmt: skip
_STATUS = re.compile(r"[1-5]\d\d(?:-[1-5]\d\d)?")
_TEMPLATE = re.compile(r"(?P<host>[A-Za-z0-9_.-]+):(?P<port>\d+)")
_VALUED = frozenset(
    [
        "inter",
        "fastinter",
        "downinter",
        "rise",
        "fall",
        "weight",
        "maxconn",
        "cookie",
        "init-addr",
        "resolvers",
        "resolve-prefer",
        "resolve-opts",
        "ca-file",
        "verify",
        "sni",
        "port",
        "addr",
        "slowstart",
        "crt",
        "id",
        "alpn",
        "proto",
        "minconn",
        "maxqueue",
        "observe",
        "error-limit",
        "on-error",
        "on-marked-down",
        "on-marked-up",
        "check-sni",
        "check-alpn",
        "source",
        "pool-max-conn",
        "pool-purge-delay",
        "verifyhost",
    ]
)


def milliseconds(text: str) -> float | None:
    """Return seconds for a time of HAProxy; a bare number is milliseconds."""
    return int(text) / 1000 if text.isdecimal() else seconds_of(text)


def write_service(section: Section, draft: Draft) -> Part:
    """Write the service of a backend."""
    part = draft.service(section.name, section.at)
    part.put("host", "client")
    _servers(section, part)
    _balance(section, part)
    _health(section, part)
    _cookie(section, part)
    _times(section, part)
    return part


def _servers(section: Section, part: Part) -> None:
    lines = section.all("server")
    instances: list[Any] = []
    options = [_options(line.words[3:]) for line in lines]
    default = section.last("default-server")
    common = _options(default.args) if default else {}
    for line, own in zip(lines, options, strict=True):
        both = {**common, **own}
        if len(line.words) < 3 or "disabled" in both:
            part.differs(line.at, "it is disabled, and left out")
            continue
        keys: dict[str, Any] = {"url": _url(line.words[2], both)}
        weight = both.get("weight", "1")
        if weight.isdecimal() and weight not in ("1", "0"):
            keys["weight"] = int(weight)
        if weight == "0":
            part.differs(line.at, "its weight is 0, and it is left out")
            continue
        if "backup" in both:
            keys["priority"] = -1
        instances.append(keys if len(keys) > 1 else keys["url"])
    instances += _templates(section, part, common, options)
    if not instances:
        part.lost(section.at, "no server that is up", "write url")
    elif len(instances) == 1 and isinstance(instances[0], str):
        part.set("url", instances[0], lines[0].at if lines else section.at)
    else:
        part.set("instances", instances, lines[0].at if lines else section.at)
    _limits(section, part, [{**common, **own} for own in options])


def _templates(
    section: Section, part: Part, common: dict[str, str], options: list[dict[str, str]]
) -> list[Any]:
    """Write server-template: propylon asks for all addresses of a name by itself."""
    made: list[Any] = []
    for line in section.all("server-template"):
        found = _TEMPLATE.fullmatch(line.words[3]) if len(line.words) > 3 else None
        if found is None:
            part.lost(line.at, "a name that begins with _ or has no port", "write url")
            continue
        own = {**common, **_options(line.words[4:])}
        options.append(own)
        made.append(_url(f"{found['host']}:{found['port']}", own))
        part.differs(
            line.at,
            "all addresses that the name has are used; the number of them, and resolvers, have no counterpart",
        )
    return made


def _limits(section: Section, part: Part, options: list[dict[str, str]]) -> None:
    most = [one["maxconn"] for one in options if one.get("maxconn", "").isdecimal()]
    if most:
        said = "requests in hand, for each worker"
        if len(set(most)) > 1 or len(most) < len(options):
            said += "; the lowest number counts for all instances"
        part.set("max_in_flight", min(int(text) for text in most), section.at, said)
        if (waits := section.last("timeout", "queue")) and (seconds := milliseconds(waits.end)):
            part.set("queue.timeout", duration(seconds), waits.at)
    slow = next((one["slowstart"] for one in options if "slowstart" in one), "")
    if slow and (seconds := milliseconds(slow)):
        part.set("slow_start", duration(seconds), section.at)
    if any(one.get("verify") == "none" for one in options):
        part.differs(
            section.at, "propylon verifies the certificate; services.X.tls.ca names who signs it"
        )
    authorities = {one["ca-file"] for one in options if one.get("ca-file", "@")[:1] != "@"}
    if len(authorities) == 1:
        part.set("tls.ca", authorities.pop(), section.at)
    for one in options:
        for name in one:
            if name in ("send-proxy", "send-proxy-v2"):
                part.set("proxy_protocol", "v1" if name == "send-proxy" else "v2", section.at)


def _options(words: tuple[str, ...]) -> dict[str, str]:
    """Return what stands behind a server's address; switches are empty texts."""
    found: dict[str, str] = {}
    at = 0
    while at < len(words):
        word = words[at]
        valued = word in _VALUED and at + 1 < len(words)
        found[word] = words[at + 1] if valued else ""
        at += 1 + valued
    return found


def _url(address: str, options: dict[str, str]) -> str:
    plain = address.removeprefix("ipv4@").removeprefix("ipv6@")
    for begin in ("unix@", "/"):
        if plain.startswith(begin):
            return f"unix:{plain.removeprefix('unix@')}"
    scheme = "https" if "ssl" in options else "http"
    return f"{scheme}://{plain}"


def _balance(section: Section, part: Part) -> None:
    line = section.last("balance")
    section.all("hash-type")
    if line is None or not line.args:
        return
    kind = line.first
    if kind in _BALANCE:
        part.set("balance", _BALANCE[kind], line.at)
    elif kind == "source":
        part.set("balance", {"hash": "ip"}, line.at, "another hash function")
    elif kind == "url_param" and len(line.args) > 1:
        part.set("balance", {"hash": f"query:{line.args[1]}"}, line.at, "another hash function")
    elif found := re.fullmatch(r"hdr\(([\w-]+)\)", kind):
        part.set("balance", {"hash": f"header:{found[1]}"}, line.at, "another hash function")
    else:
        part.lost(line.at, f"balance {kind}", "look at services.X.balance")


def _health(section: Section, part: Part) -> None:
    checks = section.all("http-check")
    lines = [*section.all("server"), *section.all("server-template")]
    default = section.last("default-server")
    options = [
        {**(_options(default.args) if default else {}), **_options(line.words[3:])}
        for line in lines
    ]
    if not any("check" in one for one in options):
        return
    probe = section.last("option", "httpchk")
    keys: dict[str, Any] = {"type": "http" if probe else "tcp"}
    if probe:
        keys |= _request(probe, checks, part)
        keys.setdefault("status", "200-399")
    first = options[0]
    inter = milliseconds(first.get("inter", "2s"))
    keys["interval"] = duration(inter or 2)
    keys["timeout"] = duration(min(inter or 2, 10))
    keys["healthy_after"] = _count(first.get("rise", ""), 2)
    keys["unhealthy_after"] = _count(first.get("fall", ""), 3)
    if first.get("port", "").isdecimal():
        keys["port"] = int(first["port"])
    if waits := section.last("timeout", "check"):
        keys["timeout"] = duration(milliseconds(waits.end) or 2)
    part.set("health", keys, probe.at if probe else section.at)


def _count(text: str, default: int) -> int:
    return int(text) if text.isdecimal() else default


def _request(probe: Line, checks: list[Line], part: Part) -> dict[str, Any]:
    """Return method, path, headers and what is expected."""
    words = [word for word in probe.args[1:] if not word.startswith("HTTP/")]
    keys: dict[str, Any] = {"path": words[-1] if words else "/"}
    keys["method"] = words[0] if len(words) > 1 else "OPTIONS"
    headers: dict[str, str] = {}
    for line in checks:
        kind, rest = line.first, line.args[1:]
        if kind == "expect":
            if not _expected(rest, keys):
                part.lost(line.at, f"expect {' '.join(rest)}", "write health.status or health.body")
        elif kind == "send":
            _sent(rest, keys, headers)
        elif kind != "disable-on-404":
            part.lost(line.at, f"http-check {kind}", "look at services.X.health")
    for name in [name for name in headers if name.lower() == "host"]:
        keys["host"] = headers.pop(name)
    if headers:
        keys["headers"] = headers
    return keys


def _sent(rest: tuple[str, ...], keys: dict[str, Any], headers: dict[str, str]) -> None:
    """Read what a probe sends."""
    for number, word in enumerate(rest[:-1]):
        if word == "meth":
            keys["method"] = rest[number + 1]
        elif word == "uri":
            keys["path"] = rest[number + 1]
        elif word == "hdr" and number + 2 < len(rest):
            headers[rest[number + 1]] = rest[number + 2]


def _expected(rest: tuple[str, ...], keys: dict[str, Any]) -> bool:
    kind, value = (*rest, "", "")[:2]
    if kind == "status" and (values := value.split(",")) and all(map(_STATUS.fullmatch, values)):
        keys["status"] = [int(one) if one.isdecimal() else one for one in values]
        return True
    if kind == "string":
        keys["body"] = re.escape(value)
        return True
    if kind == "rstring":
        keys["body"] = value
        return True
    return False


def _cookie(section: Section, part: Part) -> None:
    line = section.last("cookie")
    if line is None:
        return
    name, options = line.first, line.args[1:]
    if "insert" not in options:
        part.lost(line.at, "a cookie of the service itself", "look at services.X.sticky")
        return
    keys: dict[str, Any] = {"cookie": name, "secret": Variable("${STICKY_SECRET}")}
    if "httponly" in options:
        keys["http_only"] = True
    if "secure" in options:
        keys["secure"] = True
    if "maxlife" in options[:-1]:
        seconds = milliseconds(options[options.index("maxlife") + 1]) or 0
        keys["max_age"] = duration(seconds)
    part.set(
        "sticky", keys, line.at, "the cookie is signed, so the ones that clients have do not count"
    )


def _times(section: Section, part: Part) -> None:
    for theirs, ours in (("connect", "connect"), ("server", "first_byte")):
        line = section.last("timeout", theirs)
        seconds = milliseconds(line.end) if line else None
        if line is None or not seconds:
            continue
        part.set(f"timeouts.{ours}", duration(seconds), line.at)
        if ours == "first_byte":
            part.put("timeouts.idle", duration(seconds))
            part.put("timeouts.total", duration(max(60, seconds * 2)))
    retries = section.last("retries")
    if retries and retries.first.isdecimal():
        said = "attempts count the first one, too; propylon also retries answers 502 to 504, see retry.on"
        part.set("retry.attempts", int(retries.first) + 1, retries.at, said)
    on = section.last("retry-on")
    if on:
        part.differs(on.at, "look at retry.on")
