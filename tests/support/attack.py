"""Send requests that two parsers could read differently, and look whether anything got through."""

from tests.support.client import TIMEOUT, Answer, Ended, RawClient, ask
from tests.support.gateway import Gateway
from tests.support.topology import Upstreams

MARK = b"SMUGGLED"
HOST = b"Host: gw.test\r\n"
# What must never be answered where it stands behind something that was refused.
NEXT = b"GET /up/SMUGGLED HTTP/1.1\r\n" + HOST + b"\r\n"
FEEDS = ("whole", "bytewise", "followed")


def post(
    *lines: bytes, body: bytes = b"", version: bytes = b"1.1", path: bytes = b"/up/x"
) -> bytes:
    """A POST with these header lines after Host, and whatever stands behind its head."""
    head = b"POST %b HTTP/%b\r\n" % (path, version) + HOST
    return head + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


def get(*lines: bytes, host: bytes = HOST) -> bytes:
    """A GET with these header lines after Host (or what takes its place)."""
    return b"GET /up/x HTTP/1.1\r\n" + host + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def feed(client: RawClient, payload: bytes, how: str) -> None:
    """Send the payload whole, byte by byte, or with another request behind it."""
    if how == "bytewise":
        client.trickle(payload)
    else:
        client.send(payload + NEXT if how == "followed" else payload)


def all_answers(client: RawClient, *, patience: float) -> list[Answer]:
    """Every answer until the connection ends, or nothing comes any more; then it is ended."""
    answers: list[Answer] = []
    client.sock.settimeout(patience)
    try:
        while True:
            answers.append(client.read())
    except Ended:
        return answers
    except (TimeoutError, AssertionError):
        leave(client)
    return answers


def leave(client: RawClient) -> None:
    """End a connection, and see that the gateway does nothing more for it."""
    client.sock.settimeout(TIMEOUT)
    client.half_close().rest()
    # Whatever it did in that turn of its loop, it has done before it answers this.
    assert ask(client.port, target="/livez").status == 200


def assert_refused(
    gateway: Gateway, upstreams: Upstreams, payload: bytes, statuses: tuple[int, ...], how: str
) -> None:
    """The payload is refused and the connection closed; nothing at all reached an upstream.

    On the portable edge the server's parser may refuse in its own words, or hand over something
    that it has put right. Then only this counts: what arrived is beyond doubt (the fixtures see to
    that), and nothing behind a refusal was answered.
    """
    with RawClient(gateway.port) as client:
        feed(client, payload, how)
        if gateway.edge == "portable":
            assert_safe(client, upstreams)
            return
        answer = client.read()
        assert answer.status in statuses, answer.head
        assert client.is_closed(), bytes(client.buffer)
    assert upstreams.nothing_arrived()


def assert_safe(client: RawClient, upstreams: Upstreams) -> None:
    """Whatever was answered, nothing that stood behind a refusal or in a body became a request."""
    answers = all_answers(client, patience=0.12)
    if not answers or answers[0].status >= 400:
        # In a body it may stand: a server that takes a chunk for huge has it sent on as data.
        arrived = upstreams.main.requests + upstreams.second.requests
        assert all(MARK not in request.head for request in arrived)
        assert len(answers) <= 1
    # No more answers than requests that the payload can be read as: itself, and the one behind.
    assert len(answers) <= 2
