"""The framework of the importers: bounds, patterns, the writer, and that nothing becomes weaker in silence."""

import os
import re
from fractions import Fraction
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.commands.imports.command import translate
from propylon.commands.imports.draft import Draft
from propylon.commands.imports.formats import FORMATS
from propylon.commands.imports.known import refusal
from propylon.commands.imports.overlap import first_wins, review
from propylon.commands.imports.parts import Route
from propylon.commands.imports.patterns import from_regex, literal_prefix, replaced
from propylon.commands.imports.rates import rate, seconds_of
from propylon.commands.imports.report import At, Place, Report
from propylon.commands.imports.scalars import comment_lines, flow
from propylon.commands.imports.settle import problems_of, settle
from propylon.commands.imports.source import LARGEST, Source, Unreadable, read_sources
from propylon.commands.imports.tree import parse
from propylon.commands.imports.writing import written
from propylon.config.reading.document import read
from propylon.config.reading.load import load
from tests.imports.driving import FOLDER

HERE = At(Place("x.yml", 1), "thing")
FIXTURES = [
    pytest.param(form.name, file, id=f"{form.name}-{file.name}")
    for form in sorted(FOLDER.iterdir())
    if form.is_dir() and form.name in FORMATS
    for file in sorted(form.iterdir())
]


@pytest.mark.parametrize(("form", "file"), FIXTURES)
def test_what_is_written_is_checked(
    form: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our own check takes each translated fixture, and each of its lines is in the report."""
    monkeypatch.chdir(tmp_path)
    found = translate(form, [Source(file.name, file.read_text())])
    target = tmp_path / "propylon.yaml"
    target.write_text(found.text)
    loaded = load(
        target, dict.fromkeys(re.findall(r"\$\{(\w+)\}", found.text), "k" * 20 + "0123456789" * 2)
    )
    assert loaded.config.routes
    assert all(one.at.place.line >= 1 for one in found.report.findings)
    # What is closed stands in the file with its reason, and its route answers by itself.
    for closed in {one.closed for one in found.report.findings if one.closed}:
        routes = [one for one in loaded.config.routes if one.path == closed]
        assert all(one.respond is not None and one.respond.status == 503 for one in routes)
        assert "CLOSED: " in found.text or not routes


def test_the_table_of_formats_is_the_help() -> None:
    """The help of the command names each format."""
    from propylon.cli.imports import import_  # noqa: PLC0415 — only here

    assert ", ".join(FORMATS) in (import_.__doc__ or "")


# --- files


def test_only_regular_files_of_a_bounded_size_are_read(tmp_path: Path) -> None:
    """A pipe, a folder, a disk image, no text, and what is not there end with a message."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(LARGEST + 1)
    binary = tmp_path / "binary"
    binary.write_bytes(b"a: 1\n\xff\n")
    null = tmp_path / "null"
    null.write_bytes(b"a: 1\n\0\n")
    for path, why in (
        (pipe, "not a regular file"),
        (tmp_path, "not a regular file"),
        (large, "larger than 4,000,000 bytes"),
        (binary, ":2: not UTF-8"),
        (null, ":2: holds a NUL byte"),
        (tmp_path / "none", "no such file"),
    ):
        with pytest.raises(Unreadable, match=why):
            read_sources([path])


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
HOSTILE = {
    "bomb": BOMB,
    "cycle": "a: &a [*a]\n",
    "deep": "[" * 5000 + "]" * 5000,
    "deep mapping": "".join(f"{' ' * depth}a:\n" for depth in range(200)),
    "tag": "a: !!python/object/apply:os.system [id]\n",
    "include": "routes: !include /etc/passwd\n",
    "tab": "a:\n\t- b\n",
    "nothing": "# only a comment\n",
    "twice": "a: 1\na: 2\n",
    "list": "- 1\n- 2\n",
    "text": "hello",
    "html": "<html><body>404</body></html>",
    "documents": "---\na: 1\n" * 200,
    "number": "3\n",
    "empty": "",
}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_files_end_with_a_message(form: str, text: str) -> None:
    """Nothing is included, run or expanded without a bound, in any format."""
    if form not in {"kong", "krakend", "apisix", "spring", "traefik"}:
        pytest.skip("the format is no YAML, and has tests of its own")
    with pytest.raises(Unreadable, match="x.yml"):
        translate(form, [Source("x.yml", text)])


def test_hostile_toml_ends_with_a_message() -> None:
    """Depth, and what is no TOML."""
    for text in ("a = " + "[" * 5000, "a = [", "= 1"):
        with pytest.raises(Unreadable, match=r"x\.toml"):
            translate("traefik", [Source("x.toml", text)])


def test_more_than_is_compared_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """All routes are compared with each other, and what is written must be read again."""
    routes = ", ".join(f"{{name: r{number}, paths: [/{number}]}}" for number in range(3))
    text = (
        f'_format_version: "3.0"\nservices: [{{name: a, url: "http://a:1", routes: [{routes}]}}]\n'
    )
    monkeypatch.setattr("propylon.commands.imports.settle.LARGEST_FILE", 1000)
    with pytest.raises(Unreadable, match="larger than 1 MiB"):
        translate("kong", [Source("x.yml", text)])
    monkeypatch.setattr("propylon.commands.imports.draft._MOST_ROUTES", 2)
    with pytest.raises(Unreadable, match="more than 2 routes"):
        translate("kong", [Source("x.yml", text)])


@pytest.mark.parametrize(
    "text",
    [
        "routes: [{id: r, uri: /a, plugins: [key-auth]}]\n",
        "routes: [{id: r, uri: /a, plugins: key-auth}]\n",
    ],
)
def test_what_should_be_a_mapping_is_not_passed_over(text: str) -> None:
    """A list of plugins would otherwise be no plugins."""
    with pytest.raises(Unreadable, match="must be a mapping"):
        translate("apisix", [Source("x.yml", text)])


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 99_999)
    | st.sampled_from(["", "/a", "/a/*", "a.b", "x:1", "$x", "{y}", "~/(a", "\n#"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["a", "name", "url", "id", "paths"]), inner, max_size=3),
    max_leaves=6,
)
KEYS = {
    "kong": (
        "routes",
        "services",
        "upstreams",
        "plugins",
        "consumers",
        "name",
        "paths",
        "hosts",
        "config",
        "url",
        "targets",
    ),
    "apisix": (
        "routes",
        "upstreams",
        "services",
        "uri",
        "uris",
        "plugins",
        "upstream",
        "nodes",
        "checks",
        "vars",
        "methods",
    ),
    "traefik": (
        "routers",
        "services",
        "middlewares",
        "rule",
        "service",
        "loadBalancer",
        "servers",
        "url",
        "chain",
        "headers",
    ),
}


@given(data=st.data())
@pytest.mark.parametrize("form", KEYS)
def test_any_tree_ends(form: str, data: st.DataObject) -> None:
    """Whatever stands where: the answer is a file that our check takes, or a message."""
    keys = st.sampled_from(KEYS[form])
    tree = data.draw(
        st.dictionaries(
            keys,
            VALUES
            | st.dictionaries(keys, VALUES)
            | st.lists(st.dictionaries(keys, VALUES), max_size=2),
            max_size=4,
        )
    )
    head = {"kong": {"_format_version": "3.0"}, "apisix": {"routes": []}, "traefik": {}}[form]
    value = {"http": tree} if form == "traefik" else {**head, **tree}
    try:
        found = translate(form, [Source("x.yml", flow(value))])
    except Unreadable:
        return
    assert problems_of(found.text) == ()


# --- the writer


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)


@given(
    value=st.recursive(
        TEXTS | st.integers(-(10**15), 10**15) | st.booleans(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
        max_leaves=6,
    )
)
def test_values_are_written_as_they_are(value: object) -> None:
    """What our reader reads back is what was to be written, dollars and braces included."""
    keyed = {"k": value}
    assert read(f"{flow(keyed)}\n", {}).value == _undollared(keyed)


def _undollared(value: object) -> object:
    """Keys are not expanded when they are read; a dollar in one is doubled. No key of ours has one."""
    if isinstance(value, dict):
        return {str(key).replace("$", "$$"): _undollared(inner) for key, inner in value.items()}
    return [_undollared(inner) for inner in value] if isinstance(value, list) else value


@given(text=st.text(max_size=300))
def test_no_remark_leaves_its_comment(text: str) -> None:
    """Whatever a foreign file says stands behind a # on each line."""
    assert all(
        line.startswith("  # ") and "\n" not in line and "\r" not in line
        for line in comment_lines(text, "  ")
    )


# --- patterns


@pytest.mark.parametrize(
    ("regex", "path", "exact", "template", "rewrite"),
    [
        ("^/old/(.*)", "/old", False, "/new/$1", "/new"),
        ("^/a/([^/]+)/(.*)$", "/a/{p1}", False, "/b/$1/$2", "/b/{p1}"),
        ("/red(?<rest>/?.*)", "/red", False, "/blue${rest}", "/blue"),
        ("/users/(?P<id>[^/]+)$", "/users/{id}", True, "/u/${id}", "/u/{id}"),
        ("^/foo(/|$)(.*)", "/foo", False, "/$2", "/"),
        ("/v1\\.0/x$", "/v1.0/x", True, "/y", "/y"),
        ("/a/(.*)", "/a", False, "/b/$1/c", None),
        ("/a/(.*)", "/a", False, "$2", None),
    ],
)
def test_expressions_become_paths(
    regex: str, path: str, exact: bool, template: str, rewrite: str | None
) -> None:
    """What a path can say is said, and the replacement becomes a rewrite."""
    found = from_regex(regex)
    assert found is not None
    assert (found.path, found.exact, found.wide) == (path, exact, "")
    assert replaced(found, template) == rewrite


@pytest.mark.parametrize(
    "regex",
    [
        "/a(b|c)",
        "a",
        "/[ab]/c",
        "/a.b",
        "/a?",
        "/(a",
        "/\\bx",
        "/a{2}",
        "/a/(?=b)",
        "/" + "a" * 5000,
    ],
)
def test_other_expressions_do_not(regex: str) -> None:
    """They are not approximated; what they begin with is known."""
    assert from_regex(regex) is None
    assert literal_prefix(regex).startswith("/")


@given(st.text("/ab.*+?()[]{}|^$\\d<>P:", max_size=20))
def test_any_expression_ends(regex: str) -> None:
    """No expression of a file is run, and none makes the reader fail."""
    found = from_regex(regex)
    assert found is None or found.path.startswith("/")


# --- rates


@given(number=st.integers(1, 10**6), seconds=st.integers(1, 10**5))
def test_rates_are_never_more(number: int, seconds: int) -> None:
    """What is written is at most what was meant, and just that where it says so."""
    text, exact = rate(number, seconds)
    if not text:
        assert Fraction(number, seconds) * 86_400 < 1
        return
    count, unit = text.split("/")
    written_rate = Fraction(int(count), {"s": 1, "m": 60, "h": 3600, "d": 86_400}[unit])
    assert written_rate <= Fraction(number, seconds)
    assert exact == (written_rate == Fraction(number, seconds))


def test_durations_of_go() -> None:
    """Sums, fractions and bare seconds; what is none is None."""
    assert [seconds_of(text) for text in ("1h30m", "500ms", "1.5s", "7", "x", "", "1h x")] == [
        5400,
        0.5,
        1.5,
        7,
        None,
        None,
        None,
    ]


# --- drafts


def draft_of(*routes: dict[str, object]) -> Draft:
    """A draft with a service, and a route for each mapping."""
    draft = Draft(Report())
    draft.service("s", HERE).put("url", "http://s.internal:8000")
    for keys in routes:
        route = draft.route(str(keys["path"]), HERE)
        route.keys |= {"service": "s", **keys}
        route.open()
    return draft


def text_of(draft: Draft) -> str:
    """What comes of a draft, settled."""
    return settle(draft, lambda: written(draft, "kong", ["x.yml"]))


def test_a_key_of_a_later_version_is_not_translated() -> None:
    """It is reported, stands as a remark, and closes the route if it protected it."""
    draft = draft_of({"path": "/a"})
    (route,) = draft.routes
    assert not route.set("no_such_key", 1, HERE)
    assert not route.set("headers.request.no_such_key", 1, HERE)
    assert route.closed == ""
    assert not route.set("clients.no_such_key", 1, HERE, protects=True)
    assert "this version of propylon has no `clients.no_such_key`" in route.closed
    assert "no_such_key" not in str(route.keys)
    assert "# NOT translated: thing: this version of propylon has no `no_such_key`" in text_of(
        draft
    )
    assert draft.report.status == 1
    assert refusal("route", "methods", ["GET"]) == ""
    assert "does not take it" in refusal("route", "methods", ["G T"])


def test_what_a_reader_forgets_asks_for_a_token() -> None:
    """Only a route that was read to its end is open."""
    draft = draft_of({"path": "/a"})
    draft.routes[0].opened = False
    assert "auth: none" not in text_of(draft)


def test_what_the_check_refuses_is_closed_and_then_left_out() -> None:
    """Two routes alike: the second is closed, and as it is still one too many, left out. The report says both."""
    draft = draft_of({"path": "/a"}, {"path": "/a"}, {"path": "/b", "rewrite": "/{x}"})
    text = text_of(draft)
    assert problems_of(text) == ()
    assert text.count("path: /a") == 1
    assert [one.closed for one in draft.report.findings if one.closed] == ["/a", "/b"]
    assert any("is left out" in one.text for one in draft.report.findings)
    assert draft.report.status == 1


def test_a_service_that_is_refused_closes_its_routes() -> None:
    """No route is left with half a service."""
    draft = draft_of({"path": "/a"})
    draft.services["s"].keys["timeouts"] = {"connect": "never"}
    text = text_of(draft)
    assert problems_of(text) == ()
    assert draft.routes[0].closed
    assert "timeouts" not in text.split("routes:")[0].replace("`timeouts`", "")


def closed(draft: Draft) -> list[str]:
    """The paths of the routes that are closed."""
    return [str(route.keys["path"]) for route in draft.routes if route.closed]


OFFICE = {"clients": {"allow": ["10.0.0.0/8"]}}


def test_wide_routes_are_closed_where_they_take_protected_requests() -> None:
    """/users/{id} for digits only; /users/… in all others was for the office."""
    draft = draft_of({"path": "/users/{id}", "exact": True}, {"path": "/users", **OFFICE})
    draft.routes[0].wide = "{id} takes any segment"
    review(draft)
    assert closed(draft) == ["/users/{id}"]
    same = draft_of({"path": "/users/{id}", "exact": True, **OFFICE}, {"path": "/users", **OFFICE})
    same.routes[0].wide = "{id} takes any segment"
    review(same)
    assert closed(same) == []


def test_prefixes_that_protected_more_are_reported() -> None:
    """/admin took /admin-old there; here that is the open route's. It is not closed, but the status is 1."""
    draft = draft_of({"path": "/"}, {"path": "/admin", **OFFICE})
    draft.routes[1].glued = True
    review(draft)
    assert closed(draft) == []
    assert "/admin-x" in draft.report.findings[0].text
    assert draft.report.status == 1


def test_the_first_of_several_wins() -> None:
    """A route that was never reached is left out; one that would take a protected one's requests is closed."""
    draft = draft_of(
        {"path": "/a"},
        {"path": "/a/b"},
        {"path": "/c", "methods": ["GET"], **OFFICE},
        {"path": "/c/d"},
    )
    first_wins(draft)
    assert [route.keys["path"] for route in draft.routes] == ["/a", "/c", "/c/d"]
    assert closed(draft) == ["/c/d"]


def test_routes_alike_keep_their_order() -> None:
    """The first gets the higher priority, and our check has nothing against it."""
    draft = draft_of(
        {"path": "/a", "methods": ["GET"], "name": "one"}, {"path": "/a", "name": "two"}
    )
    first_wins(draft)
    assert [route.keys["priority"] for route in draft.routes] == [1, 0]
    assert problems_of(text_of(draft)) == ()


PATHS = st.lists(st.sampled_from(["a", "b", "{x}"]), max_size=3).map(
    lambda parts: "/" + "/".join(parts)
)


ROWS = st.tuples(
    PATHS,
    st.booleans(),
    st.booleans(),
    st.sampled_from([[], ["GET"], ["POST"]]),
    st.sampled_from([[], [], ["a.test"], ["*.test"], ["a.test", "b.test"]]),
)


@given(rows=st.lists(ROWS, min_size=1, max_size=6))
def test_no_request_is_less_protected_than_there(
    rows: list[tuple[str, bool, bool, list[str], list[str]]],
) -> None:
    """Of any routes in an order: whoever was kept out of a request by the first that fits is kept out here, too."""
    draft = draft_of(
        *(
            {
                "path": path,
                "exact": exact,
                **(OFFICE if guarded else {}),
                **({"methods": methods} if methods else {}),
                **({"hosts": hosts} if hosts else {}),
            }
            for path, exact, guarded, methods, hosts in rows
        )
    )
    original = list(draft.routes)
    first_wins(draft)
    for asked in product(
        ("/", "/a", "/b", "/a/b", "/a/c", "/a/b/c", "/c", "/b/a/a"),
        ("GET", "POST"),
        ("a.test", "c.test", "other"),
    ):
        there = next((one for one in original if _fits(one, *asked)), None)
        here = _ours(draft.routes, *asked)
        if there is not None and here is not None and "clients" in there.keys:
            assert here.closed or "clients" in here.keys, asked


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part]


def _host_rank(route: Route, host: str) -> int:
    """3 for its own host, 2 for one below, 1 for any host, 0 if the host is none of the route's."""
    hosts = route.keys.get("hosts", [])
    if not hosts:
        return 1
    below = f"*.{host.partition('.')[2]}"
    return 3 if host in hosts else 2 if below in hosts else 0


def _fits(route: Route, path: str, method: str, host: str) -> bool:
    pattern, parts = _parts(str(route.keys["path"])), _parts(path)
    if len(pattern) > len(parts) or (route.keys.get("exact") and len(pattern) != len(parts)):
        return False
    same = all(a == b or a[:1] == "{" for a, b in zip(pattern, parts, strict=False))
    return same and method in route.keys.get("methods", [method]) and _host_rank(route, host) > 0


def _ours(routes: list[Route], path: str, method: str, host: str) -> Route | None:
    """The route that propylon takes: of the host, then the most specific one, then by priority; another method is 405."""
    fitting = [one for one in routes if _fits(one, path, method, host)]
    return max(fitting, key=lambda one: (_host_rank(one, host), _rank(one)), default=None)


def _rank(route: Route) -> tuple[object, ...]:
    parts = _parts(str(route.keys["path"]))
    # From the left: a literal before {name}; then exact before a prefix, the longer path, the priority.
    literal = [part[:1] != "{" for part in parts]
    return (literal, bool(route.keys.get("exact")), len(parts), route.keys.get("priority", 0))


# --- trees


def test_lines_of_yaml_json_and_toml() -> None:
    """Each value knows its line, dollars stay, and keys that nobody took are told."""
    item = parse(Source("x.yml", "a:\n  b: $HOME\n  c: [1,\n    2]\n$d: 1\n"))
    assert (item.get("a", "b").text(), item.get("a", "b").at.place.line) == ("$HOME", 2)
    assert item.get("a", "c").each()[1].at.place.line == 4
    assert [one.at.what for one in item.untaken()] == ["$d"]
    assert item.get("$d").number() == 1
    toml = parse(Source("x.toml", '[a.b]\nc = 1\n[[a.list]]\nd = "x"\n[[a.list]]\nd = "y"\n'))
    assert toml.get("a", "b", "c").at.place.line == 2
    assert [one.get("d").at.place.line for one in toml.get("a", "list").each()] == [4, 6]
