r"""List how the common servers merge spellings of a path, and read a path in each of these ways. Pure.

Facts. The gateway forwards a path as the client sent it, byte for byte. An upstream may read it as another one: Express
reads `/ADMIN` and `/admin/` as `/admin`, Tomcat drops `;x` from a segment, WSGI servers decode `%2F`, nginx merges `//`.
So `/admin/` may reach what only the rules of `/admin` protect.

Rules.

1. `RULES` is the whole list, each rule with the servers that have it and its source. A rule that is not in it does not
   exist for the gateway. `tests/wire/test_spellings_live.py` asks the real servers.
2. A server has some of the rules and not others. Each rule is therefore optional, and a path has a set of readings.
   One reading with all rules applied would not do: `/teams/;a/KEYS` is `/teams/keys` to a server that drops `;a`, and
   `/teams/{team}/keys` to Express, which does not.
3. The rules stand in the order in which servers apply them. `;` stands twice: Tomcat drops it before it decodes, and
   servers that first decode drop it afterwards, so `/admin;%2fx` is `/admin` to one and `/admin/x` to the other.
4. Escapes are decoded once. None of these servers decodes twice (IIS refuses it: `allowDoubleEscaping`), and an id with
   a literal `%61` in it must stay what it is.

Normalizing the path instead would break signatures of URLs, and identifiers with `%2F` in them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from propylon.errors import InvalidRequest
from propylon.wire.grammar import BAD_ESCAPE

__all__ = ["FORMS", "RULES", "Rule", "begins_query", "fold", "forms", "is_plain", "readings"]

Read = Callable[[bytes], Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class Rule:
    """A way in which servers merge spellings: which servers, by what source, and an example.

    `read` returns the other readings of a path. If `mark` is not found in a path, sent and decoded, there are none, whatever
    the rules before it do. `sent` is a spelling of `meant`.
    """

    name: str
    read: Read
    mark: re.Pattern[bytes]
    servers: str
    source: str
    sent: bytes
    meant: bytes


# RFC 3986, 3.3 calls `;x` the parameters of a segment.
_PARAMETER = re.compile(rb";[^/]*")
_PARAMETER_OR_BACKSLASH = re.compile(rb";[^/\\]*")
_ENCODED_SLASH = re.compile(rb"%2f", re.IGNORECASE)
_SLASHES = re.compile(rb"/{2,}")
_BLANK_END = re.compile(rb"[. ]+(?=/|\Z)")
_SCRIPT = re.compile(rb"/[^/]*\.php(?=/)")
# Dots of a name at which a format may begin. A route's name has fewer; without a bound a name of dots is an attack.
_MOST_DOTS = 8


def _without_parameters(path: bytes) -> Iterable[bytes]:
    # A server that takes a backslash for a slash ends the parameters there.
    return _PARAMETER.sub(b"", path), _PARAMETER_OR_BACKSLASH.sub(b"", path)


def _decoded(path: bytes) -> Iterable[bytes]:
    # All escapes, or all but the slash, which stays a part of its segment then.
    yield unquote_to_bytes(path)
    if _ENCODED_SLASH.search(path):
        yield unquote_to_bytes(_ENCODED_SLASH.sub(b"%252f", path))


def _without_query(path: bytes) -> Iterable[bytes]:
    return (re.split(rb"[?#]", path, maxsplit=1)[0],)


def _turned(path: bytes) -> Iterable[bytes]:
    return (path.replace(b"\\", b"/"),)


def _trimmed(path: bytes) -> Iterable[bytes]:
    return (_BLANK_END.sub(b"", path),)


def _merged(path: bytes) -> Iterable[bytes]:
    return (_SLASHES.sub(b"/", path),)


def _without_script(path: bytes) -> Iterable[bytes]:
    script = _SCRIPT.search(path)
    return () if script is None else (_SCRIPT.sub(b"", path), path[: script.end()])


def _without_final_slash(path: bytes) -> Iterable[bytes]:
    return (path.rstrip(b"/") or b"/",)


def _without_format(path: bytes) -> Iterable[bytes]:
    begin = path.rfind(b"/") + 1
    # A name may begin with dots: `.well-known`, `...`.
    dot = len(path) - len(path[begin:].lstrip(b"."))
    for _ in range(_MOST_DOTS):
        dot = path.find(b".", dot + 1)
        if dot < 0:
            return
        yield path[:dot]


def _same_case(path: bytes) -> Iterable[bytes]:
    return (fold(path),)


RULES = (
    Rule(
        "parameters dropped, then decoded",
        _without_parameters,
        re.compile(rb";"),
        "Tomcat, Spring",
        "Tomcat, CoyoteAdapter.parsePathParameters; Spring, UrlPathHelper.setRemoveSemicolonContent",
        b"/admin;%2fx",
        b"/admin",
    ),
    Rule(
        "escapes decoded",
        _decoded,
        re.compile(rb"%"),
        "Flask, Django, Starlette, nginx, PHP-FPM, Go, ASP.NET Core (all but the slash), Tomcat, Spring",
        "PEP 3333, PATH_INFO; ASGI, scope path; nginx, location; Kestrel, PathDecoder (%2F stays)",
        b"/%61dmin%2fx",
        b"/admin/x",
    ),
    Rule(
        "? and # decoded, then cut",
        _without_query,
        re.compile(rb"[?#]"),
        "nginx and Apache rewrites, PHP front controllers that decode REQUEST_URI first",
        "CVE-2024-38474 (mod_rewrite); nginx, proxy_pass with $uri",
        b"/admin%3fx",
        b"/admin",
    ),
    Rule(
        "backslash is a slash",
        _turned,
        re.compile(rb"\\"),
        "ASP.NET on IIS, Tomcat with allowBackslash, PHP on Windows",
        "http.sys, canonical URL; Tomcat, config/http allowBackslash; WHATWG URL, 4.4",
        b"/team\\admin",
        b"/team/admin",
    ),
    Rule(
        "decoded, then parameters dropped",
        _without_parameters,
        re.compile(rb";"),
        "Spring behind a proxy that decodes, Jetty before 9.4.41, Python's urllib.parse.urlparse",
        "CVE-2021-34429 (Jetty); Python, urllib.parse.urlparse",
        b"/admin%3bx",
        b"/admin",
    ),
    Rule(
        "final dots and blanks dropped",
        _trimmed,
        re.compile(rb"[. ](?:[/\\;?#]|\Z)"),
        "ASP.NET and PHP on Windows; Spring and Rails take a dot for an empty format",
        "Win32, Naming Files: do not end a name with a space or a period",
        b"/admin.%20",
        b"/admin",
    ),
    Rule(
        "slashes merged",
        _merged,
        re.compile(rb"//|[;\\]|[. ]/"),
        "nginx, Flask, Rails, Tomcat, Spring, Go's ServeMux (redirects)",
        "nginx, merge_slashes; Werkzeug, Map(merge_slashes); Rails, Journey::Router::Utils.normalize_path",
        b"//team///admin",
        b"/team/admin",
    ),
    Rule(
        "script before or behind the path",
        _without_script,
        re.compile(rb"\.php[/\\;?#]"),
        "PHP-FPM: Symfony, Laravel, any script with cgi.fix_pathinfo",
        "Symfony, Request::prepareBaseUrl; php.ini, cgi.fix_pathinfo",
        b"/index.php/admin",
        b"/admin",
    ),
    Rule(
        "final slash dropped",
        _without_final_slash,
        re.compile(rb"/\Z|[;\\?#]|[. ]\Z"),
        "Express, ASP.NET Core, Rails, Spring before 6; Starlette, Flask and Django redirect",
        "Express, `strict` routing; dotnet/aspnetcore#4220; Rails, normalize_path; Spring, setUseTrailingSlashMatch",
        b"/admin/",
        b"/admin",
    ),
    Rule(
        "format dropped",
        _without_format,
        re.compile(rb"\."),
        "Rails, Spring before 5.3",
        "Rails, Mapper: (.:format); Spring, setUseSuffixPatternMatch",
        b"/admin.json",
        b"/admin",
    ),
    Rule(
        "case folded",
        _same_case,
        re.compile(rb"[A-Z\x80-\xff]"),
        "Express, ASP.NET Core, nginx and PHP on Windows and macOS",
        "Express, `case sensitive routing`; ASP.NET Core, routing; nginx, location",
        b"/ADMIN",
        b"/admin",
    ),
)
# The matcher folds the case of each reading by itself: a name in capitals may stand in a route.
_STEPS = RULES[:-1]
# Readings of one path. Honest paths have up to twenty; a path that holds every oddity at once is an attack.
_MOST_READINGS = 64
# Bytes of all readings: a path of 64 KiB costs no more than a few milliseconds.
_MOST_BYTES = 1 << 20

# As written and decoded, each with and without parameters and final dots, in its own case and folded.
FORMS = 8

# What some rule may apply to, but for a dot in the last segment.
_SUSPECT = re.compile(rb"[%;\\A-Z]|//|\.(?:/|\Z)|\.php/|[^/]/\Z")
# `%00` ends the path for an upstream in C; `%0d%0a` is a new line in a log, or in a header built from the path.
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
# RFC 3986, 5.2.4. No client needs to send one: browsers resolve them first. Windows drops blanks behind it.
_DOT_SEGMENT = re.compile(rb"/\.\.? *(?:/|\Z)")
_USUAL_SEGMENT = re.compile(rb"[a-z0-9_~!$&'()*+,=:@-]*(?:\.[a-z0-9_~!$&'()*+,=:@-]+)*")


def is_plain(path: bytes) -> bool:
    """Tell whether every upstream reads the path alike, so that one match is enough."""
    if b"." in path and path.rfind(b".") > path.rfind(b"/"):
        return False
    return _SUSPECT.search(path) is None


def readings(path: bytes, *, scripts: bool = True) -> list[bytes]:
    """Return all readings of the path, itself first; their case is as it was sent.

    Without `scripts`, the name of a script stays in the path: the operator wrote it into the route.
    Raises InvalidRequest (400) for an invalid escape, invalid UTF-8, a control byte, a dot segment, plain or encoded, and
    for a path with more readings than any honest one.
    """
    text = _checked(path)
    found = {path: None}
    for rule in _STEPS:
        if rule.mark.search(text) and (scripts or rule.read is not _without_script):
            found |= dict.fromkeys([other for known in found for other in rule.read(known)])
            if len(found) > _MOST_READINGS or len(found) * len(path) > _MOST_BYTES:
                msg = "The path can be read in too many ways"
                raise InvalidRequest(msg)
    if any(map(_DOT_SEGMENT.search, found)):
        msg = "The path holds a dot segment"
        raise InvalidRequest(msg)
    return list(found)


def begins_query(path: bytes, reading: bytes) -> bool:
    """Tell whether a reading of the path is what stands before an encoded `?` or `#`.

    `/tags/%23python` must stay usable where no route has `/tags/`: then there are no rules that it could walk round.
    """
    ends = (b"?", b"#", b"/?", b"/#")
    return unquote_to_bytes(path).startswith(tuple([reading + end for end in ends]))


def forms(segment: bytes) -> tuple[bytes, ...]:
    """Return how a reading may spell a segment of a route: `FORMS` forms, all the same where no rule applies to it."""
    if _USUAL_SEGMENT.fullmatch(segment):
        return (segment,) * FORMS
    decoded = unquote_to_bytes(_ENCODED_SLASH.sub(b"%252f", segment))
    kinds = (segment, _short(segment), decoded, _short(decoded))
    return (*kinds, *map(fold, kinds))


def _short(segment: bytes) -> bytes:
    return _BLANK_END.sub(b"", _PARAMETER.sub(b"", segment))


def fold(path: bytes) -> bytes:
    """Fold the case so that two paths are equal if any usual comparison without regard to case calls them equal."""
    # An upstream that compares upper-case texts reads a dotless i (U+0131) as I; `casefold` alone would keep it apart. One
    # whose lower case maps letter to letter (Go, .NET, towlower) reads a dotted I (U+0130) as i.
    text = path.decode("utf-8", "surrogateescape")
    folded = text.replace("\u0130", "i").upper().casefold()
    return folded.encode("utf-8", "surrogateescape")


def _checked(path: bytes) -> bytes:
    """Return the path as it was sent and decoded, in one text. Raises InvalidRequest where it has no safe reading at all."""
    if _CONTROL.search(path):
        msg = "The path holds a control byte"
        raise InvalidRequest(msg)
    if b"%" not in path:
        return path
    if BAD_ESCAPE.search(path):
        msg = "The path holds an invalid percent escape"
        raise InvalidRequest(msg)
    decoded = unquote_to_bytes(path)
    if _CONTROL.search(decoded):
        msg = "The path holds a control byte"
        raise InvalidRequest(msg)
    # Overlong forms (`%c0%af` for a slash) are invalid UTF-8: old decoders accepted them (CVE-2000-0884 in IIS).
    try:
        decoded.decode("utf-8")
    except UnicodeDecodeError as error:
        msg = "The path is not valid UTF-8"
        raise InvalidRequest(msg) from error
    return path + decoded
