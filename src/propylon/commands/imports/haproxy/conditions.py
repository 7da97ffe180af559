"""ACLs, and what `if` and `unless` ask for, as keys of a route."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import Any

from propylon.commands.imports.haproxy.syntax import Line, Section
from propylon.commands.imports.networks import network
from propylon.commands.imports.patterns import from_regex

__all__ = ["Acls", "Wanted"]

_MOST = 64
_HOSTS = ("hdr(host)", "req.hdr(host)", "hdr_dom(host)", "ssl_fc_sni", "hdr(host),field(1,:)")
_HEADER = ("hdr", "req.hdr", "req.fhdr", "hdr_val")


@dataclass(slots=True)
class Wanted:
    """What a request must have; `why` says what no key says."""

    paths: list[tuple[str, bool, bool]] = field(default_factory=list)  # path, exact, glued
    hosts: list[str] = field(default_factory=list)
    methods: list[str] = field(default_factory=list)
    match: dict[str, dict[str, Any]] = field(default_factory=dict)
    clients: dict[str, list[str]] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    why: list[str] = field(default_factory=list)
    plain_http: bool = False  # it is for requests without TLS alone
    tls: bool = False


class Acls:
    """The ACLs of a section."""

    def __init__(self, section: Section) -> None:
        """Collect them; several lines of a name are alternatives."""
        self._lines: dict[str, list[Line]] = {}
        for line in section.all("acl"):
            if len(line.words) > 2:
                self._lines.setdefault(line.words[1], []).append(line)

    def alternatives(self, condition: tuple[str, ...]) -> list[Wanted]:
        """Return what each alternative of `if a b || c` asks for. Without a condition: one that asks for nothing."""
        if not condition:
            return [Wanted()]
        if condition[0] == "unless" and len(condition) != 2:
            return [Wanted(why=["unless with several tests"])]
        words = list(condition[1:])
        if condition[0] == "unless":
            words[0] = words[0].removeprefix("!") if words[0].startswith("!") else f"!{words[0]}"
        made: list[Wanted] = []
        for part in _parted(words):
            options = [self._tests(term) for term in _terms(part)]
            if len(made) + _size(options) > _MOST:
                return [Wanted(why=["too many alternatives"])]
            made += [_together(tests) for tests in product(*options)]
        return made

    def _tests(self, term: tuple[str, ...]) -> list[tuple[bool, tuple[str, ...]]]:
        """Return the alternatives of a term, each a test and whether it is negated."""
        name = term[0]
        negated = name.startswith("!")
        name = name.removeprefix("!")
        if name == "{":
            return [(negated, term[1:])]
        lines = self._lines.get(name, [])
        tests = [(negated, line.words[2:]) for line in lines]
        if not tests:
            return [(negated, _NAMED.get(name, (f"the ACL {name}, which is not here",)))]
        if negated and len(tests) > 1:
            return [(False, (f"not {name}, which has several lines",))]
        return tests


_NAMED: dict[str, tuple[str, ...]] = {
    "METH_GET": ("method", "GET", "HEAD"),
    "METH_POST": ("method", "POST"),
    "METH_HEAD": ("method", "HEAD"),
    "METH_PUT": ("method", "PUT"),
    "METH_DELETE": ("method", "DELETE"),
    "METH_OPTIONS": ("method", "OPTIONS"),
    "LOCALHOST": ("src", "127.0.0.1/8", "::1"),
    "TRUE": ("always_true",),
    "FALSE": ("always_false",),
}


def _size(options: list[list[Any]]) -> int:
    size = 1
    for one in options:
        size *= len(one)
    return size


def _parted(words: list[str]) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    for word in words:
        if word in ("||", "or"):
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


def _terms(words: list[str]) -> list[tuple[str, ...]]:
    """Return names, and anonymous tests in braces, each with a leading !."""
    terms: list[tuple[str, ...]] = []
    at, bang = 0, ""
    while at < len(words):
        word = words[at]
        if word == "!":
            bang = "!"
        elif word.lstrip("!") == "{":
            end = words.index("}", at) if "}" in words[at:] else len(words)
            sign = bang or ("!" if word.startswith("!") else "")
            terms.append((f"{sign}{{", *words[at + 1 : end]))
            at, bang = end, ""
        else:
            terms.append((bang + word,))
            bang = ""
        at += 1
    return terms


def _together(tests: tuple[tuple[bool, tuple[str, ...]], ...]) -> Wanted:
    wanted = Wanted()
    for negated, test in tests:
        _test(wanted, test, negated=negated)
    return wanted


def _test(wanted: Wanted, test: tuple[str, ...], *, negated: bool) -> None:
    """Add a test: a fetch such as `path_beg`, flags, and values."""
    fetch, values, flags = _taken_apart(test)
    shown = " ".join(test)
    if fetch == "src" and values and not any("/" in value and value[0] == "/" for value in values):
        wanted.clients.setdefault("deny" if negated else "allow", []).extend(
            network(value) for value in values
        )
    elif fetch == "ssl_fc":
        wanted.tls, wanted.plain_http = not negated, negated
    elif negated:
        wanted.why.append(f"! {shown}: conditions cannot be negated")
    elif fetch == "always_true":
        return
    elif "-f" in flags or "-M" in flags:
        wanted.why.append(f"{shown}: its values stand in a file")
    elif fetch == "method":
        wanted.methods += values
    elif fetch in _HOSTS:
        _hosts(wanted, fetch, values, flags, shown)
    elif not _path(wanted, fetch, values, flags) and not _named(wanted, fetch, values, flags):
        wanted.why.append(f"{shown}: no key says this test")


def _taken_apart(test: tuple[str, ...]) -> tuple[str, list[str], list[str]]:
    fetch, rest = test[0] if test else "", list(test[1:])
    flags: list[str] = []
    while rest and rest[0].startswith("-"):
        flag = rest.pop(0)
        if flag == "--":
            break
        flags.append(flag)
        if flag == "-m" and rest:
            flags[-1] = f"-m {rest.pop(0)}"
    return fetch, rest, flags


def _hosts(wanted: Wanted, fetch: str, values: list[str], flags: list[str], shown: str) -> None:
    kinds = set(flags) - {"-i"}
    if kinds == {"-m end"} and all(value.startswith(".") for value in values):
        values = [f"*{value}" for value in values]
    elif kinds - {"-m str"} or wanted.hosts or fetch == "hdr_dom(host)":
        wanted.why.append(f"{shown}: this test of the host")
        return
    wanted.hosts = [value.lower().partition(":")[0] for value in values]


def _path(wanted: Wanted, fetch: str, values: list[str], flags: list[str]) -> bool:
    kind = next((flag.removeprefix("-m ") for flag in flags if flag.startswith("-m ")), "")
    name = f"{fetch}_{kind}" if fetch == "path" and kind and kind != "str" else fetch
    if name not in ("path", "path_beg", "path_dir", "path_reg") or wanted.paths or not values:
        return False
    if "-i" in flags:
        wanted.why.append("paths in capitals and small letters alike")
    for value in values:
        if name == "path_reg":
            found = from_regex(value) if value.startswith("^") else None
            if found is None:
                wanted.why.append(f"the expression {value}")
                continue
            wanted.paths.append((found.path, found.exact, found.glued))
            wanted.why += [found.wide] if found.wide else []
            continue
        plain = value if name == "path" else f"/{value.strip('/')}"
        glued = name == "path_beg" and plain != "/" and not value.endswith("/")
        wanted.paths.append((plain, name == "path", glued))
        if glued:
            wanted.said.append(f"whole segments: {plain}/x is taken as in HAProxy, {plain}x is not")
        elif name == "path_beg" and plain != "/":
            wanted.said.append(f"{plain} itself is taken, too")
        elif name == "path_dir":
            wanted.why.append(f"path_dir {value} looks anywhere in the path")
    return True


def _named(wanted: Wanted, fetch: str, values: list[str], flags: list[str]) -> bool:
    """Add a test of a header, a parameter or a cookie."""
    begin, _, rest = fetch.partition("(")
    name = rest.rstrip(")").partition(",")[0]
    kinds = {
        **dict.fromkeys(_HEADER[:3], "headers"),
        "urlp": "query", "url_param": "query", "cook": "cookies", "req.cook": "cookies",
    }  # fmt: skip
    kind = kinds.get(begin)
    how = set(flags) - {"-m str"}
    if kind is None or not name or name in wanted.match.get(kind, {}):
        return False
    if how == {"-m found"}:
        wanted.match.setdefault(kind, {})[name] = True
    elif not how and values:
        wanted.match.setdefault(kind, {})[name] = list(values)
    elif how == {"-m beg"} and values:
        wanted.match.setdefault(kind, {})[name] = [f"{value}*" for value in values]
    else:
        return False
    return True
