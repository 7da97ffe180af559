"""What may be written as a limit, what may not, and what is doubted."""

from typing import Any

import pytest

from propylon.config.models.limits import LimitConfig
from propylon.config.models.units import Rate
from tests.config.texts import SECRET, loaded, problems, route, warnings

WRONG = {
    "{rate: 0/s}": "rate: must be a rate of at least one",
    "{rate: -1/s}": "rate: must be a rate of at least one",
    "{rate: 10}": "rate: must be a rate of at least one",
    "{rate: 1000001/s}": "rate: is more than 1000000 a second",
    "{rate: 99999999999/s}": "rate: must be a rate of at least one",
    "{rate: 1/s, burst: 0}": "burst: must be at least 1",
    "{rate: 1/s, burst: -5}": "burst: must be at least 1",
    "{rate: 1/d, burst: 400}": "burst: takes more than a year to come back at 1/d",
    "{burst: 5, in_flight: 1}": "burst: needs rate beside it",
    "{rate: 5/s, burst: 9, window: sliding}": "window: `window: sliding` has one number",
    "{rate: 5/s, window: fixed}": "window: must be one of bucket, sliding",
    "{rate: 5/s, cost: 6}": "cost: is more than the 5 units that there are at once",
    "{rate: 5/s, cost: -1}": "cost: must be at least 0",
    "{rate: 5/s, charge: X-Cost}": "charge: must be header:NAME",
    "{rate: 5/s, charge: 'header:a b'}": "charge: ",
    "{rate: 5/s, key: cookie:a}": "key: must be one of caller, ip, route, service, header:NAME",
    "{rate: 5/s, key: 'header:'}": "key: must be one of caller",
    "{rate: 5/s, key: []}": "key: is empty",
    "{rate: 5/s, ipv6_prefix: 8}": "ipv6_prefix: must be at least 16",
    "{in_flight: 0}": "in_flight: must be at least 1",
    "{in_flight: 2, charge: 'header:X-Cost'}": "in_flight: is the only limit here, and charge needs",
    "{}": "mode: is a limit without rate and in_flight",
    "{rate: 5/s, mode: dry}": "mode: must be one of enforce, shadow",
    "{rate: 5/s, on_store_failure: shut}": "on_store_failure: must be one of local, open, closed",
    "{rate: 5/s, name: 'a b'}": "name: must be a name of letters",
    "{rate: 5/s, brust: 3}": 'brust: unknown key; did you mean "burst"?',
}


@pytest.mark.parametrize("written", WRONG)
@pytest.mark.parametrize("place", ["routes[0].rate_limit", "defaults.rate_limit"])
def test_wrong_limits_are_refused(written: str, place: str, directory: object) -> None:
    """Each mistake is named once, with its line and key, on a route and in `defaults`."""
    if place.startswith("routes"):
        text, line = route(f"path: /a, rate_limit: {written}"), 3
    else:
        text, line = f"defaults: {{rate_limit: {written}}}\n" + route("path: /a"), 1
    [problem] = problems(text)
    assert problem.startswith(f"propylon.yaml:{line} {place}.{WRONG[written]}"), problem


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("[{rate: 1/s}, {rate: 2/s}]", "has several limits, so each needs a name"),
        ("[{name: a, rate: 1/s}, {name: a, rate: 2/s}]", 'has two limits of the name "a"'),
        ("often", "must be a limit such as {rate: 10/s}, a list of them, or none"),
        ("5", "must be a list, not a number"),
    ],
)
def test_wrong_lists_are_refused(written: str, said: str, directory: object) -> None:
    """A list needs names that differ; anything else is no limit."""
    [problem] = problems(route(f"path: /a, rate_limit: {written}"))
    assert problem.startswith(f"propylon.yaml:3 routes[0].rate_limit: {said}")


def test_mistake_in_a_list_is_found(directory: object) -> None:
    """A mistake in one of several limits has its place in the list."""
    text = route("path: /a, rate_limit: [{name: a, rate: 1/s}, {name: b, rate: often}]")
    assert problems(text)[0].startswith("propylon.yaml:3 routes[0].rate_limit[1].rate: must be")


def limits(rest: str, **environ: str) -> Any:
    """The limits of the only route, and those of `defaults`."""
    config = loaded(route(f"path: /a, auth: none{rest}"), environ).config
    return config.routes[0].rate_limit, config.defaults.rate_limit


def test_forms_of_a_limit(directory: object) -> None:
    """One limit, a list, and none; what is not written is by caller, enforced, and a bucket."""
    [limit], _ = limits(", rate_limit: {rate: 600/m}")
    assert (limit.label, limit.key, limit.mode, limit.window) == (
        "default",
        ("caller",),
        "enforce",
        "bucket",
    )
    assert (limit.rate, limit.burst, limit.cost) == (Rate(600, 60.0), None, None)
    several, _ = limits(", rate_limit: [{name: a, rate: 1/s}, {name: b, rate: 3/d}]")
    assert [one.label for one in several] == ["a", "b"]
    assert limits(", rate_limit: none") == ((), None)
    assert limits("") == (None, None)
    [limit], _ = limits(", rate_limit: {in_flight: 3, key: [ip, 'header:X-Key', ip]}")
    assert (limit.rate, limit.key) == (None, ("ip", "header:X-Key"))


def test_variable_per_second(directory: object) -> None:
    """RATE_LIMIT_PER_SECOND=N is a default of N a second with a burst of 2N; a wrong one is named."""
    _, [limit] = limits("", RATE_LIMIT_PER_SECOND="10")
    assert limit == LimitConfig(rate=Rate(10, 1.0), burst=20)
    own, _ = limits(", rate_limit: none", RATE_LIMIT_PER_SECOND="10")
    assert own == ()
    for wrong in ("0", "-1", "ten", "1.5"):
        found = problems(route("path: /a"), {"RATE_LIMIT_PER_SECOND": wrong})
        assert found[0].startswith("RATE_LIMIT_PER_SECOND defaults.rate_limit.rate: must be"), wrong
    assert limits("", RATE_LIMIT_PER_SECOND=" ") == (None, None)


def test_default_is_not_repeated_by_routes(directory: object) -> None:
    """A limit in `defaults` is one limit: a route that writes none of its own has none of its own."""
    text = "defaults: {rate_limit: {rate: 10/s, burst: 20}}\n" + route(
        "path: /a, rate_limit: {rate: 5/s}"
    )
    [limit] = loaded(text).config.routes[0].rate_limit or ()
    assert (limit.rate, limit.burst) == (Rate(5, 1.0), None)


DOUBT = (
    'counts by header:X-Key, and a client without a token may send another one with each request (route "/a");'
    " add a limit with key: ip"
)
KEYED = f"auth: {{jwt: {{secret: {SECRET}}}}}\n"


@pytest.mark.parametrize(
    ("rest", "doubted"),
    [
        ("auth: none, rate_limit: {rate: 1/s, key: 'header:X-Key'}", True),
        ("auth: optional, rate_limit: {rate: 1/s, key: 'header:X-Key'}", True),
        ("auth: none, rate_limit: {rate: 1/s, key: ['header:X-Key', ip]}", True),
        ("rate_limit: {rate: 1/s, key: 'header:X-Key'}", False),
        ("auth: none, rate_limit: {rate: 1/s, key: ip}", False),
        ("auth: none, rate_limit: {rate: 1/s, key: route}", False),
        ("auth: none, rate_limit: none", False),
    ],
)
def test_limit_that_can_be_dodged_is_doubted(rest: str, doubted: bool, directory: object) -> None:
    """A limit by a header on a route without a token is doubted, unless another limit holds."""
    said = warnings(KEYED + route(f"path: /a, {rest}"))
    assert said == ([f"propylon.yaml:4 routes[0].rate_limit: {DOUBT}"] if doubted else [])


def test_limit_beside_one_that_holds_is_not_doubted(directory: object) -> None:
    """With a limit by address beside it, another header gains a client nothing."""
    text = "[{name: a, rate: 9/s, key: ip}, {name: b, rate: 1/s, key: 'header:X-Key'}]"
    assert warnings(KEYED + route(f"path: /a, auth: none, rate_limit: {text}")) == []


def test_doubt_about_a_default_is_said_once(directory: object) -> None:
    """However many routes it counts."""
    text = "defaults: {auth: none, rate_limit: {rate: 1/s, key: 'header:X-Key'}}\n" + route(
        "path: /a"
    )
    text += "  - {service: orders, path: /b}\n"
    assert warnings(text) == [f"propylon.yaml:1 defaults.rate_limit: {DOUBT}"]
