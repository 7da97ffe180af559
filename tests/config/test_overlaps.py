"""Routes that collide are found in one pass; what is found, and its words, are those of a look at every pair."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from propylon.config.models.syntax import (
    _USUAL,
    _USUAL_NAMED,
    check_method,
    check_path,
    shape,
)
from propylon.config.reading.lines import Lines
from propylon.config.reading.overlaps import Matcher, matcher_of, overlaps, said
from propylon.config.reading.problems import Finding, Path, Places
from tests.support.examples import examples

routes = st.lists(
    st.fixed_dictionaries(
        {"path": st.sampled_from(["/a", "/a/", "/a/{x}", "/a/{y}", "/b"])},
        optional={
            "methods": st.lists(st.sampled_from(["GET", "PUT", "POST"]), max_size=3),
            "hosts": st.lists(st.sampled_from(["a", "A", "b", "c"]), max_size=3),
            "priority": st.integers(0, 2),
            "exact": st.booleans(),
        },
    ),
    max_size=8,
)


def named(path: Path, name: str) -> str:
    """What a route is called, with a line for each but the first."""
    return Places("", Lines({("routes", at): at * 10 for at in range(9)})).named(path, name)


def pairwise(matchers: list[Matcher]) -> Iterator[Finding]:
    """The rule itself, pair by pair."""
    alike: defaultdict[tuple[str, bool, str], list[Matcher]] = defaultdict(list)
    for one in matchers:
        for host in one.hosts or {""}:
            alike[one.shape, one.exact, host].append(one)
    for group in alike.values():
        for at, one in enumerate(group):
            yield from against(one, group[:at], group[at + 1 :])


def against(one: Matcher, before: list[Matcher], after: list[Matcher]) -> Iterator[Finding]:
    """Compare a route with those before and after it."""
    path: Path = ("routes", one.at, "path")
    for other in before:
        meets = not one.methods or not other.methods or one.methods & other.methods
        if other.priority == one.priority and meets:
            yield path, f"duplicate: matches just what {said(other, named)} matches"
            return
    for other in (*before, *after):
        if (
            other.priority > one.priority
            and other.covers(one)
            and (other.hosts == one.hosts or (one.hosts and other.hosts > one.hosts))
        ):
            yield path, f"unreachable: {said(other, named)} matches the same and goes first"
            return


@examples(200)
@given(written=routes)
def test_one_pass_finds_what_pairs_find(written: list[dict[str, Any]]) -> None:
    """The same findings, in the same order."""
    matchers = [matcher_of(at, route) for at, route in enumerate(written)]
    assert list(overlaps(matchers, named)) == list(pairwise(matchers))


@examples(400)
@given(path=st.text("/ab{}_1.%-~", max_size=10))
def test_a_shape_has_no_names(path: str) -> None:
    """Segment by segment: what begins with a brace is any segment."""
    segments = path.rstrip("/").split("/")
    assert shape(path) == "/".join("{}" if part.startswith("{") else part for part in segments)


@examples(120)
@given(path=st.from_regex(_USUAL_NAMED, fullmatch=True), names=st.booleans())
def test_usual_paths_are_valid(path: str, names: bool) -> None:
    """What is accepted at a look is accepted by the full check: with a slash behind it the look fails."""
    if names or _USUAL.fullmatch(path):
        assert check_path(path, names=names) == path
        assert check_path(path + "/", names=names) == path + "/"


def test_usual_methods() -> None:
    """The usual ones pass the full check, too."""
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "WEBSOCKET"):
        assert check_method(method) == method
