"""Who asks from this machine: a fact of the socket, which nothing that is sent over it can make true."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from propylon import Gateway
from propylon.edge.asgi import serve
from propylon.edge.protocol import GatewayProtocol
from propylon.edge.state import STATE_KEY, EdgeState
from tests.edge.test_asgi import HOST, Message, scope
from tests.edge.test_regressions import Wire
from tests.support.examples import examples
from tests.support.tokens import SECRET, authorized
from tests.upstream.peer import until

Headers = list[tuple[str, str]]
EDGES = ("fast", "portable")
TRUSTED = {
    "nobody": [],
    "this machine": ["127.0.0.0/8", "::1/128"],
    "a network": ["10.0.0.0/8", "fd00::/8"],
    "everybody": ["0.0.0.0/0", "::/0"],
}
FAR = "203.0.113.9"
HERE = ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"]
# What is not this machine, whatever it says of itself.
ELSEWHERE = ["192.0.2.1", "10.0.0.5", "fd00::5", "::ffff:10.0.0.5", "169.254.1.1", "0.0.0.0", ""]


class From(Wire):
    """A client's transport, from an address of one's choice."""

    def __init__(self, peer: str) -> None:
        super().__init__()
        self.peer = peer

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """The peer, as a socket would tell it: that of a Unix socket has no address."""
        if name != "peername":
            return default
        return (self.peer, 1234) if self.peer else ""


class Connection:
    """A connection to the gateway, from an address of one's choice."""

    def __init__(self, edge: EdgeState, peer: str) -> None:
        state: Any = SimpleNamespace(connections=set())
        self.protocol = GatewayProtocol(None, state, {STATE_KEY: edge})
        self.wire = From(peer)
        self.protocol.connection_made(self.wire)

    async def ask(self, headers: Headers) -> int:
        """The status of /metrics."""
        self.wire.written.clear()
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
        asked = f"GET /metrics HTTP/1.1\r\nHost: a.test\r\n{lines}\r\n"
        self.protocol.data_received(asked.encode("latin-1"))
        await until(lambda: b"\r\n\r\n" in self.wire.written)
        return int(bytes(self.wire.written).split(b" ")[1])

    def close(self) -> None:
        """Leave."""
        self.protocol.connection_lost(None)


async def over_asgi(edge: EdgeState, peer: str, headers: Headers) -> int:
    """The status of /metrics on the portable path."""
    sent: list[Message] = []

    async def receive() -> Message:
        return await asyncio.Future()

    async def send(message: Message) -> None:
        sent.append(message)

    asked = scope(
        path="/metrics",
        raw_path=b"/metrics",
        client=(peer, 1234) if peer else None,
        headers=[
            HOST,
            *((name.lower().encode(), value.encode("latin-1")) for name, value in headers),
        ],
    )
    await serve(edge, asked, receive, send)
    status: int = sent[0]["status"]
    return status


class Gateways:
    """A gateway for each choice of trusted proxies, on one loop."""

    def __init__(self, folder: Path) -> None:
        self.runner = asyncio.Runner()
        self._stack = contextlib.AsyncExitStack()
        self._edges: dict[str, EdgeState] = {}
        for name, networks in TRUSTED.items():
            file = folder / f"{name.replace(' ', '-')}.yaml"
            tokens = {"enabled": False, "database": f"sqlite:///{folder}/none.db"}
            auth = {"jwt": {"secret": SECRET}, "tokens": tokens}
            config = {"server": {"trusted_proxies": networks}, "auth": auth}
            file.write_text(yaml.safe_dump({**config, "log": {"level": "critical"}}))
            self._edges[name] = self.runner.run(self._start(Gateway.from_file(file, {})))

    async def _start(self, gateway: Gateway) -> EdgeState:
        state = await self._stack.enter_async_context(gateway.lifespan())
        edge = state[STATE_KEY]
        assert isinstance(edge, EdgeState)
        return edge

    def statuses(self, edge: str, trusted: str, peer: str, *requests: Headers) -> list[int]:
        """What a client gets for each of these, one after the other over one connection."""

        async def main() -> list[int]:
            if edge == "portable":
                return [await over_asgi(self._edges[trusted], peer, one) for one in requests]
            connection = Connection(self._edges[trusted], peer)
            try:
                return [await connection.ask(one) for one in requests]
            finally:
                connection.close()

        return self.runner.run(main())

    def close(self) -> None:
        """End them."""
        self.runner.run(self._stack.aclose())
        self.runner.close()


@pytest.fixture(scope="module")
def gateways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateways]:
    """All of them, for as long as the cases last."""
    running = Gateways(tmp_path_factory.mktemp("loopback"))
    yield running
    running.close()


def said(*values: str) -> Headers:
    """What a proxy, or whoever pretends to be one, says of its client."""
    return [("X-Forwarded-For", value) for value in values]


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("trusted", TRUSTED)
def test_from_here(gateways: Gateways, edge: str, trusted: str) -> None:
    """A socket of this machine's, through which nobody else speaks: /metrics answers."""
    assert [gateways.statuses(edge, trusted, peer, []) for peer in HERE] == [[200]] * len(HERE)


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("trusted", TRUSTED)
def test_from_elsewhere(gateways: Gateways, edge: str, trusted: str) -> None:
    """Any other socket: asked for a token; with the scope `admin` it is let in."""
    admin = authorized(scope="admin")
    found = [gateways.statuses(edge, trusted, peer, [], admin) for peer in ELSEWHERE]
    assert found == [[401, 200]] * len(ELSEWHERE)


CLAIMS = [
    said("127.0.0.1"),
    said("::1"),
    said("localhost"),
    said("[::1]:80"),
    said("127.0.0.1:80"),
    said("::ffff:127.0.0.1"),
    said("127.0.0.1, 127.0.0.1"),
    said("127.0.0.1", "127.0.0.1"),
    said("127.0.0.1", "10.0.0.5"),
    said(f"{FAR}, 127.0.0.1"),
    said("unknown"),
    said(""),
    [("X-Real-IP", "127.0.0.1")],
    [("Forwarded", "for=127.0.0.1")],
    [("X-Forwarded-Host", "127.0.0.1"), ("X-Forwarded-Proto", "https")],
    [("X-Client-IP", "127.0.0.1"), ("True-Client-IP", "127.0.0.1"), *said("127.0.0.1")],
]


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("trusted", TRUSTED)
def test_nobody_becomes_this_machine(gateways: Gateways, edge: str, trusted: str) -> None:
    """Neither a stranger by naming it, nor the client of a proxy that is believed."""
    found = [gateways.statuses(edge, trusted, peer, *CLAIMS) for peer in ELSEWHERE]
    assert found == [[401] * len(CLAIMS)] * len(ELSEWHERE)


FOREIGN = [
    said(FAR),
    said(f"{FAR}:4711"),
    said("2001:db8::1"),
    said("[2001:db8::1]:443"),
    said(f"::ffff:{FAR}"),
    said(f"{FAR}, 127.0.0.1"),
    said(f"127.0.0.1, {FAR}"),
    said(f"127.0.0.1, {FAR}, 127.0.0.1"),
    said("127.0.0.1", FAR),
    said(FAR, "127.0.0.1"),
    [*said(FAR), ("X-Real-IP", "127.0.0.1"), ("Forwarded", "for=127.0.0.1")],
    # Each header alone: whoever wrote it stands in between, and says nothing of whom it speaks for.
    [("X-Real-IP", FAR)],
    [("Forwarded", "proto=https")],
    [("Via", "1.1 proxy")],
    [("X-Forwarded-Host", "shop.example")],
    [("X-Forwarded-Proto", "https")],
    [("X-Forwarded-Port", "443")],
    [("X-Forwarded-Server", "proxy")],
    [("X-Forwarded", FAR)],
]


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("peer", ["127.0.0.1", "::1"])
def test_the_client_of_a_proxy_on_this_machine(gateways: Gateways, edge: str, peer: str) -> None:
    """The socket is this machine's, whoever asks through it is not."""
    found = gateways.statuses(edge, "this machine", peer, *FOREIGN)
    assert found == [401] * len(FOREIGN)


@pytest.mark.parametrize("edge", EDGES)
def test_each_request_is_judged_by_itself(gateways: Gateways, edge: str) -> None:
    """A proxy's connection carries the requests of many, and of its own machine's monitoring."""
    requests = [[], said(FAR), [], said("127.0.0.1", FAR), said(FAR), []]
    found = gateways.statuses(edge, "this machine", "127.0.0.1", *requests)
    assert found == [200, 401, 200, 401, 401, 200]


ENTRIES = st.sampled_from(
    ["127.0.0.1", "::1", "10.0.0.5", "fd00::5", FAR, "localhost", "unknown", "", " ", "127.0.0.1:1"]
)
CHAINS = st.lists(
    st.lists(ENTRIES, min_size=1, max_size=4).map(", ".join), min_size=1, max_size=3
).map(lambda values: said(*values))


@examples(60)
@given(
    edge=st.sampled_from(EDGES),
    trusted=st.sampled_from(list(TRUSTED)),
    peer=st.sampled_from(ELSEWHERE),
    headers=CHAINS,
)
def test_no_chain_leads_here(
    gateways: Gateways, edge: str, trusted: str, peer: str, headers: Headers
) -> None:
    """Whatever a chain of proxies is said to be: who is not at the other end of the socket is not here."""
    assert gateways.statuses(edge, trusted, peer, headers) == [401]


UNREADABLE = [said("unknown"), said(f"{FAR}, unknown"), said("_hidden"), said(f"{FAR}, -")]


@pytest.mark.parametrize("edge", EDGES)
def test_a_proxy_that_nobody_told_us_of(gateways: Gateways, edge: str) -> None:
    """Not believed is not the same as not there: `trusted_proxies` was forgotten, say."""
    found = gateways.statuses(edge, "nobody", "127.0.0.1", *FOREIGN)
    assert found == [401] * len(FOREIGN)


@pytest.mark.parametrize("edge", EDGES)
def test_a_proxy_that_does_not_say_whom_it_speaks_for(gateways: Gateways, edge: str) -> None:
    """Squid writes `unknown` where it is told to hide its clients."""
    found = gateways.statuses(edge, "this machine", "127.0.0.1", *UNREADABLE)
    assert found == [401] * len(UNREADABLE)
