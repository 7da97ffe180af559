"""Documents that are read without the YAML parser mean what the parser says: values, lines, messages."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import strategies as st

from propylon.config.reading.as_json import read_json
from propylon.config.reading.document import DEEPEST, Unreadable, _Reader, read
from propylon.config.reading.plain import Plain, take_plain
from tests.support.examples import examples

ENVIRON = {"SET": "value", "EMPTY": ""}
Outcome = tuple[object, ...]


def outcome(text: str, *, whole: bool) -> Outcome:
    """Everything that is found in a text; `whole`: the YAML parser reads all of it."""
    try:
        document = _Reader(Plain(text), ENVIRON).document() if whole else read(text, ENVIRON)
    except Unreadable as error:
        return (error.line, error.message)
    # `repr` tells 1 from True and from 1.0.
    return (
        repr(document.value),
        document.problems,
        document.failed,
        list(document.lines.items()),
    )


def check(text: str) -> None:
    """Compare the two ways."""
    assert outcome(text, whole=False) == outcome(text, whole=True)


# Routes that are written plainly, and all that may stand among them

WORDS = [
    "a", "/orders", "/orders/{id}", "/a/*", "none", "null", "~", "true", "True", "on", "yes", "0", "7", "010", "0x1f",
    "1.5", "1e5", "1_000", "1:30", "-3", "-", "- a", "2026-01-01", "10s", "http://a:80/b", "a:b", "a: b", "a #b",
    "a#b", "a,b", "x@y", "a=b", "=", "<<", "*a", "&a b", "!x", "!!str 7", "|", ">", "%a", "@a", "`a`", "{a: b",
    "'a'", '"a"', "''", '""', "'it''s'", '"\\x41"', '"a', "'a", "'a' b", '"#"', "'a: b'", "${SET}", "${NONE}", '"${EMPTY}"',
    "$$", "é", "\t", "a\tb", "?", "? a", ":", "", " ", "#", "# comment", "...", "---",
    "[a, b]", "[]", "[ ]", "[a,b]", "[a, b,]", "[a,, b]", "[,]", "[[a], {b: c}]", "[a, [b, {c: [d]}]]", "[a: b]", "[a #b]",
    "[a] # c", "[a", "[a]]", "[a] b", "['a', \"b\"]", "['a'b]", "[/a/{id}]", "[a b]", "[~, 1, true, 1.5, -3]",
    "{a: b}", "{}", "{a: b, c: [d]}", "{a}", "{a: }", "{a:b}", "{'a': b}", "{a: b, a: c}", "{a: b,}", "{a: {b: {c: d}}}",
    '{"a":b}', "{'a':b}", "{a: b, <<: {c: d}}", "{set: {X-A: a, X-B: 'b'}}", "{1: a}", "{null: a}", "{? a}", "{a: 'b' }",
    "[" * 12 + "]" * 12,
]  # fmt: skip
KEYS = [
    "path",
    "service",
    "auth",
    "methods",
    "headers",
    "a",
    "a-b",
    "_",
    "7",
    "'a'",
    "<<",
    "on",
    "null",
    "? a",
    "a b",
    "",
]

words = st.one_of(
    st.sampled_from(WORDS), st.text("ab1-{}[]'\"#:,. ~&*!|>%$\\/é\t\r=?@_", max_size=8)
)
spaces = st.sampled_from(["", " ", " ", "  "])
ends = st.sampled_from(["", "", "", " ", " # why", "#x"])


@st.composite
def any_line(draw: st.DrawFn) -> str:
    """A line with an indent, a dash or none, a key or none, and something behind it."""
    indent = " " * draw(st.sampled_from([0, 0, 1, 2, 2, 2, 3, 4, 4, 5, 6, 8]))
    dash = draw(st.sampled_from(["", "", "", "- ", "-", "-  ", "- - "]))
    key = draw(st.one_of(st.just(None), st.sampled_from(KEYS)))
    rest = draw(words)
    if key is not None:
        rest = f"{key}:{draw(spaces)}{rest}"
    return indent + dash + rest + draw(ends)


@st.composite
def mostly_plain(draw: st.DrawFn) -> str:
    """A list of routes of which most are plain, with a few other lines in between and around it."""
    column = draw(st.sampled_from([0, 2, 2, 4]))
    lines = draw(st.lists(any_line(), max_size=2))
    lines.append("routes:" + draw(ends))
    good = st.sampled_from(
        [word for word in WORDS if word and take_plain(f"routes:\n- a: {word}\n").runs]
    )
    for _ in range(draw(st.integers(1, 5))):
        head = " " * column + "- "
        for number, key in enumerate(
            draw(st.lists(st.sampled_from(KEYS[:7]), min_size=1, max_size=4, unique=True))
        ):
            value = draw(good)
            if draw(st.integers(0, 6)) == 0:
                # A value on the lines below, deeper or, for a list, right below the key.
                below = " " * (column + draw(st.sampled_from([2, 4, 6])))
                item = draw(st.sampled_from(["- ", "x: ", "- x: ", "# ", ""]))
                value = f"\n{below}{item}{value}" * draw(st.integers(1, 2))
            lines.extend((head + f"{key}: {value}").split("\n"))
            head = " " * (column + 2)
            if number == 0 and draw(st.integers(0, 9)) == 0:
                lines.append(draw(st.sampled_from(["", " ", "# note", "   # note"])))
        if draw(st.integers(0, 4)) == 0:
            lines.append(draw(any_line()))
    lines += draw(st.lists(any_line(), max_size=2))
    return "\n".join(lines) + draw(
        st.sampled_from(["", "\n", "\n\n", "\r\n", "\n...\n", "\n---\n"])
    )


@examples(120, suppress_health_check=[HealthCheck.too_slow])
@given(text=mostly_plain())
@example("x: 'a\nroutes:\n- a: b\n'\n")
@example("x: |\n routes:\n - a: b\nroutes:\n - a: b\n")
@example("routes:\n- a: b\n  c\n")
@example("routes:\n- a: b\n-\n  a: c\n")
@example("routes:\n- a: b\nroutes:\n- a: c\n")
@example("routes:\n- a: b\n- ~\n- a: c\n")
@example("x: {\nroutes:\n- a: b\n}\n")
@example("routes:\n  - a: b\n\n  # c\n\n  - a: {b: c}\nlog: {}\n")
@example("routes:\n- a: &x b\n- c: *x\n- d: e\n")
@example("routes:\n- a: b\n- a: ${NONE}\n- a: b\n")
@example("- routes:\n  - a: b\n")
@example("routes:\n- a: b\n--- \n")
@example("routes:\n- a: b\n%TAG\n")
def test_plain_routes(text: str) -> None:
    """Routes that are taken out of the text come back as the parser would have read them."""
    check(text)


@examples(120)
@given(lines=st.lists(any_line(), max_size=8))
def test_any_lines_after_routes(lines: list[str]) -> None:
    """However odd the lines are: what is not plain is left to the parser."""
    check("\n".join(["routes:", *lines]))


@examples(150)
@given(word=st.text("abe017_-+.:/{}%=@,*~#'\"[] ", max_size=10))
def test_words(word: str) -> None:
    """A word, a number or a text in quotes is the same value, behind a key, a dash or in brackets."""
    check(f"routes:\n- a: {word}\n- {word}\n- a: [{word}, b]\n- a: {{b: {word}}}\n")


@pytest.mark.parametrize(
    "text",
    [
        "routes:\n- {path: /a, service: b}\n- path: /b\n  methods: [GET]\n",
        "routes:\n  - path: '/a'  # why\n    headers:\n      request:\n        set: {X-A: a}\n",
    ],
)
def test_plain_routes_are_taken(text: str) -> None:
    """Otherwise the comparisons above would compare the parser with itself."""
    assert take_plain(text).runs
    check(text)


# JSON

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(),
    st.sampled_from(
        [
            "a",
            "",
            "${SET}",
            "${NONE}",
            "$$",
            "7",
            "é",
            "a\nb",
            '"',
            "\\",
            "/",
            "x" * 1000,
            "<<",
            "~",
        ]
    ),
    st.text(max_size=4),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["a", "b", "routes", "<<", "", "é", "${SET}", "=", "7"]), inner, max_size=3
    ),
    max_leaves=12,
)


@examples(120)
@given(
    value=st.dictionaries(st.sampled_from(["a", "routes", "x"]), values, max_size=3),
    indent=st.sampled_from([None, 0, 1, 2]),
    separators=st.sampled_from([None, (",", ":"), (" ,", " : "), (", ", ":")]),
    ascii_only=st.booleans(),
    around=st.sampled_from(
        [("", ""), ("", "\n"), ("\n\n ", "\n\n"), ("# c\n", ""), ("", "# c"), ("--- ", "")]
    ),
)
def test_json(
    value: dict[str, Any],
    indent: int | None,
    separators: tuple[str, str] | None,
    ascii_only: bool,
    around: tuple[str, str],
) -> None:
    """Whatever a program writes is what the parser would have read, however it is laid out."""
    text = json.dumps(value, indent=indent, separators=separators, ensure_ascii=ascii_only)
    check(around[0] + text + around[1])


@examples(400)
@given(
    text=st.text("{}[]\",: \nab01-.e+~#'tnu", max_size=24),
)
@example('{"a": 1,}')
@example('{"a": 1, "a": 2}')
@example('{"a"\n: 1}')
@example('{"a": 1e5, "b": -0, "c": 1.50, "d": 012, "e": NaN, "f": -1.0E+2}')
@example('{"a": "b # c", "d": "e: f"}')
@example('{"a": "b\n c"}')
@example("[" * 40 + "]" * 40)
@example('{"a": ' + "[" * 31 + "]" * 31 + "}")
@example('{"a": ' + "[" * 32 + "]" * 32 + "}")
def test_almost_json(text: str) -> None:
    """What only looks like JSON is left to the parser, too."""
    check("{" + text)
    check(text)


def test_json_is_read_as_json() -> None:
    """Otherwise the comparisons above would compare the parser with itself."""
    text = '{"routes": [{"path": "/a", "priority": 7, "service": "${SET}"}]}\n'
    assert read_json(text, ENVIRON, DEEPEST) == {
        "routes": [{"path": "/a", "priority": 7, "service": "value"}]
    }
    check(text)
