"""What the operator may write about instances, retries, the breaker, probes, ejection, the registry."""

import pytest
from pydantic import ValidationError

from propylon.config.models.schema import (
    CircuitConfig,
    EjectionConfig,
    GatewayConfig,
    HealthConfig,
    RegistryConfig,
    RetryConfig,
    ServiceConfig,
)
from tests.config.texts import loaded, problems


def service(written: str) -> ServiceConfig:
    """Load what is written under services.a."""
    return loaded(f"services: {{a: {{{written}}}}}").config.services["a"]


def test_what_is_not_said_has_its_default() -> None:
    """Retries and the breaker work unasked; probes govern nothing."""
    written = ServiceConfig()
    assert written.retry == RetryConfig(
        attempts=3, backoff=0.1, max_backoff=2.0, budget=0.2, non_idempotent=False
    )
    assert written.retry.on == ("connect-failure", "reset", 502, 503, 504)
    assert written.circuit == CircuitConfig(probes=1)
    assert written.health is None
    assert written.ejection == EjectionConfig(failures=5, time=30.0, max=0.5)


def test_the_breaker_is_made_by_keyword() -> None:
    """CircuitConfig has its defaults in Python too."""
    circuit = CircuitConfig()
    assert (circuit.failure_threshold, circuit.min_throughput, circuit.probes) == (5, 5, 1)
    assert (circuit.failure_window, circuit.recovery_timeout) == (120.0, 60.0)
    assert circuit.half_open_timeout == 30.0
    made = CircuitConfig(
        failure_threshold=5,
        recovery_timeout=60,
        half_open_timeout=30,
        failure_window=120,
        min_throughput=5,
    )
    assert made == circuit


@pytest.mark.parametrize("key", CircuitConfig.model_fields)
@pytest.mark.parametrize("value", [0, -1])
def test_nothing_of_the_breaker_is_less_than_one(key: str, value: int) -> None:
    """A breaker that opens on nothing, or for no time, is refused."""
    with pytest.raises(ValidationError):
        CircuitConfig.model_validate({key: value})
    assert CircuitConfig.model_validate({key: 1}) is not None


def test_instances_have_weights_and_priorities() -> None:
    """A plain URL weighs 1, a mapping may say more, and `urls` are all of them."""
    read = service(
        "instances: ['http://a', {url: 'http://b/base', weight: 3}, {url: 'http://c', priority: -1}]"
    )
    members = [(one.url, one.weight, one.priority) for one in read.members]
    assert members == [("http://a", 1, 0), ("http://b/base", 3, 0), ("http://c", 1, -1)]
    assert read.urls == ("http://a", "http://b/base", "http://c")
    (only,) = service("url: 'http://a'").members
    assert (only.url, only.weight, only.priority) == ("http://a", 1, 0)
    assert service("").members == ()


def test_probes_govern_where_they_are_written() -> None:
    """An empty mapping is written, a key without a value is not."""
    assert service("health: {}").health == HealthConfig()
    assert service("health: ").health is None
    health = HealthConfig()
    assert (health.path, health.interval, health.timeout) == ("/health", 30.0, 1.0)
    assert (health.healthy_after, health.unhealthy_after) == (1, 1)


def test_triggers_are_names_and_statuses() -> None:
    """What is tried again, told apart."""
    retry = service("retry: {on: [timeout, 500, '502', '${S:-599}'], budget: 0.05}").retry
    assert (retry.kinds, retry.statuses) == (frozenset({"timeout"}), frozenset({500, 502, 599}))
    assert retry.budget == 0.05
    assert service("retry: {on: []}").retry.on == ()


TRIGGER = "must be one of connect-failure, reset, timeout, or a status from 500 to 599"
NEITHER = "is neither a network (10.0.0.0/8) nor a host name (*.svc.cluster.local)"
TWICE = "the same instance is listed twice: each needs a host, a port or a socket of its own"
SHARE = 'must be a share: text such as "20%", or a number from 0 to 1'
ONE_PROBLEM = {
    "instances: [a]": "instances[0]: must be a URL that starts with http:// or https://",
    "instances: [{url: a}]": "instances[0].url: must be a URL that starts with http:// or https://",
    "instances: [{weight: 1}]": "instances[0].url: is missing",
    "instances: [{url: 'http://a', weigth: 1}]": "instances[0].weigth: unknown key;"
    ' did you mean "weight"?',
    "instances: [{url: 'http://a', weight: 0}]": "instances[0].weight: must be at least 1",
    "instances: [{url: 'http://a', weight: 1001}]": "instances[0].weight: must be at most 1000",
    "instances: ['http://a', {url: 'http://a', weight: 2}]": f"instances: {TWICE}",
    "instances: ['http://a/b', 'http://A:80/c']": f"instances: {TWICE}",
    "url: 'http://a', instances: [{url: 'http://b'}]": "instances: a service has a url or"
    " instances, not both",
    "retry: {attempts: 0}": "retry.attempts: must be at least 1",
    "retry: {attempts: 11}": "retry.attempts: must be at most 10",
    "retry: {backoff: 3s, max_backoff: 2s}": "retry.max_backoff: must not be shorter than backoff",
    "retry: {on: [404]}": f"retry.on[0]: {TRIGGER}",
    "retry: {on: [true]}": f"retry.on[0]: {TRIGGER}",
    "retry: {on: [connect_failure]}": f'retry.on[0]: {TRIGGER}; did you mean "connect-failure"?',
    "retry: {on: reset}": "retry.on: must be a list, not text; put it in [ ]",
    "retry: {budget: 20}": f"retry.budget: {SHARE}",
    "retry: {budget: 120%}": f"retry.budget: {SHARE}",
    "retry: {non_idempotent: maybe}": "retry.non_idempotent: must be true or false",
    "circuit: {failure_threshold: 0}": "circuit.failure_threshold: must be at least 1",
    "circuit: {failure_threshold: 1.5}": "circuit.failure_threshold: must be a whole number",
    "circuit: {recovery_timeout: 500ms}": "circuit.recovery_timeout: must be at least 1 s",
    "circuit: {threshold: 5}": 'circuit.threshold: unknown key; did you mean "failure_threshold"?',
    "circuit: false": "circuit: must be a mapping of keys to values, not true or false",
    "health: {path: 'http://a/health'}": 'health.path: the path must start with "/"',
    "health: {path: /a b}": "health.path: the path has a space, which cannot stand there as it is",
    "health: {interval: 0}": "health.interval: must be a duration longer than zero",
    "health: {interval: 1ms}": "health.interval: must be at least 0.01 s",
    "health: {healthy_after: 0}": "health.healthy_after: must be at least 1",
    "health: /health": "health: must be a mapping of keys to values, not text",
    "health: {pat: /}": 'health.pat: unknown key; did you mean "path"?',
    "ejection: {failures: 0}": "ejection.failures: must be at least 1",
    "ejection: {max: -1%}": f"ejection.max: {SHARE}",
    "ejection: {time: 0}": "ejection.time: must be a duration longer than zero",
}


@pytest.mark.parametrize(("written", "expected"), ONE_PROBLEM.items())
def test_each_problem_of_a_service_is_one(written: str, expected: str) -> None:
    """A mistake under a service is one problem, at its key."""
    assert [f"propylon.yaml:1 services.a.{expected}"] == problems(f"services: {{a: {{{written}}}}}")


def test_who_may_be_registered() -> None:
    """Nobody unless it is said; networks and names are told apart."""
    registry = GatewayConfig().registry
    assert (registry.enabled, registry.allow, registry.ttl) == (True, {}, None)
    text = "registry: {allow: [10.0.0.0/8, 'fd00::/8', 192.0.2.7, '*.SVC.cluster.local', worker-*]}"
    read: RegistryConfig = loaded(text).config.registry
    rules = ("10.0.0.0/8", "fd00::/8", "192.0.2.7/32", "*.svc.cluster.local", "worker-*")
    assert read.allow == {"": rules}
    assert loaded("registry: {ttl: 60s}").config.registry.ttl == 60.0


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("ttl: 500ms", "ttl: must be at least 1 s"),
        ("ttl: 0", "ttl: must be at least 1 s"),
        ("enabled: perhaps", "enabled: must be true or false"),
        ("allow: 10.0.0.0/8", "allow: must be a list, not text; put it in [ ]"),
        (
            "allow: [10.0.0.1/8]",
            'allow[0]: "10.0.0.1/8" has bits set beyond its prefix; did you mean 10.0.0.0/8?',
        ),
        (
            "allow: [169.254.169.254]",
            "allow[0]: 169.254.169.254 is link-local, and such addresses are never registered",
        ),
        (
            "allow: ['fe80::/10']",
            "allow[0]: fe80::/10 is link-local, and such addresses are never registered",
        ),
        ("allow: ['10.*']", 'allow[0]: "10.*": networks are written as 10.0.0.0/8, without a *'),
        (
            "allow: ['http://a']",
            f'allow[0]: "http://a" {NEITHER}',
        ),
    ],
)
def test_each_problem_of_the_registry_is_one(written: str, expected: str) -> None:
    """A mistake under the registry is one problem, at its key."""
    assert [f"propylon.yaml:1 registry.{expected}"] == problems(f"registry: {{{written}}}")


def test_bodies_are_safe_unless_the_operator_says_otherwise() -> None:
    """A body that the service may leave unread closes its connection; any other leaves it open."""
    assert (ServiceConfig().bodies_on_get, ServiceConfig().bodies) == ("close", "reuse")
    written = service("url: http://a, bodies_on_get: refuse, bodies: close")
    assert (written.bodies_on_get, written.bodies) == ("refuse", "close")


def test_a_value_for_bodies_that_is_none_is_named() -> None:
    """The message says what may be written."""
    text = "services: {a: {url: http://a, bodies_on_get: drop, bodies: closed}}"
    assert problems(text) == [
        "propylon.yaml:1 services.a.bodies_on_get: must be one of close, refuse, pass",
        'propylon.yaml:1 services.a.bodies: must be one of reuse, close; did you mean "close"?',
    ]
