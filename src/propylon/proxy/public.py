"""Put the public address into an answer: an upstream knows its own host and its own paths, and no client can use those.

    Location: http://orders:8000/items/?a=1   →   Location: /shop/items/?a=1

Facts. A framework that redirects `/items` to `/items/` names the Host that it was asked for, and the path that it saw. A
browser that follows goes to a host that it cannot reach, or asks another route.

Rules.

1. Only addresses of the instance itself are changed: its host, or a path alone. Those of other hosts are left.
2. The result is a path alone. The client chooses the Host header, and a cache would keep what one client wrote into it for
   others. Scheme and host are written only where the operator vouches for them: `server.public_url`, or the route's `hosts`.
3. A path that begins with the public prefix is left: the upstream knows its prefix from X-Forwarded-Prefix.

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from propylon.wire.grammar import HOST, OWS, REFERENCE

__all__ = ["Public", "Site"]

# `5; url="/x"`; browsers take a comma, too, and no `url=`.
_REFRESH = re.compile(
    rb"(?P<lead>[0-9.]+[ \t]*[;,][ \t]*(?:url[ \t]*=[ \t]*)?)(?P<quote>[\"']?)(?P<url>[^\"']*)(?P=quote)",
    re.IGNORECASE,
)
# A `<` in a quoted parameter begins no link.
_LINK = re.compile(rb'"(?:\\.|[^"\\])*"?|<(?P<url>[^<>]*)>')
# `//host` is another host (RFC 3986, 4.2), and browsers read a backslash as a slash (WHATWG URL, 4.4).
_NETWORK_PATH = re.compile(rb"/[/\\]+")
# RFC 9110, 4.2.
_DEFAULT_PORTS = {b"http": 80, b"https": 443}
# RFC 6265bis, 4.1.3.2: such a cookie is refused unless its path is `/` and it has no domain.
_HOST_COOKIE = b"__host-"

Change = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Site:
    """Where an answer comes from, and by which address the client knows that place.

    The upstream's paths below `base` are the public ones below `prefix`; both are without a final slash. `hosts` are the
    authorities of the instance; `origin` is the public `scheme://host`, empty where the operator vouches for none.
    """

    hosts: tuple[bytes, ...]
    base: bytes
    prefix: bytes
    origin: bytes = b""

    def reference(self, text: bytes) -> bytes:
        """Return a URI reference (RFC 3986, 4.1) as the client can use it."""
        match = REFERENCE.fullmatch(text)
        if match is None:
            return text
        scheme, authority, path, rest = match.groups()
        if authority is None:
            usable = scheme is None and path.startswith(b"/")  # others are relative to the request
            return self.path(path) + rest if usable else text
        if (scheme is not None and scheme.lower() not in _DEFAULT_PORTS) or not self._is_own(
            scheme, authority
        ):
            return text
        public = _NETWORK_PATH.sub(b"/", self.path(path or b"/"), count=1)
        return self.origin + public + rest

    def path(self, path: bytes) -> bytes:
        """Return the public path of one of the upstream's."""
        known = _is_below(path, self.prefix) and bool(self.prefix)
        if known and len(self.prefix) >= len(self.base):
            return path
        if _is_below(path, self.base):
            return self.prefix + path[len(self.base) :] or b"/"
        return path

    def cookie_path(self, path: bytes) -> bytes:
        """Return the public path of a cookie: all of the upstream is all of the route."""
        if not path.startswith(b"/"):
            return path
        if _is_below(self.base, path.rstrip(b"/")):
            return self.prefix or b"/"
        return self.path(path)

    def owns_domain(self, domain: bytes) -> bool:
        """Tell whether the domain of a cookie is the host of the instance, or one above it."""
        wanted = domain.lower().removeprefix(b".")
        names = [authority[0] for authority in map(_split, self.hosts) if authority is not None]
        return any(name == wanted or name.endswith(b"." + wanted) for name in names)

    def _is_own(self, scheme: bytes | None, authority: bytes) -> bool:
        found = _split(authority)
        if found is None:
            return False
        name, port = found
        if port is None and scheme is not None:
            port = _DEFAULT_PORTS[scheme.lower()]
        for own in map(_split, self.hosts):
            # A service behind its own TLS may not know that it is reached by https: a host without a port is both.
            if own is not None and own[0] == name and (own[1] == port or _is_default(own, port)):
                return True
        return False


def _is_default(own: tuple[bytes, int | None], port: int | None) -> bool:
    return own[1] is None and (port is None or port in _DEFAULT_PORTS.values())


def _split(authority: bytes) -> tuple[bytes, int | None] | None:
    """Return name and port of an authority; None if it is none, or has userinfo."""
    match = HOST.fullmatch(authority)
    if match is None or b"@" in authority:
        return None
    return match["name"].lower().removesuffix(b"."), int(match["port"]) if match["port"] else None


def _is_below(path: bytes, above: bytes) -> bool:
    """Tell whether a path is another one, or below it, by whole segments."""
    return path == above or path.startswith(above + b"/")


@dataclass(frozen=True, slots=True)
class Public:
    """What of an answer is changed.

    - `redirects`: the addresses in Location, Content-Location, Refresh and Link.
    - `origin`: `scheme://host` of `server.public_url`, empty without one.
    - `cookie_path`: the path of a cookie.
    - `cookie_domain`: its domain: None, as sent; empty, that of the instance is taken away; else the domain to write.
    """

    redirects: bool = True
    origin: bytes = b""
    cookie_path: bool = False
    cookie_domain: bytes | None = None

    @property
    def maps_cookies(self) -> bool:
        """Whether anything in a cookie is changed."""
        return self.cookie_path or self.cookie_domain is not None

    def apply(self, block: bytes, site: Site) -> bytes:
        """Return the block of an answer with its addresses as the client knows them."""
        changes = self._changes(site)
        lines = block.split(b"\r\n")
        for at, line in enumerate(lines):
            name, colon, value = line.partition(b":")
            change = changes.get(name.lower())
            if change is None:
                continue
            changed = change(value.strip(OWS))
            if changed != value.strip(OWS):
                lines[at] = b"%b%b %b" % (name, colon, changed)
        return b"\r\n".join(lines)

    def _changes(self, site: Site) -> dict[bytes, Change]:
        changes: dict[bytes, Change] = {}
        if self.redirects:
            changes[b"location"] = changes[b"content-location"] = site.reference
            changes[b"refresh"] = lambda value: _refreshed(value, site)
            changes[b"link"] = lambda value: _linked(value, site)
        if self.maps_cookies:
            changes[b"set-cookie"] = lambda value: self._cookie(value, site)
        return changes

    def _cookie(self, value: bytes, site: Site) -> bytes:
        if value.lower().startswith(_HOST_COOKIE):
            return value
        first, *attributes = value.split(b";")
        kept = [self._attribute(attribute, site) for attribute in attributes]
        return b";".join([first, *(attribute for attribute in kept if attribute is not None)])

    def _attribute(self, attribute: bytes, site: Site) -> bytes | None:
        """Return an attribute of a cookie as the client gets it; None if it is taken away."""
        name, _, value = attribute.partition(b"=")
        value = value.strip(OWS)
        kind = name.strip(OWS).lower()
        if kind == b"path" and self.cookie_path:
            return b"%b=%b" % (name, site.cookie_path(value))
        if kind != b"domain" or self.cookie_domain is None:
            return attribute
        if self.cookie_domain:
            return b"%b=%b" % (name, self.cookie_domain)
        return None if site.owns_domain(value) else attribute


def _refreshed(value: bytes, site: Site) -> bytes:
    match = _REFRESH.fullmatch(value)
    if match is None:
        return value
    return b"%b%b%b%b" % (
        match["lead"],
        match["quote"],
        site.reference(match["url"]),
        match["quote"],
    )


def _linked(value: bytes, site: Site) -> bytes:
    def change(match: re.Match[bytes]) -> bytes:
        url: bytes | None = match["url"]
        return match[0] if url is None else b"<%b>" % site.reference(url)

    return _LINK.sub(change, value)
