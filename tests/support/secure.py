"""Play upstreams that are reached in other ways: by TLS, over a Unix socket, behind a PROXY header."""

import contextlib
import datetime as dt
import ipaddress
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.secrecy import SECRECY
from tests.support.upstream import Arrived, Gone, Peer, Script, Upstream

_V2_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_DAY = dt.timedelta(days=1)
_CA_USAGE = x509.KeyUsage(
    digital_signature=True,
    key_cert_sign=True,
    crl_sign=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    encipher_only=False,
    decipher_only=False,
)


@dataclass(frozen=True)
class Identity:
    """A certificate and its key, in two files."""

    chain: Path
    key: Path


class Authority:
    """A certificate authority, whose certificate is in `file`."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self.folder = folder
        self.name = name
        self.file = folder / f"{name}.pem"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = _subject(name)
        builder = _builder(self._subject, self._subject, self._key, (-_DAY, 100 * _DAY))
        made = (
            builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_CA_USAGE, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.file.write_bytes(made.public_bytes(serialization.Encoding.PEM))

    def issue(
        self,
        *names: str,
        subject: str = "leaf",
        valid: tuple[dt.timedelta, dt.timedelta] = (-_DAY, 30 * _DAY),
    ) -> Identity:
        """A certificate for these host names and addresses; `valid` is from when to when, from now on."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_subject(subject), self._subject, key, valid).add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
            critical=False,
        )
        if names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_general(name) for name in names]), critical=False
            )
        made = builder.sign(self._key, hashes.SHA256())
        for line in _pem(key).decode().splitlines()[1:3]:
            SECRECY.note(line)  # no log may have it
        number = len(list(self.folder.glob("*.key")))
        chain, file = (self.folder / f"{subject}{number}.{end}" for end in ("crt", "key"))
        chain.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        file.write_bytes(_pem(key))
        return Identity(chain, file)

    def serving(
        self, *names: str, clients: "Authority | None" = None, required: bool = True
    ) -> ssl.SSLContext:
        """The context of a server with a certificate for these names; `clients` issues its clients' certificates."""
        return serving(self.issue(*names), clients, required=required)


def serving(
    identity: Identity, clients: Authority | None = None, *, required: bool = True
) -> ssl.SSLContext:
    """The context of a server with this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.chain, identity.key)
    if clients is not None:
        context.load_verify_locations(clients.file)
        context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    return context


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    valid: tuple[dt.timedelta, dt.timedelta],
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + valid[0])
        .not_valid_after(now + valid[1])
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


class SecureUpstream(Upstream):
    """An upstream that may speak TLS, listen on a Unix socket, and expect a PROXY header on each connection."""

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        path: Path | None = None,
        proxied: bool = False,
        fallback: Script | None = None,
    ) -> None:
        self.tls = tls
        self.path = path
        self.proxied = proxied
        self.server_names: list[str | None] = []  # SNI of each handshake
        self.shown: dict[int, str] = {}  # by connection, whose certificate the gateway has shown
        self.headers: dict[int, bytes] = {}  # by connection, its PROXY header
        self.refused: list[str] = []  # handshakes that failed
        if tls is not None:
            tls.sni_callback = lambda _, name, __: self.server_names.append(name)
        super().__init__(fallback=fallback)

    def listen(self, port: int) -> socket.socket:
        """Listen on the Unix socket, if there is a path for one."""
        if self.path is None:
            return super().listen(port)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.path))
        listener.listen(64)
        return listener

    @property
    def url(self) -> str:
        """Where it is, by its address."""
        if self.path is not None:
            return f"unix:{self.path}"
        return f"{'http' if self.tls is None else 'https'}://127.0.0.1:{self.port}"

    def header_of(self, arrived: Arrived) -> bytes:
        """The PROXY header of the connection over which a request came."""
        return self.headers[arrived.connection]

    def serve(self, peer: Peer) -> None:
        """Read the PROXY header and make the handshake, where either is due; then serve."""
        try:
            if self.proxied:
                self.headers[peer.number] = _proxy_header(peer.sock)
            if self.tls is not None:
                peer.sock = secured = _secured(self.tls, peer.sock)
                shown = secured.getpeercert()
                if shown:
                    self.shown[peer.number] = dict(part[0] for part in shown["subject"])["commonName"]  # type: ignore[arg-type, misc]
        except (OSError, Gone) as error:
            self.refused.append(repr(error))
            peer.sock.close()
            return
        super().serve(peer)


def _secured(tls: ssl.SSLContext, sock: socket.socket) -> ssl.SSLSocket:
    """Make the handshake. After one that fails, what the client has sent is read, or a reset would overtake the alert."""
    with sock.dup() as same:
        try:
            return tls.wrap_socket(sock, server_side=True)
        except OSError:
            same.settimeout(5)
            with contextlib.suppress(OSError):
                same.shutdown(socket.SHUT_WR)
                while same.recv(4096):
                    pass
            raise


def _proxy_header(sock: socket.socket) -> bytes:
    """Read exactly the header, and not a byte of what follows."""
    head = _exactly(sock, 12)
    if head == _V2_SIGNATURE:
        head += _exactly(sock, 4)
        return head + _exactly(sock, int.from_bytes(head[14:16], "big"))
    while not head.endswith(b"\r\n"):
        head += _exactly(sock, 1)
        assert len(head) <= 107, head
    return head


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            raise Gone
        data += piece
    return data


def read_header(data: bytes) -> tuple[str, ...]:
    """What a PROXY header says, of either version, in the words of the first: TCP4, client, local, ports."""
    if not data.startswith(_V2_SIGNATURE):
        assert data.startswith(b"PROXY "), data
        assert data.endswith(b"\r\n"), data
        return tuple(data[6:-2].decode("ascii").split(" "))
    command, family, size = data[12], data[13], int.from_bytes(data[14:16], "big")
    rest = data[16:]
    assert len(rest) == size, data
    if command == 0x20:
        return ("LOCAL",)
    assert command == 0x21, data
    if family == 0:
        return ("UNKNOWN",)
    width = {0x11: 4, 0x21: 16}[family]
    ends = [ipaddress.ip_address(rest[at : at + width]) for at in (0, width)]
    ports = [int.from_bytes(rest[at : at + 2], "big") for at in (2 * width, 2 * width + 2)]
    kind = "TCP4" if width == 4 else "TCP6"
    return (kind, *map(str, ends), *map(str, ports))


def close_notify(peer: Peer) -> None:
    """Close TLS as it should be closed, and then the connection. Raises Gone."""
    if isinstance(peer.sock, ssl.SSLSocket):
        with contextlib.suppress(OSError):
            peer.sock = peer.sock.unwrap()
    raise Gone


def fin(peer: Peer) -> None:
    """Close the connection without a word from TLS, as an attacker on the network can. Raises Gone."""
    with contextlib.suppress(OSError):
        peer.sock.shutdown(socket.SHUT_RDWR)
    raise Gone
