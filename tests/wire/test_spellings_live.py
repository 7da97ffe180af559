"""Real servers read paths as the table says: Express, Flask, Django, Starlette and nginx are asked."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from propylon.errors import InvalidRequest
from propylon.wire.spellings import fold, readings
from tests.support.client import RawClient, request
from tests.support.readers import READERS, spellings
from tests.support.servers import SERVERS, running

WANTED = {"/admin": "ADMIN", "/teams/a/keys": "KEYS"}


@pytest.fixture(scope="module", params=SERVERS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, int]]:
    """Each server in turn: its name and its port."""
    name: str = request.param
    with running(name, tmp_path_factory.mktemp("server")) as port:
        yield name, port


def refused(path: str) -> bool:
    """Whether the gateway refuses the path before any reading, such as one with a dot segment."""
    try:
        readings(path.encode())
    except InvalidRequest:
        return True
    return False


def read_as(port: int, path: str, wanted: str) -> bool:
    """Whether the server reads the path as the wanted one, or sends the client there."""
    for _ in range(2):
        with RawClient(port) as client:
            line = request(target=path, headers=[("Connection", "close")])
            answer = client.send(line).read()
        if answer.body.decode("latin-1") == wanted:
            return True
        if answer.status not in (301, 302, 307, 308):
            break
        location = urlsplit(answer.get("location") or "")
        path = location.path
    return False


@pytest.mark.parametrize("path", WANTED)
def test_a_real_server_reads_as_its_model(server: tuple[str, int], path: str) -> None:
    """What the server takes for the path is what its model and the table say; nothing that it takes is missing."""
    name, port = server
    reader = READERS[name.split()[0]]
    taken = [
        spelling
        for spelling in spellings(path)
        if not refused(spelling) and read_as(port, spelling, WANTED[path])
    ]
    assert path in taken
    for spelling in map(str.encode, taken):
        assert reader(spelling) == path.encode(), spelling
        assert path.encode() in map(fold, readings(spelling)), spelling


@pytest.mark.parametrize("path", WANTED)
def test_no_rule_is_made_up(server: tuple[str, int], path: str) -> None:
    """What the model of a server takes for the path, the server itself does, unless it refuses the request."""
    name, port = server
    reader = READERS[name.split()[0]]
    for spelling in spellings(path):
        if reader(spelling.encode()) == path.encode() and not refused(spelling):
            assert read_as(port, spelling, WANTED[path]), spelling
