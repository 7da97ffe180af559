"""Request paths as the common servers read them: the table of rules, and the readings of a path."""

from itertools import combinations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from propylon.errors import InvalidRequest
from propylon.wire.grammar import ORIGIN_FORM
from propylon.wire.spellings import RULES, Rule, fold, forms, is_plain, readings
from tests.support.examples import examples
from tests.support.readers import READERS, Reader, spellings

_path = st.text("/abAB.;%2eEfF0159\\~_", max_size=24).map(lambda text: b"/" + text.encode())
# Most of these are plain: a property of plain paths must not be left with what chance lets through.
_segments = st.lists(st.text("abef0159~_-", min_size=1, max_size=5), max_size=6)
_mostly_plain = st.one_of(_segments.map(lambda parts: b"/" + "/".join(parts).encode()), _path)

# How a client undoes what a rule does.
UNDONE = {
    "parameters dropped, then decoded": b"%b;%%2fx",
    "escapes decoded": b"%b",
    "? and # decoded, then cut": b"%b%%23x",
    "backslash is a slash": b"\\%b",
    "decoded, then parameters dropped": b"%b%%3bx",
    "final dots and blanks dropped": b"%b.",
    "slashes merged": b"/%b",
    "script before or behind the path": b"/index.php%b",
    "final slash dropped": b"%b/",
    "format dropped": b"%b.json",
    "case folded": b"%b",
}


def folded(path: bytes) -> set[bytes]:
    """Every reading of a path, without its case."""
    return {fold(read) for read in readings(path)}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_the_example_of_a_rule_is_read_as_it_says(rule: Rule) -> None:
    """Each rule of the table names its servers and its source, and its example is no plain path."""
    assert rule.meant in folded(rule.sent)
    assert not is_plain(rule.sent)
    assert rule.servers
    assert rule.source


def test_the_rules_have_names_of_their_own() -> None:
    """No two rules have one name, and the test knows how to undo each."""
    assert [rule.name for rule in RULES] == list(UNDONE)


@pytest.mark.parametrize(
    ("first", "second"), list(combinations(RULES, 2)), ids=lambda rule: rule.name.replace(" ", "-")
)
def test_each_two_rules_together(first: Rule, second: Rule) -> None:
    """A server that has two of the rules, in their order, reads a path that a client spelled for both."""
    sent = b"/admin"
    for rule in (second, first):
        sent = UNDONE[rule.name] % sent
        if rule.name == "case folded":
            sent = sent.upper()
        if rule.name == "escapes decoded":
            sent = sent.replace(b"a", b"%61").replace(b"A", b"%41")
    assert sent == b"/admin/." or b"/admin" in folded(sent), sent  # the former is a dot segment


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_every_server_is_covered(reader: Reader) -> None:
    """What a server reads in a spelling of /admin is among the readings."""
    for path in map(str.encode, spellings("/admin")):
        try:
            found = folded(path)
        except InvalidRequest:
            continue
        assert fold(reader(path)) in found, path


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@given(path=_path)
@examples(200)
def test_any_path_is_read_as_every_server_reads_it(reader: Reader, path: bytes) -> None:
    """Whatever a path is made of, each server's reading is among those that are matched, or the path is refused."""
    try:
        found = folded(path)
    except InvalidRequest:
        return
    assert fold(reader(path)) in found


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (b"/orders", {b"/orders"}),
        (b"/admin;%2fx", {b"/admin;%2fx", b"/admin", b"/admin;/x", b"/admin/x"}),
        (b"/admin;x%2fy", {b"/admin;x%2fy", b"/admin", b"/admin;x/y", b"/admin/y"}),
        (b"/admin;\\x", {b"/admin", b"/admin\\x", b"/admin/x", b"/admin;\\x", b"/admin;/x"}),
        (b"/a%2Fb", {b"/a%2Fb", b"/a/b", b"/a%2fb"}),
        (b"/orders/%2561", {b"/orders/%2561", b"/orders/%61"}),
        (b"/a.b.c", {b"/a.b.c", b"/a.b", b"/a"}),
        (b"/.well-known", {b"/.well-known"}),
        (b"/...", {b"/...", b"/"}),
    ],
)
def test_readings(path: bytes, found: set[bytes]) -> None:
    """Each rule is optional, `;` is read in both orders, and escapes are decoded once."""
    assert set(readings(path)) == found


@pytest.mark.parametrize(
    ("path", "read"),
    [
        (b"/%E2%84%AA", b"/k"),  # KELVIN SIGN folds to k
        (b"/stra%C3%9Fe", b"/strasse"),
        (b"/adm%C4%B1n", b"/admin"),  # dotless i: I in upper case
        (b"/adm%C4%B0n", b"/admin"),  # dotted I: i in lower case
        (b"/%C5%BFecret", b"/secret"),  # long s
        (b"/%EF%AC%81les", b"/files"),  # the ligature fi
    ],
)
def test_case_is_folded_as_widely_as_any_server_does(path: bytes, read: bytes) -> None:
    """Letters that only some comparisons call equal are equal."""
    assert read in folded(path)


@pytest.mark.parametrize(
    "path",
    [
        b"/.",
        b"/..",
        b"/a/./b",
        b"/a/../b",
        b"/a/..",
        b"/%2e",
        b"/%2e%2e/a",
        b"/%2E./a",
        b"/.%2e/a",
        b"/a/..%2fb",
        b"/a/..%5cb",
        b"/a\\..\\b",
        b"/a/..;/b",
        b"/a/..;x=1/b",
        b"/a/%2e%2e%3b/b",
        b"/a/.;/b",
        b"/a/..%20/b",
        b"/a/..%3fx",
        b"/a/..%23",
        b"//..//a",
        b"/%00",
        b"/a%0d%0ab",
        b"/a%1fb",
        b"/a%7fb",
        b"/%c0%ae%c0%ae/a",  # overlong "."
        b"/%c0%af",  # overlong "/"
        b"/%e0%80%af",
        b"/%f0%80%80%af",
        b"/%ff",
        b"/%c3",
        b"/%ed%a0%80",  # a surrogate
        b"/%",
        b"/%2",
        b"/%2g",
        b"/%u002e",
        b"/%%32e",
        b"/a%",
    ],
)
def test_refused(path: bytes) -> None:
    """Dot segments, control bytes, invalid escapes and invalid UTF-8 have no safe reading."""
    assert not is_plain(path)
    with pytest.raises(InvalidRequest):
        readings(path)


@pytest.mark.parametrize(
    "path", [b"/a;x%2fb%3by%5cc\\d;e%23f%3f.g.h. %20/i.php//j./" * 3, b"/" + b"a%2fb;c.%5c" * 8_000]
)
def test_a_path_of_many_readings_is_refused(path: bytes) -> None:
    """A path that holds every oddity, and one that is long and odd, cost no more than their bound."""
    with pytest.raises(InvalidRequest):
        readings(path)


@given(_mostly_plain)
@examples(400)
def test_a_plain_path_reads_as_itself(path: bytes) -> None:
    """If a path is plain, every server reads what was sent."""
    assume(is_plain(path))
    assert folded(path) == {path}


@given(_path)
@examples(400)
def test_no_reading_holds_a_dot_segment(path: bytes) -> None:
    """What is matched has no dot segment left, and begins with a slash."""
    try:
        found = readings(path)
    except InvalidRequest:
        return
    for read in found:
        assert not {b".", b".."} & set(read.split(b"/"))
        assert read.startswith(b"/")


@given(st.text("aB.;%2f5c~ ", max_size=8))
@examples(200)
def test_a_usual_segment_has_one_form(text: str) -> None:
    """A segment of a route has as many forms as rules apply to it, the written one first."""
    segment = text.encode()
    assert forms(segment)[0] == segment
    if set(forms(segment)) == {segment}:
        assert fold(segment) == segment


def test_no_target_holds_a_byte_that_does_not_belong() -> None:
    """Controls, space, `#` and anything above ASCII are in no target."""
    strange = [*range(0x21), 0x23, *range(0x7F, 0x100)]
    passed = [byte for byte in strange if ORIGIN_FORM.fullmatch(b"/a%bb" % bytes([byte]))]
    assert passed == []
