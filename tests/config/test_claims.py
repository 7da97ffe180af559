"""The file wins: a route of a label that is made takes no request from a route of the file, by the gateway's own table."""

from hypothesis import example, given
from hypothesis import strategies as st

from propylon.config.labels.claims import Claim, is_granted
from propylon.proxy.match import Table
from tests.proxy.doubles import Asked, route, service
from tests.support.examples import examples

_SERVICE = service(Asked())
_paths = st.lists(st.sampled_from(["a", "b", "cc", "{}"]), max_size=3).map(
    lambda parts: "/" + "/".join(parts)
)
_hosts = st.sampled_from([None, None, "a.test", "*.test", "*.b.test", "x.b.test"])
_routes = st.tuples(_paths, st.booleans(), _hosts)
_sent = st.lists(st.sampled_from(["a", "b", "cc", "d"]), max_size=4).map(
    lambda parts: ("/" + "/".join(parts)).encode()
)
Written = tuple[str, bool, str | None]


def claim(written: Written) -> Claim:
    """What a route claims."""
    path, exact, host = written
    # As the configuration writes segments of any value.
    return Claim(path.replace("{}", "{x}"), exact, frozenset({host} if host else ()))


def table(*written: Written) -> Table:
    """The gateway's table of these."""
    return Table(
        [
            route(path, _SERVICE, exact=exact, host=host.encode() if host else None, name=str(at))
            for at, (path, exact, host) in enumerate(written)
        ]
    )


@given(
    st.lists(_routes, max_size=5, unique=True),
    _routes,
    st.sampled_from([b"", b"a.test", b"x.b.test", b"b.test", b"other"]),
    st.lists(_sent, min_size=1, max_size=6),
)
@examples(300)
@example([("/a", False, "*.test")], ("/", False, "a.test"), b"a.test", [b"/a"])
@example([("/{}/b", True, None)], ("/a", False, None), b"", [b"/a/b"])
def test_a_route_that_is_made_takes_nothing(
    file: list[Written], label: Written, host: bytes, paths: list[bytes]
) -> None:
    """Whatever a request is, it meets the route of the file that it met before; but on a host that was given to labels."""
    if any(claim(label).takes_from(claim(one)) for one in file):
        return
    before, after = table(*file), table(*file, label)
    for path in paths:
        found = before.find(host, path)
        if found is None:
            continue
        was = int(found.routes[0].name)
        if label[2] is not None and file[was][2] is None:
            continue  # the host is granted to labels
        now = after.find(host, path)
        assert now is not None
        assert now.routes[0].name == str(was)


def test_what_takes_and_what_does_not() -> None:
    """The cases that an operator would think of first."""
    orders = Claim("/orders")
    for path in ("/orders", "/orders/", "/orders/admin", "/ORDERS", "/orders/{id}"):
        assert Claim(path).takes_from(orders), path
    for path in ("/", "/other", "/{any}", "/orders2"):
        assert not Claim(path).takes_from(orders), path
    assert Claim("/orders/x").takes_from(Claim("/{service}/{id}"))
    assert not Claim("/orders/x").takes_from(Claim("/orders", exact=True))
    assert Claim("/a", hosts=frozenset({"x.test"})).takes_from(
        Claim("/a", hosts=frozenset({"*.test"}))
    )
    # A route for one host goes before the label's for any.
    assert not Claim("/a").takes_from(Claim("/a", hosts=frozenset({"x.test"})))


def test_hosts_have_to_be_granted() -> None:
    """By name, or below a wildcard; what is granted below a wildcard is not the name itself."""
    granted = ("shop.test", "*.apps.test")
    assert is_granted("shop.test", granted)
    assert is_granted("a.apps.test", granted)
    assert is_granted("*.apps.test", granted)
    for host in ("apps.test", "xshop.test", "a.test", "*.test", "api.test"):
        assert not is_granted(host, granted), host
