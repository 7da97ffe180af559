"""Labels of containers: what becomes of them, and that they never take, open or break what the file says."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.config.labels.gather import gather
from propylon.config.labels.labelled import Labelled
from propylon.config.labels.overlay import overlaid
from propylon.config.labels.rule import Matched, parse_rule
from propylon.config.models.discovery import DockerConfig
from propylon.config.models.endpoints import Endpoint, all_paths, builtin_endpoints
from propylon.config.reading.load import Loaded
from propylon.services.containers import read_containers
from tests.config.texts import loaded
from tests.support.docker import container
from tests.support.examples import examples

FILE = """\
services:
  orders: {url: "http://orders:8000"}
  pool: {docker: true}
routes:
  - {name: orders, path: /orders, service: orders}
  - {path: /pool, service: pool, auth: none}
"""
ON = {"propylon.enable": "true"}


def gathered(*containers: dict[str, Any], **rules: Any) -> Labelled:
    """What the labels of these say."""
    return gather(read_containers(list(containers)), DockerConfig(**rules))


def labels(name: str = "web", **keys: str) -> dict[str, str]:
    """Labels of a route of a service on port 80."""
    routes = {f"propylon.routes.{name}.{key}": value for key, value in keys.items()}
    return {**ON, **routes, f"propylon.services.{name}.port": "80"}


def laid(
    file: str, *written: dict[str, str], endpoints: tuple[Endpoint, ...] = (), **rules: Any
) -> tuple[Loaded, list[str]]:
    """The configuration with these labels, each of a container of its own, and what is said of them."""
    containers = [container(f"c{at}", one, created=at) for at, one in enumerate(written)]
    labelled = gathered(*containers, **rules)
    made, complaints = overlaid(loaded(file), labelled, DockerConfig(**rules), endpoints)
    return made, [str(one) for one in (*labelled.complaints, *complaints)]


def test_a_route_and_its_instances() -> None:
    """Two containers of one service are one route with two instances; the places name the labels."""
    one = labels(path="/web", methods="GET, POST", strip_prefix="true", scopes="read")
    made, said = laid(FILE, one, one)
    assert said == []
    route = made.config.routes[-1]
    assert (route.name, route.path, route.service, route.auth) == ("web", "/web", "web", "required")
    assert (route.methods, route.scopes, route.strip_prefix) == (("GET", "POST"), ("read",), True)
    assert made.config.services["web"].docker
    assert len(made.config.routes) == 3
    assert made.places.of(("routes", 2, "path")) == "container c0, label propylon.routes.web.path"
    assert made.base is not None
    assert len(made.base.config.routes) == 2


def test_where_a_container_is_asked() -> None:
    """By the network that is named, or the only one; at the port of the label, or the only one that is exposed."""
    networks = {"Networks": {"a": {"IPAddress": "10.0.0.1"}, "b": {"IPAddress": "10.1.0.1"}}}
    written = ON | {"propylon.routes.web.path": "/web"}
    two = container("web", written, ports=(8000,), NetworkSettings=networks)
    assert gathered(two).instances == {"web": ()}
    assert "several networks (a, b); write discovery.docker.network" in str(
        gathered(two).complaints[0]
    )
    found = gathered(two, network="b").instances["web"]
    assert [(one.host, one.port, one.weight) for one in found] == [("10.1.0.1", 8000, 1)]
    assert "not in the network c" in str(gathered(two, network="c").complaints[0])
    many = container("web", written, ports=(8000, 9000))
    assert "propylon.services.web.port: is missing, and the image exposes several ports" in str(
        gathered(many).complaints[0]
    )
    weighty = container(
        "web", written | {"propylon.services.web.port": "80", "propylon.services.web.weight": "5"}
    )
    assert [(one.port, one.weight) for one in gathered(weighty).instances["web"]] == [(80, 5)]
    composed = container(
        "x", ON | {"propylon.routes.r.path": "/r", "com.docker.compose.service": "shop"}, ports=(1,)
    )
    assert list(gathered(composed).instances) == ["shop"]
    host = container(
        "web", written, ports=(80,), NetworkSettings={"Networks": {"host": {"IPAddress": ""}}}
    )
    assert "no network with an address" in str(gathered(host).complaints[0])


def test_one_that_is_not_well_keeps_its_route() -> None:
    """Its route answers 503, and is not somebody else's meanwhile."""
    sick = container("web", labels(path="/web"), status="Up (unhealthy)")
    labelled = gathered(sick)
    assert labelled.instances == {"web": ()}
    assert [route.name for route in labelled.routes] == ["web"]


@pytest.mark.parametrize(
    ("written", "rules", "count"),
    [
        ({}, {}, 0),
        ({"propylon.enable": "true"}, {}, 1),
        ({"propylon.enable": "false"}, {"default_exposed": True}, 0),
        ({}, {"default_exposed": True}, 1),
        ({"propylon.enable": "yes"}, {"default_exposed": True}, 0),
    ],
)
def test_a_container_has_to_be_enabled(
    written: dict[str, str], rules: dict[str, Any], count: int
) -> None:
    """Or to be one where all are."""
    one = {"propylon.routes.web.path": "/web", "propylon.services.web.port": "80"}
    assert len(gathered(container("c", written | one), **rules).routes) == count


WRONG = {
    'propylon.routes.web.pth: no label sets this key; did you mean "path"?; write it in the file': {
        "pth": "/"
    },
    "propylon.routes.web.cache: no label sets this key": {"path": "/web", "cache": "1"},
    "propylon.routes.web.path: the path must start with": {"path": "web"},
    "propylon.routes.web.methods: methods are written in upper case": {
        "path": "/w",
        "methods": "get",
    },
    'propylon.routes.web.path: /orders/x would take requests from the route "orders" of the file': {
        "path": "/orders/x"
    },
    "propylon.routes.web.path: /health/x would take requests from an endpoint": {
        "path": "/health/x"
    },
    "propylon.routes.web.path: /dashboard would take requests from an endpoint": {
        "path": "/dashboard"
    },
    "propylon.routes.web.path: /team would take requests from an endpoint": {"path": "/team"},
    "propylon.routes.web.auth: auth: none is less than the required of the file": {
        "path": "/w",
        "auth": "none",
    },
    "propylon.routes.web.auth: auth: optional is less": {"path": "/w", "auth": "optional"},
    "propylon.routes.web.hosts: x.test is no host that labels may claim": {
        "path": "/w",
        "hosts": "x.test",
    },
    'propylon.routes.web.service: the service "orders" of the file does not say docker: true': {
        "path": "/w",
        "service": "orders",
    },
    'propylon.routes.web.service: "propylon" is what logs call': {
        "path": "/w",
        "service": "propylon",
    },
}


@pytest.mark.parametrize("expected", WRONG)
def test_what_is_wrong_is_said_and_the_rest_counts(expected: str) -> None:
    """With the container and the label; another container's route is made all the same."""
    team = Endpoint("/team")
    made, said = laid(
        FILE, labels(**WRONG[expected]), labels("fine", path="/fine"), endpoints=(team,)
    )
    assert any(text.startswith(f"container c0, label {expected}") for text in said), said
    names = [route.name for route in made.config.routes]
    assert names[:2] == ["orders", "/pool"]
    assert names[-1] == "fine"
    assert ("web" in names) is ("cache" in WRONG[expected])


def test_no_label_has_the_path_of_an_endpoint() -> None:
    """Whether it is on or off, and on hosts that were given to labels, too; nor what is below one."""
    base = loaded(FILE)
    builtin = builtin_endpoints("/api/v1", base.config.auth)
    own = {*all_paths("/api/v1"), *(one.path for one in builtin)}
    own |= {one.yields for one in builtin if one.yields}
    assert {"/api/v1/auth/token", "/api/v1/gateway"} <= own
    keys: list[dict[str, str]] = []
    for path in (re.sub("{}", "{x}", one) for one in sorted(own)):
        keys += [{"path": path}, {"path": f"{path}/x"}, {"path": path, "hosts": "a.test"}]
    tried = [container(f"c{at}", labels(f"r{at}", **one)) for at, one in enumerate(keys)]
    made, said = overlaid(base, gathered(*tried), DockerConfig(hosts=("a.test",)), ())
    assert made.config is base.config
    assert len(said) == len(keys)
    assert all("from an endpoint of the gateway" in one.message for one in said)


def test_two_containers_that_want_the_same() -> None:
    """The older one has it; so in every worker."""
    made, said = laid(
        FILE,
        labels(path="/w"),
        labels(path="/x"),
        labels("other", path="/w"),
        labels("orders", path="/o"),
    )
    assert [route.path for route in made.config.routes[2:]] == ["/w"]
    assert said == [
        'container c1, label propylon.routes.web.path: the container c0 has another route "web"',
        'container c2, label propylon.routes.other.path: /w would take requests from the route "web" of the container c0',
        'container c3, label propylon.routes.orders.path: the file has a route "orders"',
    ]


def test_labels_ask_for_more_than_the_file_and_never_for_less() -> None:
    """Scopes are added, roles are narrowed; allow_open gives that up."""
    strict = "defaults: {scopes: [read], roles: [clerk, admin]}\n" + FILE
    for keys, names in (
        ({"scopes": "read,write"}, ["web"]),
        ({"scopes": "write"}, []),
        ({"roles": "admin"}, ["web"]),
        ({"roles": "admin,guest"}, []),
        ({"roles": ""}, []),
        ({"auth": "none"}, []),
    ):
        made, _ = laid(strict, labels(path="/w", **keys))
        assert [route.name for route in made.config.routes[2:]] == names, keys
        made, _ = laid(strict, labels(path="/w", **keys), allow_open=True)
        assert [route.name for route in made.config.routes[2:]] == ["web"], keys
    made, _ = laid("defaults: {auth: none}\n" + FILE, labels(path="/w", auth="required"))
    assert made.config.routes[-1].auth == "required"


def test_hosts_that_are_granted() -> None:
    """They belong to labels: a path of the file for any host is none of theirs."""
    made, said = laid(FILE, labels(path="/orders", hosts="a.apps.test"), hosts=["*.apps.test"])
    assert (said, made.config.routes[-1].hosts) == ([], ("a.apps.test",))
    own = FILE + "  - {name: own, path: /, hosts: [a.apps.test], service: orders}\n"
    _, said = laid(own, labels(path="/x", hosts="a.apps.test"), hosts=["*.apps.test"])
    assert 'would take requests from the route "own" of the file' in said[0]


# Traefik's


def traefik(rule: str = "PathPrefix(`/web`)", **more: str) -> dict[str, str]:
    """Labels of a router; `__` stands for a dot."""
    written = {f"traefik.{key.replace('__', '.')}": value for key, value in more.items()}
    router = {"traefik.http.routers.web.rule": rule} if rule else {}
    port = {"traefik.http.services.web.loadbalancer.server.port": "8080"}
    return {"traefik.enable": "true"} | router | port | written


def test_traefiks_labels_are_read_where_that_is_asked_for() -> None:
    """A rule, a port, a prefix that is stripped; entry points are the listeners' business."""
    strip = {
        "http__routers__web__middlewares": "s@docker,c",
        "http__middlewares__s__stripprefix__prefixes": "/web",
        "http__middlewares__c__compress": "true",
        "http__routers__web__entrypoints": "websecure",
    }
    written = traefik("Host(`a.test`) && PathPrefix(`/web`) && Method(`GET`)", **strip)
    made, said = laid(FILE, written, traefik=True, hosts=["a.test"])
    assert said == []
    route = made.config.routes[-1]
    assert (route.path, route.hosts, route.methods, route.strip_prefix) == (
        "/web",
        ("a.test",),
        ("GET",),
        True,
    )
    assert route.auth == "required"
    labelled = gathered(container("c", written), traefik=True)
    assert [one.port for one in labelled.instances["web"]] == [8080]
    assert gathered(container("c", written)).routes == ()
    both = written | labels(path="/own")
    assert [one.name for one in gathered(container("c", both), traefik=True).routes] == ["web"]
    assert gathered(container("c", both), traefik=True).routes[0].raw == {"path": "/own"}


def test_several_paths_are_several_routes() -> None:
    """Of one service."""
    made, said = laid(FILE, traefik("Path(`/a`) || Path(`/b`)"), traefik=True)
    assert said == []
    assert [(one.path, one.exact, one.service) for one in made.config.routes[2:]] == [
        ("/a", True, "web"),
        ("/b", True, "web"),
    ]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (
            traefik(
                http__routers__web__middlewares="auth",
                http__middlewares__auth__basicauth__users="a:b",
            ),
            "its middleware auth (basicauth) is not translated",
        ),
        (
            traefik(http__routers__web__middlewares="auth@file"),
            "its middleware auth@file (which is not defined",
        ),
        (
            traefik(
                http__routers__web__middlewares="r",
                http__middlewares__r__redirectscheme__scheme="https",
            ),
            "it redirects",
        ),
        (
            traefik(
                http__routers__web__middlewares="s",
                http__middlewares__s__stripprefix__prefixes="/w",
            ),
            "it strips another prefix",
        ),
        (
            traefik(http__routers__web__service="api@internal"),
            "its service is of another provider (internal)",
        ),
        (traefik("HostRegexp(`.*`)"), "its rule has more than Host"),
        (traefik("Host(`a`) || PathPrefix(`/x`)"), "its rule joins unlike parts"),
        (traefik("PathPrefix(`/x`) && Path(`/x/y`)"), "its rule asks for Path twice"),
        (traefik("", http__routers__web__entrypoints="web"), "it has no rule"),
        (traefik("Path(`/x/{id:[0-9]+}`)"), "write {name} for one whole segment"),
    ],
)
def test_what_is_not_translated_is_no_route(written: dict[str, str], expected: str) -> None:
    """What protected it would be gone."""
    made, said = laid(FILE, written, traefik=True)
    assert len(made.config.routes) == 2
    assert any(expected in text for text in said), said


def test_rules() -> None:
    """In the ways in which they are written."""
    assert parse_rule('Host("a", "b")') == Matched(("a", "b"))
    assert parse_rule(" (Host(`a`) || Host(`b`)) && PathPrefix(`/x/`)") == Matched(
        ("a", "b"), (), (("/x", False),)
    )
    assert parse_rule("PathPrefix(`/`)") == Matched(paths=(("/", False),))


# Whatever they are


_texts = st.sampled_from(
    [
        "/",
        "/web",
        "/orders",
        "none",
        "true",
        "",
        "x.test",
        "80",
        "{x}",
        "/a/{b}",
        "é",
        "GET",
        "Host(`x.test`)",
        "m",
    ]
)
_keys = st.sampled_from(
    [
        f"propylon.routes.{name}.{key}"
        for name in ("web", "orders", "")
        for key in ("path", "hosts", "auth", "scopes", "service", "rewrite", "strip_prefix")
    ]
    + [
        "propylon.services.web.port",
        "propylon.enable",
        "propylon.",
        "propylon.x.y.z",
        "traefik.enable",
    ]
    + [
        f"traefik.http.{key}"
        for key in (
            "routers.w.rule",
            "routers.w.middlewares",
            "middlewares.m.basicauth",
            "services.w.loadbalancer.server.port",
        )
    ]
)


@given(st.lists(st.dictionaries(_keys, _texts, max_size=8), max_size=4), st.booleans())
@examples(150)
def test_no_labels_are_a_fault_and_none_open_anything(
    written: list[dict[str, str]], exposed: bool
) -> None:
    """The file stays as it is; every other route asks for a token, and stands on a path of nobody's."""
    made, _ = laid(FILE, *written, default_exposed=exposed, traefik=True, hosts=["x.test"])
    file = made.base or made
    assert made.config.routes[:2] == file.config.routes
    for route in made.config.routes[2:]:
        assert route.auth == "required"
        assert route.hosts == ("x.test",) or not route.path.startswith(("/orders", "/pool"))
        assert made.config.services[route.service or ""].docker
