"""What may be written as a cache, what may not, and what is doubted."""

import pytest

from tests.config.texts import SECRET, loaded, problems, route, warnings

WRONG = {
    "30s": "cache: must be the rules of a cache",
    "true": "cache: must be the rules of a cache",
    "{ttl: soon}": "cache.ttl: must be a duration",
    "{ttl: -1}": "cache.ttl: must be a duration",
    "{by: me}": 'cache.by: is "me"; write caller, everyone, or a claim such as claim:tenant',
    "{by: 'claim:'}": 'cache.by: is "claim:"; write caller',
    "{methods: [POST]}": "cache.methods[0]: must be one of GET, HEAD",
    "{methods: []}": "cache.methods: ",
    "{statuses: [100]}": "cache.statuses[0]: must be at least 200",
    "{vary: ['a b']}": "cache.vary[0]: ",
    "{ignore_query: ['*']}": 'cache.ignore_query[0]: has "*", which is no name of a parameter',
    "{max_object: 0}": "cache.max_object: must be at least one byte",
    "{respect: false}": "cache: has `respect: false` without a ttl",
    "{wait: 0}": "cache.wait: must be a duration longer than zero",
    "{store: redis}": "cache.store: unknown key",
}


@pytest.mark.parametrize("written", WRONG)
def test_wrong_caches_are_refused(written: str, directory: object) -> None:
    """Each mistake is named once, with its line and key."""
    [problem] = problems(route(f"path: /a, cache: {written}"))
    assert problem.startswith(f"propylon.yaml:3 routes[0].{WRONG[written]}"), problem


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("{ttl: 0}", "idempotency.ttl: must be a duration longer than zero"),
        (
            "{on_store_failure: open}",
            "idempotency.on_store_failure: must be one of refuse, forward",
        ),
        ("{methods: [GET]}", "idempotency.methods[0]: must be one of POST, PATCH, PUT, DELETE"),
        ("{store: redis}", "idempotency.store: unknown key"),
    ],
)
def test_wrong_idempotency_is_refused(directory: object, written: str, problem: str) -> None:
    """Each mistake is named once."""
    [said] = problems(route(f"path: /a, idempotency: {written}"))
    assert problem in said


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("{store: disk}", "cache.store: must be one of memory, machine, redis"),
        ("{store: redis}", "cache: has `store: redis`, and there is no Redis"),
        ("{size: 10}", "cache.size: must be at least 1000000"),
        ("{secret: short}", "cache.secret: is shorter than 32 characters"),
    ],
)
def test_wrong_stores_are_refused(directory: object, written: str, problem: str) -> None:
    """Each mistake is named once."""
    [said] = problems(f"cache: {written}\n" + route("path: /a"))
    assert problem in said


def test_stores(directory: object) -> None:
    """What is behind the memory of workers, how large it is, and who may write there."""
    text = f"redis: redis://a\ncache: {{store: redis, size: 10MB, secret: {SECRET}}}\n"
    cache = loaded(text + route("path: /a")).config.cache
    assert (cache.store, cache.size) == ("redis", 10_000_000)
    assert SECRET not in repr(cache)
    assert loaded(route("path: /a")).config.cache.store is None


def test_a_claim_needs_a_token(directory: object) -> None:
    """Nobody has one where none is read."""
    [problem] = problems(route("path: /a, auth: none, cache: {by: 'claim:tenant'}"))
    assert "is by claim:tenant, and with `auth: none` no token is read" in problem


def test_defaults_and_none(directory: object) -> None:
    """A route's rules are laid over those of `defaults`; none switches them off."""
    text = "defaults: {cache: {ttl: 30s, by: everyone}}\n" + route("path: /a, auth: optional")
    config = loaded(
        text + "  - {path: /b, service: orders, cache: {by: caller}}\n"
        "  - {path: /c, service: orders, cache: none}\n"
    ).config
    first, second, third = (one.cache for one in config.routes)
    assert first
    assert second
    assert (first.ttl, first.by) == (30, "everyone")
    assert (second.ttl, second.by) == (30, "caller")
    assert not third
    assert third is not None


def test_everyone_behind_a_token_is_doubted() -> None:
    """Only where a token is required: elsewhere all may come anyway."""
    head = f"auth: {{jwt: {{secret: '{SECRET}'}}}}\n"
    said = warnings(head + route("path: /a, cache: {by: everyone}"))
    assert len(said) == 1
    assert "routes[0].cache.by: is everyone on a route that asks for a token" in said[0]
    assert warnings(head + route("path: /a, auth: optional, cache: {by: everyone}")) == []
    assert warnings(head + route("path: /a, cache: {}")) == []


def test_idempotency_keys_of_unverified_callers_are_doubted() -> None:
    """They share their keys; where a token is read or may come, each caller has its own."""
    head = f"auth: {{jwt: {{secret: '{SECRET}'}}}}\n"
    [said] = warnings(head + route("path: /a, auth: none, idempotency: {}"))
    assert "routes[0].idempotency: is on a route with auth: none: all callers that send" in said
    assert warnings(head + route("path: /a, auth: optional, idempotency: {}")) == []
    assert warnings(head + route("path: /a, idempotency: {}")) == []


def test_a_route_in_the_place_of_the_purge_is_doubted() -> None:
    """The path is a usual one for a service."""
    head = f"auth: {{jwt: {{secret: '{SECRET}'}}}}\n"
    [said] = warnings(head + route("path: /api/v1/cache"))
    assert "takes the place of the gateway's own /api/v1/cache" in said
    assert "stored answers cannot be deleted by hand" in said
    assert warnings(head + route("path: /api/v1/cached")) == []
