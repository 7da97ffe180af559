"""Several hundred requests that two parsers could read differently: not one gets through."""

import pytest

from tests.smuggling.variants import variants
from tests.support.attack import MARK, assert_safe
from tests.support.client import RawClient, ask
from tests.support.gateway import Gateway
from tests.support.topology import Upstreams
from tests.support.upstream import Upstream

VARIANTS = variants()


def test_there_are_several_hundred() -> None:
    """The table is what it says it is."""
    assert len(VARIANTS) > 300


@pytest.mark.parametrize("name", VARIANTS)
def test_variant_is_refused(
    gateway: Gateway, up: Upstream, upstreams: Upstreams, name: str
) -> None:
    """Refused and closed, and nothing that stands in it or behind it becomes a request."""
    with RawClient(gateway.port) as client:
        client.send(VARIANTS[name])
        if gateway.edge == "portable":
            assert_safe(client, upstreams)
            return
        answer = client.read()
        assert answer.status in (400, 405, 413, 431, 501, 505), answer.head
        assert client.is_closed(), bytes(client.buffer)
    assert MARK not in up.raw
    # A chunked body is found out on its way; the upstream then never takes it for whole.
    assert all(not arrived.complete for arrived in up.requests)
    assert name.startswith("chunk") or upstreams.nothing_arrived()


@pytest.mark.parametrize("name", [name for name in VARIANTS if "'" not in name][::7])
def test_next_client_gets_its_own_answer(
    gateway: Gateway, up: Upstream, upstreams: Upstreams, name: str
) -> None:
    """After an attack on the same gateway, somebody else's request is answered with its own answer."""
    with RawClient(gateway.port) as client:
        client.send(VARIANTS[name])
        answer = ask(gateway.port, target="/up/innocent")
    assert (answer.status, answer.body.split()[:2]) == (200, [b"GET", b"/innocent"])
