"""A gateway on each edge before a strict upstream, and a connection on which a socket can be opened.

Each module has its own `upstream` and `kept_gateways`.
"""

from collections.abc import Iterator

import pytest

from tests.support.client import RawClient
from tests.support.gateway import Gateway
from tests.support.guarded import Kept
from tests.support.sockets import Socket
from tests.support.upstream import Upstream


@pytest.fixture(scope="module")
def gateway(edge: str, kept_gateways: Kept) -> Gateway:
    """The gateway on the edge in turn."""
    return kept_gateways.at(edge)


@pytest.fixture
def up(gateway: Gateway, upstream: Upstream) -> Iterator[Upstream]:
    """The upstream with an empty record; whatever it got must have been beyond doubt."""
    upstream.reset()
    yield upstream
    assert upstream.faults == []
    assert gateway.process.poll() is None, gateway.said()


@pytest.fixture
def socket(gateway: Gateway, up: Upstream) -> Iterator[Socket]:
    """A connection on which a socket can be opened."""
    with RawClient(gateway.port) as client:
        yield Socket(client)
