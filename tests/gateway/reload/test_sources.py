"""Other things that are read anew: a file that is watched, a certificate, a gateway of one's own."""

import contextlib
import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Self

import pytest
import yaml

from propylon import Gateway as Propylon
from tests.cli.test_run import certificate
from tests.gateway.reload.live import (
    Live,
    Start,
    configuration,
    soon,
    targets,
    url,
    without,
)
from tests.gateway.test_policies import InProcess
from tests.support.beside import side_by_side
from tests.support.client import request
from tests.support.tokens import bearer, mint
from tests.support.upstream import Upstream

# Looks at the file come five times as often as an operator's.
OFTEN = """
from propylon.process.watch import follow
follow.__kwdefaults__["every"] = 0.1
"""


@pytest.fixture(scope="module", autouse=True)
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Future[None]]:
    """What becomes of a file that is watched: mostly it waits, so it begins with the first case."""
    with Upstream() as one, contextlib.closing(Start((one, one, one))) as start:
        folder = tmp_path_factory.mktemp("watched")
        live = start(configuration(one, one, one), folder, "--reload", first=OFTEN)
        with side_by_side({"watched": partial(watch, live, live.gateway.file)}) as running:
            yield running["watched"]


def watch(live: Live, file: Path) -> None:
    """Change the file in one way after the other."""
    live.gateway.wait_ready()
    folder = file.parent
    # As Kubernetes mounts a ConfigMap: the file is a link through a directory that is a link.
    for version in ("1", "2"):
        (folder / f"..{version}").mkdir()
        live.gateway.file = folder / f"..{version}" / "propylon.yaml"
        live.write(live.config())
    (folder / "..data").symlink_to("..1")
    (folder / "link").symlink_to(Path("..data", "propylon.yaml"))
    (folder / "link").replace(file)
    assert soon(lambda: live.status("/mark/1") == 200)
    (folder / "..next").symlink_to("..2")
    (folder / "..next").replace(folder / "..data")
    assert soon(live.is_in_force)
    assert live.status("/mark/1") == 404
    # In place.
    since = live.now
    live.gateway.file.write_text("routes:\n  - nothing\n")
    assert live.hears(since, f"nothing changes: {file}:2 routes[0]: ")
    assert live.is_in_force()
    live.write(live.config() | {"include": ["conf.d/*.yaml"]})
    assert soon(live.is_in_force)
    # A file that is included, and was not there before.
    (folder / "conf.d").mkdir()
    team = {"path": "/team", "service": next(iter(live.config()["services"])), "auth": "none"}
    (folder / "conf.d" / "team.yaml").write_text(yaml.safe_dump({"routes": [team]}))
    assert soon(lambda: live.status("/team") == 200)
    since = live.now
    (folder / "conf.d" / "bad.yaml").write_text("routes: [{path: /team, service: none}]\n")
    assert live.hears(
        since, f"nothing changes: {folder / 'conf.d' / 'bad.yaml'}:1 routes[0].service"
    )


# Certificates


class Secure:
    """A connection in TLS, and the certificate that the gateway showed."""

    def __init__(self, port: int) -> None:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connected:
            self.socket = context.wrap_socket(connected)
        self.shown = self.socket.getpeercert(binary_form=True) or b""

    def status(self, target: str) -> int:
        """Ask something that has a short answer."""
        self.socket.sendall(request(target=target))
        got = b""
        while b"\r\n\r\n" not in got:
            got += self.socket.recv(65536) or pytest.fail(f"closed after {got!r}")
        return int(got.split(b" ")[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.socket.close()


def shows(port: int, expected: Path | bytes) -> bool:
    """Whether that certificate is what a new connection is shown."""
    if isinstance(expected, Path):
        expected = ssl.PEM_cert_to_DER_cert(expected.read_text())
    with contextlib.suppress(OSError), Secure(port) as client:
        return client.shown == expected
    return False


def test_a_renewed_certificate_is_shown(
    start: Start, behind: tuple[Upstream, ...], tmp_path: Path
) -> None:
    """To new connections, from the same files or others; old ones go on; half a pair is not taken."""
    chain, key = certificate(tmp_path, "first")
    second, third = certificate(tmp_path, "second"), certificate(tmp_path, "third")
    tls = {"certificate": str(chain), "key": str(key)}
    live = start(configuration(*behind) | {"tls": tls}, tmp_path)
    port, file = live.gateway.port, live.gateway.file
    assert soon(lambda: shows(port, chain))
    with Secure(port) as old:
        assert old.status("/stays") == 200
        # Renewed in its place, as certbot does; nothing else has changed.
        renewed = ssl.PEM_cert_to_DER_cert(second[0].read_text())
        second[0].replace(chain)
        second[1].replace(key)
        live.hangup()
        assert soon(lambda: shows(port, renewed))
        # A certificate and another one's key; a key that is not there.
        text = file.read_text()
        for name, other, complaint in (
            (chain, third[0], f"the certificate {third[0]} and the key {key} do not fit"),
            (key, tmp_path / "none", f"cannot read {chain} or {tmp_path / 'none'}"),
        ):
            since = live.now
            file.write_text(text.replace(str(name), str(other)))
            live.hangup()
            assert live.hears(since, f"the old certificate stays: {complaint}")
            assert shows(port, renewed)
        # Another pair.
        file.write_text(text.replace(str(chain), str(third[0])).replace(str(key), str(third[1])))
        live.hangup()
        assert soon(lambda: shows(port, third[0]))
        assert old.status("/moves") == 200


# A gateway of one's own


OWN = """
from propylon import Gateway, Principal, Request
from propylon.errors import Forbidden

gateway = Gateway.from_file("propylon.yaml")

@gateway.before("/moves")
async def nobody(request: Request, principal: Principal) -> None:
    raise Forbidden("Nobody passes")

@gateway.api.get("/health/mine")
async def mine() -> str:
    return "mine"
"""


def test_a_gateway_of_ones_own_keeps_its_policies(
    start: Start, behind: tuple[Upstream, ...], tmp_path: Path
) -> None:
    """They stay with the names of their routes; a file in which one has no route is refused."""
    (tmp_path / "own.py").write_text(OWN)
    live = start(configuration(*behind), tmp_path, app="own")
    live.gateway.wait_ready()
    member = bearer(mint("7"))
    config = without(live.config(), "leaves")
    config["routes"][1] = {"name": "/moves", "path": "/moved", "service": "moves"}
    config["server"] = {"workers": 4, "port": 1}  # the command line and the code have said it
    live.put(config)
    paths = ("/moves", "/moved", "/stays", "/leaves")
    assert [live.status(path) for path in paths] == [404, 403, 200, 404]
    assert live.ask("/health/mine", headers=member).body == b'"mine"'
    config["routes"][1]["name"] = "moved"
    since = live.now
    live.write(config)
    live.hangup()
    assert live.hears(since, "nothing changes")
    (said,) = live.news(since, "nothing changes")
    assert 'no route \\"/moves\\", and a policy stands before it' in said
    assert (live.is_in_force(), live.status("/moved")) == (False, 403)
    assert not live.news(0, "takes effect with the next start")
    assert targets(live.one).count("/moved") == 0


def test_a_gateway_in_a_foreign_server_is_told_to(
    tmp_path: Path, behind: tuple[Upstream, ...]
) -> None:
    """Where no signal is ours, `reload` does the same, and changes nothing for a mistake."""
    file = tmp_path / "propylon.yaml"
    route = {"path": "/stays", "service": "stays", "auth": "none"}
    good = yaml.safe_dump({"services": {"stays": {"url": url(behind[0])}}, "routes": [route]})
    file.write_text(good)
    gateway = Propylon.from_file(file, {})

    async def reload() -> None:
        gateway.reload()

    def statuses() -> list[int]:
        return [client.get(path).status_code for path in ("/stays", "/other")]

    with InProcess(gateway.asgi, gateway) as client:
        assert statuses() == [200, 404]
        file.write_text(good.replace("/stays", "/other"))
        assert statuses() == [200, 404]
        for text in (None, "routes: 7\n"):
            file.write_text(text or file.read_text())
            client._runner.run(reload())
            assert statuses() == [404, 200]


# A file that is watched


def test_a_file_that_is_watched_is_read_by_itself(watched: Future[None]) -> None:
    """Replaced by a link, swapped with its directory, written in place; a mistake waits for its cure."""
    watched.result(60)
