"""From a name to a socket: looked up once, checked, and connected to by exactly that address."""

import asyncio
import contextlib
import datetime as dt
import ipaddress
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from propylon.errors import ConnectFailed, ConnectTimeout
from propylon.names.addresses import AddressFilter, AllowList
from propylon.names.resolve import Names as Known
from propylon.upstream import strays as lookout
from propylon.upstream.connection import Connection
from propylon.upstream.dial import Address, Dialer
from propylon.upstream.pool import Pool
from propylon.upstream.tls import SYSTEM_TRUST, tls_context
from tests.upstream.peer import OK, Line, World, polite, run, until

NAME = "orders.example"


class Names:
    """Names that lead where a test says: one answer after the other, the last for ever."""

    def __init__(self, *answers: Sequence[str], waits: bool = False) -> None:
        self.answers = list(answers)
        self.waits = waits
        self.asked: list[str] = []
        self.doubted: list[str] = []

    async def addresses(self, host: str) -> Sequence[str]:
        """The next answer."""
        self.asked.append(host)
        if self.waits:
            await asyncio.sleep(60)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def mark_stale(self, host: str) -> None:
        """Note it."""
        self.doubted.append(host)


class Counting:
    """A listener that counts connections."""

    def __init__(self, host: str, port: int = 0) -> None:
        self.host = host
        self.port = port
        self.came = 0

    async def __aenter__(self) -> Self:
        self.listener = await asyncio.start_server(self._serve, self.host, self.port)
        self.port = self.listener.sockets[0].getsockname()[1]
        return self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.came += 1
        await reader.read()
        writer.close()

    async def __aexit__(self, *_: object) -> None:
        self.listener.close()


def pool_of(world: World, names: Known, permit: AddressFilter | None = None) -> Pool:
    """A pool to the world's peer, under a name."""
    pool = Pool(
        Address(NAME, world.port),
        limit=5,
        ticker=world.ticker,
        outbox=world.outbox,
        loop=asyncio.get_running_loop(),
        names=names,
        permit=permit,
    )
    world.pool = pool
    return pool


def test_a_name_is_connected_to_by_its_address() -> None:
    """The name is resolved once; the socket is opened to the address."""

    async def main() -> None:
        async with World() as world:
            names = Names(["127.0.0.1"])
            pool_of(world, names)
            assert await world.ask() == (200, b"hello")
            assert (names.asked, names.doubted) == ([NAME], [])

    run(main())


def test_the_next_address_when_one_refuses() -> None:
    """In the order that they are known in."""

    async def main() -> None:
        async with World() as world:
            names = Names(["127.0.0.2", "127.0.0.3", "127.0.0.1"])
            pool_of(world, names)
            assert await world.ask() == (200, b"hello")
            assert names.doubted == []

    run(main())


def test_no_address_answers() -> None:
    """ConnectFailed with what each of them said; what is known of the name is in doubt."""

    async def main() -> None:
        async with World() as world:
            world.listener.close()
            names = Names(["127.0.0.2", "127.0.0.1"])
            pool_of(world, names)
            with pytest.raises(ConnectFailed) as failed:
                await world.ask("POST")
            assert failed.value.unsent
            assert "127.0.0.2: " in failed.value.reason
            assert "127.0.0.1: " in failed.value.reason
            assert (names.doubted, world.state) == ([NAME], (0, 0, 0))

    run(main())


def test_a_name_that_takes_too_long() -> None:
    """Looking it up is part of connecting, and has its limit."""

    async def main() -> None:
        async with World() as world:
            names = Names([], waits=True)
            pool_of(world, names)
            dialer = Dialer(asyncio.get_running_loop(), names)
            with pytest.raises(ConnectTimeout) as failed:
                await dialer.open(Address(NAME, 80), _made(world), 0.02)
            # The log says where the time went; a client does not learn the name.
            assert failed.value.reason == f"name lookup of {NAME}: it has not ended"
            assert NAME not in failed.value.message
            assert (names.doubted, world.state) == ([], (0, 0, 0))

    run(main())


def test_an_address_that_takes_too_long() -> None:
    """The log says that it was the connection, and where to; the name is in doubt."""

    async def main() -> None:
        async with World() as world:
            names = Names(["127.0.0.1"])
            dialer = Dialer(asyncio.get_running_loop(), names)

            async def connect(*_: Any) -> None:
                await asyncio.sleep(60)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Dialer, "_connect", connect)
                with pytest.raises(ConnectTimeout) as failed:
                    await dialer.open(Address(NAME, 80), _made(world), 0.02)
            assert failed.value.reason == "connecting to 127.0.0.1"
            assert names.doubted == [NAME]

    run(main())


class Led:
    """A name that leads where a test says, or nowhere."""

    def __init__(self, *addresses: str) -> None:
        self.values = addresses
        self.looks = 0

    async def addresses(self, host: str) -> Sequence[str]:
        """Where it leads."""
        self.looks += 1
        if not self.values:
            raise ConnectFailed("no", reason="nobody answers")
        return self.values

    def mark_stale(self, host: str) -> None:
        """Nothing is remembered."""


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are looked at as often as a test can wait."""
    monkeypatch.setattr(lookout, "_INTERVAL", 0.02)


async def looked(names: Led) -> None:
    """Wait until the name has been looked at from now on."""
    before = names.looks
    await until(lambda: names.looks > before + 1)


@pytest.mark.usefixtures("soon")
def test_connections_follow_their_name() -> None:
    """An idle one is closed when the name leads elsewhere, also where the old host lives on."""

    async def main() -> None:
        async with World() as world, Counting("127.0.0.2", world.port) as elsewhere:
            names = Led("127.0.0.1")
            pool_of(world, names)
            assert await world.ask() == (200, b"hello")
            await looked(names)
            names.values = ("127.0.0.3", "127.0.0.1")
            await looked(names)
            names.values = ()  # a failing lookup does not make connections strays
            await looked(names)
            assert world.state == (1, 1, 0)
            names.values = ("127.0.0.2",)
            await until(lambda: world.state == (0, 0, 0))
            asking = world.asking()
            await until(lambda: elsewhere.came)
            asking.cancel()
            assert len(world.lines) == 1
            looks = names.looks
            await until(lambda: not world.ticker._watched)
            assert names.looks <= looks + 2

    run(main())


@pytest.mark.usefixtures("soon")
def test_what_is_in_flight_is_not_cut() -> None:
    """It ends as it would; the next in the queue is served over a new connection."""
    answer = asyncio.Event()

    async def slowly(line: Line) -> None:
        await line.head()
        await answer.wait()
        line.send(OK)
        await polite(line)

    async def main() -> None:
        async with World(slowly) as world, World() as other:
            # Two hosts on one port.
            listener = await asyncio.start_server(other._serve, "127.0.0.2", world.port)
            with contextlib.closing(listener):
                names = Led("127.0.0.1")
                pool_of(world, names).limit = 1
                first = world.asking()
                await until(lambda: world.lines)
                second = world.asking()
                await until(lambda: world.state == (1, 0, 1))
                names.values = ("127.0.0.2",)
                await looked(names)
                assert not first.done()
                answer.set()
                assert await first == (200, b"hello")
                assert await second == (200, b"hello")
                assert (len(world.lines), len(other.lines)) == (1, 1)
                assert world.pool._strays == set()

    run(main())


@pytest.mark.usefixtures("soon")
def test_addresses_are_not_looked_at() -> None:
    """They lead where they lead."""

    async def main() -> None:
        async with World() as world:
            names = Led("127.0.0.9")
            pool_of(world, names).address = Address("127.0.0.1", world.port)
            assert await world.ask() == (200, b"hello")
            await asyncio.sleep(0.1)
            assert (world.state, names.looks) == ((1, 1, 0), 0)

    run(main())


@pytest.mark.parametrize(
    ("failures", "error"),
    [
        ([TimeoutError, TimeoutError], ConnectTimeout),
        ([TimeoutError, ConnectionRefusedError], ConnectFailed),
        ([ConnectionRefusedError, TimeoutError], ConnectFailed),
    ],
)
def test_the_systems_own_patience(failures: list[type[OSError]], error: type[Exception]) -> None:
    """If the system's own timeout is shorter, it is a timeout as well; but not if an address refused the connection."""

    async def main() -> None:
        async with World() as world:
            dialer = Dialer(asyncio.get_running_loop(), Names(["127.0.0.2", "127.0.0.1"]))

            async def connect(*_: Any) -> None:
                raise failures.pop(0)("so")

            world.pool._dialer = dialer
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Dialer, "_connect", connect)
                with pytest.raises(error):
                    await dialer.open(Address(NAME, 80), _made(world), 20.0)
            assert failures == []

    run(main())


def _made(world: World) -> Any:
    return lambda: Connection(world.pool, world.ticker, world.outbox)


@pytest.mark.parametrize("host", ["127.0.0.1", "::ffff:127.0.0.1"])
def test_an_address_is_not_looked_up(host: str) -> None:
    """It is what it is, mapped into IPv6 too."""

    async def main() -> None:
        async with World() as world:
            names = Names([])
            pool_of(world, names).address = Address(host, world.port)
            assert await world.ask() == (200, b"hello")
            assert names.asked == []

    run(main())


def test_rebinding() -> None:
    """A name that now resolves to a forbidden address instead of an allowed one is not connected to."""

    async def main() -> None:
        async with World() as world, Counting("127.0.0.2", world.port) as elsewhere:
            rules = AllowList(["127.0.0.1"])
            names = Names(["127.0.0.1"], ["127.0.0.2"], ["169.254.169.254"])
            pool = pool_of(world, names, lambda address: rules.admits(NAME, address))
            assert await world.ask() == (200, b"hello")
            pool._idle[0].abort()
            for address in ("127.0.0.2", "169.254.169.254"):
                with pytest.raises(ConnectFailed, match="may be asked") as failed:
                    await world.ask("POST")
                assert failed.value.reason == f"{NAME} is {address}"
                assert failed.value.unsent
            assert elsewhere.came == 0
            assert (len(world.lines), world.state) == (1, (0, 0, 0))
            assert names.asked == [NAME] * 3

    run(main())


def test_what_is_forbidden_is_left_out() -> None:
    """Of several addresses only those are asked that may be, whichever comes first."""

    async def main() -> None:
        async with World() as world, Counting("127.0.0.2", world.port) as elsewhere:
            names = Names(["127.0.0.2", "127.0.0.1"])
            pool_of(world, names, lambda address: address == "127.0.0.1")
            assert await world.ask() == (200, b"hello")
            world.listener.close()
            world.pool._idle[0].abort()
            with pytest.raises(ConnectFailed):
                await world.ask()
            assert elsewhere.came == 0

    run(main())


def test_an_address_that_is_forbidden() -> None:
    """It needs no name to be refused."""

    async def main() -> None:
        async with World() as world:
            pool = pool_of(world, Names([]), lambda _: False)
            pool.address = Address("127.0.0.1", world.port)
            with pytest.raises(ConnectFailed, match="may be asked"):
                await world.ask()
            assert world.lines == []

    run(main())


def test_rules_may_change() -> None:
    """The predicate is asked for each connection."""

    async def main() -> None:
        async with World() as world:
            allowed = True
            pool = pool_of(world, Names(["127.0.0.1"]), lambda _: allowed)
            assert await world.ask() == (200, b"hello")
            pool._idle[0].abort()
            allowed = False
            with pytest.raises(ConnectFailed):
                await world.ask()

    run(main())


def test_authorities() -> None:
    """As they stand in URLs."""
    assert Address("orders", 8000).authority == "orders:8000"
    assert Address("10.0.0.1", 80).authority == "10.0.0.1:80"
    assert Address("fd00::1", 80).authority == "[fd00::1]:80"


# TLS


def _certificate(folder: Path, *names: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The two ends of TLS with a certificate for these names."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.UTC)
    alternatives = [
        (x509.IPAddress(ipaddress.ip_address(name)) if name[0].isdigit() else x509.DNSName(name))
        for name in names
    ]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "both.pem"
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    listening = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    listening.load_cert_chain(pem)
    return listening, ssl.create_default_context(cafile=pem)


class Tls:
    """A peer that shows a certificate, and notes which name it was asked for."""

    def __init__(self, listening: ssl.SSLContext) -> None:
        self.context = listening
        self.names: list[str | None] = []
        listening.sni_callback = lambda _, name, __: self.names.append(name)

    async def __aenter__(self) -> Self:
        self.listener = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.context)
        self.port = self.listener.sockets[0].getsockname()[1]
        return self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def __aexit__(self, *_: object) -> None:
        self.listener.close()


@pytest.mark.parametrize(
    ("host", "name", "shown", "good"),
    [
        (NAME, "", NAME, True),
        ("127.0.0.1", NAME, NAME, True),
        ("127.0.0.1", "", "127.0.0.1", True),
        # A last dot is the root of DNS, and no part of the name in a certificate.
        (f"{NAME}.", "", NAME, True),
        (NAME, "", "other.example", False),
        ("127.0.0.1", NAME, "127.0.0.1", False),
    ],
)
def test_the_certificate_is_the_names(
    host: str, name: str, shown: str, *, good: bool, tmp_path: Path
) -> None:
    """However many addresses it has: each is asked for the name, and has to show it."""
    listening, asking = _certificate(tmp_path, shown)

    async def main() -> None:
        async with World() as world, Tls(listening) as peer:
            dialer = Dialer(asyncio.get_running_loop(), Names(["127.0.0.1"]))
            address = Address(host, peer.port, asking, name)
            opening = dialer.open(address, _made(world), 20.0)
            if good:
                connection = await opening
                assert connection.usable
                connection.abort()
            else:
                with pytest.raises(ConnectFailed) as failed:
                    await opening
                assert "certificate verify failed" in failed.value.reason
            wanted = (name or host).removesuffix(".")
            # RFC 6066, 3: an address is no server name.
            assert peer.names == [None if wanted[0].isdigit() else wanted]
            await until(lambda: not world.ticker._watched)

    run(main())


@pytest.mark.parametrize("proxied", [b"", b"PROXY UNKNOWN\r\n"])
@pytest.mark.parametrize("local", [False, True])
def test_a_handshake_that_never_ends(proxied: bytes, *, local: bool, tmp_path: Path) -> None:
    """The time for connecting covers TLS, whatever the connection is made over; nothing stays open."""
    path = str(tmp_path / "silent.sock")

    async def main() -> None:
        ended = asyncio.Event()
        got = b""

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal got
            got = await reader.read()
            ended.set()
            writer.close()

        async with World() as world:
            listener = await (
                asyncio.start_unix_server(silent, path)
                if local
                else asyncio.start_server(silent, "127.0.0.1", 0)
            )
            port = 0 if local else listener.sockets[0].getsockname()[1]
            address = Address(
                "127.0.0.1", port, tls_context(SYSTEM_TRUST), path=path if local else ""
            )
            dialer = Dialer(asyncio.get_running_loop())
            with pytest.raises(ConnectTimeout):
                await dialer.open(address, _made(world), 0.1, proxied)
            await ended.wait()
            assert got.startswith(proxied + b"\x16\x03")  # a TLS record with a ClientHello
            listener.close()
            await until(lambda: not world.ticker._watched)

    run(main())
