"""A table that grows out of another one: what it finds, what it shares, and that it leaves the other one alone."""

import gc
from collections.abc import Iterator

from hypothesis import example, given
from hypothesis import strategies as st

from propylon.loop.slices import at_once
from propylon.proxy.leaf import Leaf
from propylon.proxy.match import Table
from propylon.proxy.route import Route
from propylon.proxy.tree import Node
from tests.proxy.doubles import route, service
from tests.proxy.test_match import outcome
from tests.support.examples import examples

SERVICE = service()
SEGMENTS = ["a", "b", "{}", "A", "c;x", "%61"]
HOSTS = [None, None, b"h", b"*.h", b"x.h"]
METHODS = [None, frozenset({"GET"}), frozenset({"POST", "PUT"})]
ASKED = [
    (method, host, path)
    for method in ("GET", "POST", "DELETE")
    for host in (b"", b"h", b"x.h", b"y.h")
    for path in (b"/", b"/a", b"/a/b", b"/A/b", b"/b/a/c", b"/%61/b", b"/c;x", b"/c/a", b"/a//b")
]


def made(path: str, exact: bool, host: bytes | None, methods: frozenset[str] | None) -> Route:
    """A route on a place."""
    return route(path, SERVICE, exact=exact, host=host, methods=methods)


def place(one: Route) -> tuple[object, ...]:
    """What no two routes here share."""
    return one.pattern.segments, one.pattern.exact, one.pattern.host, one.pattern.methods


_routes = st.builds(
    made,
    st.lists(st.sampled_from(SEGMENTS), max_size=3).map(lambda parts: "/" + "/".join(parts)),
    st.booleans(),
    st.sampled_from(HOSTS),
    st.sampled_from(METHODS),
)
FOLDED = [("/A", b"*.h"), ("/b", None), ("/b", b"h"), ("/c", None), ("/c", b"h")]
# What comes, and which of those that are there go, reload by reload.
_reloads = st.lists(
    st.tuples(st.lists(_routes, max_size=4), st.sets(st.integers(0, 9), max_size=4)),
    min_size=1,
    max_size=5,
)


def after(routes: list[Route], come: list[Route], go: set[int]) -> list[Route]:
    """The routes of the next configuration; the configuration refuses two on one place with a method in common."""
    staying = [one for at, one in enumerate(routes) if at not in go]
    taken = {(*place(one)[:3], method) for one in staying for method in one.pattern.methods or "*"}
    for one in come:
        wanted = {(*place(one)[:3], method) for method in one.pattern.methods or "*"}
        others = {key for key in taken if key[:3] == place(one)[:3]}
        if not (wanted & taken or (others and (one.pattern.methods is None or _any(others)))):
            staying.append(one)
            taken |= wanted
    return staying


def _any(keys: set[tuple[object, ...]]) -> bool:
    return any(key[3] == "*" for key in keys)


def nodes(table: Table) -> Iterator[Node[Leaf]]:
    """All nodes of a table but its roots."""
    for tree in table.trees.values():
        for root in {id(tree.sent): tree.sent, id(tree.folded): tree.folded}.values():
            yield from list(root.without(None))[1:]


def picture(table: Table) -> object:
    """All that can be changed of a table's trees."""

    def of(node: Node[Leaf]) -> object:
        below = sorted(((str(key), of(child)) for key, child in node.children()), key=str)
        return id(node), node.exact, node.prefix, below

    return [(host, of(tree.sent), of(tree.folded)) for host, tree in table.trees.items()]


@given(_reloads)
@examples(40)
# The last route that servers read in several ways goes, and another one of its host stays or comes.
@example(
    [
        ([made(path, False, host, None) for path, host in FOLDED], set()),
        ([made("/a", False, b"*.h", None)], {0}),
    ]
)
def test_a_table_that_grew_is_one_made_at_once(reloads: list[tuple[list[Route], set[int]]]) -> None:
    """After any number of reloads it answers any request alike, has no node too many, and has changed none before it."""
    routes: list[Route] = []
    table = Table(())
    for come, go in reloads:
        routes = after(routes, come, go)
        before, seen = table, picture(table)
        table = at_once(Table.slowly(routes, (), None, before))
        alone = Table(routes)
        for asked in ASKED:
            assert outcome(table, *asked) == outcome(alone, *asked)
        assert picture(before) == seen
        assert not any(node.is_bare for node in nodes(table))
        assert sum(1 for _ in nodes(table)) == sum(1 for _ in nodes(alone))


def many(*changed: str) -> list[Route]:
    """Routes on one level, and some more."""
    return [made(f"/api/v1/{number}/{{}}/x", False, None, None) for number in range(200)] + [
        made(path, False, None, None) for path in changed
    ]


def test_what_did_not_change_is_shared() -> None:
    """One route of many changes: the nodes on the way to it are new, and all others are those of the old table."""
    routes = many("/api/v1/old")
    before = Table(routes)
    table = at_once(
        Table.slowly([*routes[:-1], made("/api/v1/new", False, None, None)], (), None, before)
    )
    old = set(map(id, nodes(before)))
    new = [node for node in nodes(table) if id(node) not in old]
    assert len(new) == len(("api", "v1", "new"))
    dropped = list(before.parts(table))
    assert routes[-1] in dropped
    assert not set(map(id, routes[:-1])) & set(map(id, dropped))


def test_the_parts_of_a_table_stand_before_what_they_hold() -> None:
    """Who drops them in that order frees little at a time: each part frees itself and what only it holds."""
    table = Table([*many(), made("/A/{}", True, b"h", None), made("/b", False, b"*.h", None)])
    parts = list(table.parts(Table(())))
    at = {id(part): number for number, part in enumerate(parts)}
    assert len(at) == len(parts)
    for part in parts:
        held = gc.get_referents(part)
        if isinstance(part, Node):
            held += [child for _, child in part.children()]
        assert all(at[id(other)] > at[id(part)] for other in held if id(other) in at)


def test_paths_that_are_remembered_go_on_with_the_same_routes() -> None:
    """Nothing changed: what was found once need not be looked for again."""
    routes = many()
    before = Table(routes)
    assert outcome(before, "GET", b"", b"/api/v1/7/a/x") is routes[7]
    table = at_once(Table.slowly(list(routes), (), None, before))
    assert table._known == before._known != {}
    changed = at_once(Table.slowly(routes[1:], (), None, before))
    assert changed._known == {}
