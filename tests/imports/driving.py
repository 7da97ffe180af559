"""Import a file of another gateway, and send requests through what came of it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from propylon.commands.imports.command import Imported, import_files
from propylon.testing.gateway import GatewayUnderTest, running

FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Case:
    """A request, and what the original's documentation says becomes of it.

    `service` gets it with `path` and `host`; without a service nobody does.
    """

    asked: str
    status: int = 200
    service: str = ""
    path: str = ""
    host: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    client: str = "192.0.2.1"

    def __str__(self) -> str:
        """Name the case."""
        return " ".join([self.asked, *self.headers.values(), self.client])


def imported(form: str, *names: str) -> Imported:
    """Translate files of the folder of a format, with the names that an operator would write."""
    return import_files(form, [FOLDER / form / name for name in names])


@contextmanager
def gateway_of(text: str, folder: Path) -> Iterator[GatewayUnderTest]:
    """Run the gateway of a propylon.yaml in memory, as the pytest plugin does."""
    file = folder / "propylon.yaml"
    file.write_text(text)
    with running(file, {}, folder, lambda _gateway: None) as gateway:
        yield gateway


def hold(gateway: GatewayUnderTest, case: Case, token: str | None = None) -> None:
    """Send a request and compare: its status, and who got it as what."""
    method, _, path = case.asked.partition(" ")
    upstream = gateway.upstream(case.service) if case.service else None
    before = len(upstream.requests) if upstream else 0
    answer = gateway.request(
        method, path, client=case.client, headers=dict(case.headers), token=token
    )
    assert (str(case), answer.status_code) == (str(case), case.status)
    if upstream is None:
        return
    assert len(upstream.requests) == before + 1, str(case)
    got = upstream.requests[-1]
    assert (str(case), got.method, got.path) == (str(case), method, case.path)
    if case.host:
        assert (str(case), got.headers["host"]) == (str(case), case.host)
