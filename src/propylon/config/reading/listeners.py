"""Find conflicts between the listeners, and between them and the certificates and trusted proxies. Pure."""

from collections.abc import Iterator
from typing import NamedTuple

from propylon.config.models.listeners import (
    UNIX,
    Address,
    Descriptor,
    Systemd,
    Tcp,
    UnixPath,
    parse_address,
)
from propylon.config.models.syntax import check_listen
from propylon.config.models.units import is_true
from propylon.config.reading.problems import Finding, Path

__all__ = ["listener_findings"]

_ANY_ADDRESS = frozenset({"0.0.0.0", "::"})


class _Entry(NamedTuple):
    """An entry of `server.listen` whose address can be read."""

    path: Path
    address: Address
    options: dict[str, object]


def listener_findings(written: object) -> Iterator[Finding]:
    """Yield each such conflict of a raw configuration, whether the rest of it is valid or not."""
    server = _section(written, "server")
    listen = server.get("listen")
    if not isinstance(listen, list):
        host, port = str(server.get("host", "127.0.0.1")), str(server.get("port", 8000))
        yield from _same_as_admin(written, [(host, port, "server.port")])
        return
    yield from _written_twice(server)
    entries = list(_entries(listen))
    yield from _same_addresses(entries)
    yield from _certificates(entries, _section(written, "tls"))
    yield from _without_sender(entries, server.get("trusted_proxies"))
    tcp = [entry.address for entry in entries if isinstance(entry.address, Tcp)]
    public = [(address.host, str(address.port), "server.listen") for address in tcp]
    yield from _same_as_admin(written, public)


def _entries(listen: list[object]) -> Iterator[_Entry]:
    for at, item in enumerate(listen):
        options = item if isinstance(item, dict) else {"address": item}
        try:
            address = parse_address(str(options.get("address")))
        except ValueError:
            continue  # the model reports it
        yield _Entry(("server", "listen", at), address, options)


def _written_twice(server: dict[str, object]) -> Iterator[Finding]:
    for key in ("host", "port"):
        if server.get(key) is not None:
            msg = f"server.listen replaces host and port: leave one of them out ({key} is set)"
            yield ("server", key), msg


def _same_addresses(entries: list[_Entry]) -> Iterator[Finding]:
    seen: set[Address] = set()
    for entry in entries:
        free = isinstance(entry.address, Tcp) and entry.address.port == 0
        if entry.address in seen and not free:
            yield entry.path, f"{entry.address} stands twice"
        seen.add(entry.address)
    if Systemd() in seen:
        for entry in entries:
            if isinstance(entry.address, Descriptor):
                yield entry.path, f"{entry.address} may be one of those of systemd; write either"


def _certificates(entries: list[_Entry], tls: dict[str, object]) -> Iterator[Finding]:
    """Yield where TLS is asked for without a certificate, and where a certificate would protect nothing."""
    has_certificate = bool(tls.get("certificate") or tls.get("certificates"))
    for entry in entries:
        if is_true(entry.options.get("tls")) and not has_certificate:
            msg = "needs a certificate: set tls.certificate and tls.key"
            yield (*entry.path, "tls"), msg
    # A certificate that no listener uses: the operator believes that clients speak TLS.
    undecided = all(entry.options.get("tls") is None for entry in entries)
    if entries and has_certificate and undecided:
        msg = "no listener says whether it uses the certificate of tls; write {address: ..., tls: true}, or tls: false"
        yield ("server", "listen"), msg


def _without_sender(entries: list[_Entry], trusted: object) -> Iterator[Finding]:
    """Yield the listeners on which no peer could send the header of the PROXY protocol."""
    networks = [str(item).rstrip(":") for item in trusted] if isinstance(trusted, list) else []
    for entry in entries:
        if not is_true(entry.options.get("proxy_protocol")):
            continue
        local = isinstance(entry.address, UnixPath)
        if not networks or (local and UNIX not in networks):
            what = UNIX if local else "the proxies' networks"
            msg = f"no peer is trusted to send the header; write {what} into server.trusted_proxies"
            yield (*entry.path, "proxy_protocol"), msg


def _same_as_admin(written: object, public: list[tuple[str, str, str]]) -> Iterator[Finding]:
    """Yield the listeners that would have a public one's address: the second to be opened could not be."""
    for section in ("admin", "metrics"):
        listen = _section(written, section).get("listen")
        try:
            own = parse_address(check_listen(str(listen)))
        except ValueError:
            continue
        for host, port, key in public:
            if isinstance(own, Tcp) and _meet(own, host, port):
                msg = f"{listen} is where the gateway listens already ({key}); write another port"
                yield (section, "listen"), msg


def _meet(own: Tcp, host: str, port: str) -> bool:
    return str(own.port) == port and (host == own.host or bool(_ANY_ADDRESS & {host, own.host}))


def _section(written: object, name: str) -> dict[str, object]:
    section = written.get(name) if isinstance(written, dict) else None
    return section if isinstance(section, dict) else {}
