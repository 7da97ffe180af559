"""Model how each common server reads a path, from its documentation: what must not slip past the rules of a route.

The models know nothing of the gateway. `tests/wire/test_spellings_live.py` compares those of Express, Flask, Django,
Starlette and nginx with the servers themselves.
"""

import re
from collections.abc import Callable
from urllib.parse import unquote_to_bytes

Reader = Callable[[bytes], bytes]


def merge(path: bytes) -> bytes:
    """Merge slashes."""
    return re.sub(rb"/+", b"/", path)


def express(path: bytes) -> bytes:
    """Express 4 and 5: any case, and one final slash more; escapes are decoded in parameters only."""
    return (path.removesuffix(b"/") or b"/").lower()


def flask(path: bytes) -> bytes:
    """Flask on Werkzeug's router: PATH_INFO is decoded, and slashes are merged."""
    return merge(unquote_to_bytes(path))


def django(path: bytes) -> bytes:
    """Django under WSGI: PATH_INFO is decoded, and Python's own server merges the slashes that begin a path."""
    return unquote_to_bytes(re.sub(rb"\A/+", b"/", path))


def starlette(path: bytes) -> bytes:
    """Starlette: `path` of the scope is decoded; a final slash is a redirect to the path without it."""
    return unquote_to_bytes(path).rstrip(b"/") or b"/"


def tomcat(path: bytes) -> bytes:
    """Tomcat: parameters are dropped first, then escapes decoded, then slashes merged."""
    return merge(unquote_to_bytes(re.sub(rb";[^/]*", b"", path)))


def tomcat_lenient(path: bytes) -> bytes:
    """Tomcat with allowBackslash."""
    return merge(unquote_to_bytes(re.sub(rb";[^/]*", b"", path)).replace(b"\\", b"/"))


def spring(path: bytes) -> bytes:
    """Spring 5.2: on Tomcat, with a final slash and a suffix."""
    read = tomcat(path).removesuffix(b"/") or b"/"
    return re.sub(rb"(/[^/.]+)\.[^/]*\Z", rb"\1", read)


def decoded_first(path: bytes) -> bytes:
    """A Java application behind a proxy that decodes: parameters are dropped afterwards."""
    return merge(re.sub(rb";[^/]*", b"", unquote_to_bytes(path)))


def aspnet(path: bytes) -> bytes:
    """ASP.NET Core on Kestrel: all but %2F is decoded; any case; a final slash does not count."""
    kept = re.sub(rb"%2f", b"%252f", path, flags=re.IGNORECASE)
    return (unquote_to_bytes(kept).removesuffix(b"/") or b"/").lower()


def iis(path: bytes) -> bytes:
    """Files of IIS: backslashes are slashes, and names end without dots and blanks."""
    read = merge(unquote_to_bytes(path).replace(b"\\", b"/")).rstrip(b"/") or b"/"
    return re.sub(rb"[. ]+(?=/|\Z)", b"", read).lower()


def nginx(path: bytes) -> bytes:
    """Nginx `location`: decoded, slashes merged."""
    return merge(unquote_to_bytes(path))


def rewritten(path: bytes) -> bytes:
    """A rewrite that decodes before it looks for the query."""
    return re.split(rb"[?#]", unquote_to_bytes(path), maxsplit=1)[0]


def symfony(path: bytes) -> bytes:
    """Symfony and Laravel on PHP-FPM: the front controller may stand before the path."""
    return unquote_to_bytes(path.removeprefix(b"/index.php")) or b"/"


def go(path: bytes) -> bytes:
    """Go's ServeMux: URL.Path is decoded, and cleaned by a redirect."""
    return merge(unquote_to_bytes(path))


def rails(path: bytes) -> bytes:
    """Rails: slashes are squeezed, the last one is dropped, and a format may follow."""
    read = merge(path).rstrip(b"/") or b"/"
    return re.sub(rb"(/[^/]*[^/.][^/]*)\.[^/.?]+\Z", rb"\1", read)


READERS: dict[str, Reader] = {
    reader.__name__: reader
    for reader in (
        express,
        flask,
        django,
        starlette,
        tomcat,
        tomcat_lenient,
        spring,
        decoded_first,
        aspnet,
        iis,
        nginx,
        rewritten,
        symfony,
        go,
        rails,
    )
}

# Spellings of /admin, and of a name in the middle of a path: `{}` stands for what the path is.
SPELLINGS = [
    "{}", "{}/", "{}//", "/{}", "//{}", "/.{}", "{}%2f", "{}%2F/", "/%2f{}", "{}.", "{}..", "{}%20", "{}%20.", "{}%23",
    "{}%23x", "{}%3f", "{}%3fx", "{};", "{};x", "{};%2fx", "{};x%2fy", "{};\\x", "{}%3b", "{}%3bx", "/;x{}", "{};x/",
    "{}\\", "\\{}", "{}%5c", "/%5c{}", "{}.json", "{}.html/", "{}.a.b", "/index.php{}", "/index.php/{}", "{}.php/x",
    "{};/", "{}/;x", "{}%2f;x", "{};x%2f", "{}%20/", "{}./", "{}/.json", "{}%2ejson", "{}%2e",
]  # fmt: skip


def spellings(path: str) -> list[str]:
    """Spell a path in every way that some server merges, plainly, in capitals and with an escape."""
    first = f"/%{ord(path[1]):02x}{path[2:]}"
    plain = [
        spelling.format(each) for spelling in SPELLINGS for each in (path, path.upper(), first)
    ]
    return list(dict.fromkeys(each.replace("///", "//") for each in plain))
