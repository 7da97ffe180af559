"""A rule holds for every spelling of its path: the same verdict as the plain one, or 400."""

import re
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.client import Answer, RawClient, ask, request
from tests.support.examples import examples
from tests.support.gateway import Gateway
from tests.support.tokens import Credentials, authorized
from tests.support.topology import Upstreams
from tests.support.upstream import Arrived, Upstream

PROTECTED = re.compile(rb"/(files/admin|vault(?!/door(/|$))|teams/[^/]+/keys)(/|$)")


def as_the_careless_read(target: bytes) -> bytes:
    """A path as a careless upstream would read it: this is what must not slip past a rule."""
    path = target.split(b"?")[0].split(b"#")[0]
    path = unquote_to_bytes(path).replace(b"\\", b"/").lower()
    path = b"/".join(segment.split(b";")[0] for segment in path.split(b"/"))
    kept: list[bytes] = []
    for segment in path.split(b"/"):
        if segment == b"..":
            kept = kept[:-1]
        elif segment not in (b"", b"."):
            kept.append(segment)
    return b"/" + b"/".join(kept)


def slipped(arrived: list[Arrived]) -> list[bytes]:
    """Requests that reached the upstream past a rule, whoever reads their path."""
    return [
        one.target
        for one in arrived
        if PROTECTED.match(as_the_careless_read(one.target)) and one.get("x-user-scopes") != "admin"
    ]


# Spellings of /files/admin, /vault and /teams/a/keys, and paths that lead there.
SPELLINGS = [
    "/files/admin", "/files/admin/", "/files/admin/x", "/files/admin?x", "/files/admin#x",
    "/files/%61dmin", "/files/%61%64%6d%69%6e", "/files/admi%6e", "/files/admi%6E/x", "/%66iles/admin",
    "/files//admin", "//files/admin", "/files///admin", "/files//admin//", "///files//admin",
    "/files/admin;x", "/files/admin;jsessionid=1/x", "/files;x/admin", "/files/;/admin", "/;/files/admin",
    "/files\\admin", "/files/\\admin", "\\files\\admin", "/files%5cadmin", "/files/%5cadmin", "/files/x%5c..%5cadmin",
    "/files%2fadmin", "/files/%2fadmin", "/files/admin%2f", "/files/admin%2Fx", "/files%2F%2Fadmin",
    "/files/./admin", "/files/x/../admin", "/files/../files/admin", "/./files/admin", "/files/admin/.",
    "/files/%2e/admin", "/files/x/%2e%2e/admin", "/files/x/.%2e/admin", "/files/x/..%2fadmin",
    "/files/..;/files/admin", "/files/x/..;/admin", "/files/x/..;a=b/admin", "/files/.;/admin",
    "/files/ADMIN", "/files/Admin", "/FILES/admin", "/files/%41dmin", "/files/aDmIn/x",
    "/files/admin%00", "/files/%00admin", "/files/admin%20", "/files/admin%09", "/files/admin%0a", "/files/admin.",
    "/files/admin..;", "/files/admin%3b", "/files/admin%3bx/y", "/files/admin%3f", "/files/admin%23",
    "/files/%u0061dmin", "/files/%c1%a1dmin", "/files/%EF%BC%A1dmin", "/files/\xe1dmin", "/files/%zzadmin", "/files/adm%69n;%2f",
    "/files%3b/admin", "/files/%3b/admin", "/open/../files/admin", "/open/..%2ffiles%2fadmin", "/open/%2e%2e/vault",
    "/vault", "/vault/", "/vault/x", "/vault/door/../x", "/vault/door/..", "/vault/door/%2e%2e", "/vault/door%2f..%2fx",
    "/vault/door/..;/x", "/vault/door;/../x", "/vault/door\\..\\x", "/vault/doors", "/vault/doo", "/vault//door/../x",
    "/vault/DOOR", "/vault/d%6for", "/vault/door%2e%2e", "/Vault", "/%76ault/x", "/vault;door", "/vault/;door",
    "/teams/a/keys", "/teams/a/keys/1", "/teams/a//keys", "/teams//keys", "/teams/a/KEYS", "/teams/a/%6beys",
    "/teams/a%2fkeys", "/teams/a/b/../keys", "/teams/a;x/keys", "/teams/a/keys;x", "/teams/a/;/keys", "/teams/a\\keys",
    "/teams/%2e/keys", "/teams/./keys", "/teams/a/.%2f/keys", "/teams/;/a/keys",
]  # fmt: skip


@pytest.mark.parametrize(("scope", "refused"), [(None, 401), ("read", 403)])
def test_spelling_does_not_open_a_path(
    guarded: Gateway, behind: Upstream, scope: str | None, refused: int
) -> None:
    """No spelling of a protected path, and no detour: the verdict of the plain one, 400, or nobody's."""
    headers = [] if scope is None else authorized(scope=scope, roles=["admin"])
    passed = 0
    for target in SPELLINGS:
        answer = ask(guarded.port, target=target, headers=headers)
        assert answer.status in (200, 400, 404, refused), (target, answer.status)
        passed += answer.status == 200
        assert slipped(behind.requests) == [], target
    assert len(behind.requests) == passed


@pytest.mark.parametrize(
    ("path", "verdict"),
    [
        ("/files", (200, 200, 200)),
        ("/files/x", (200, 200, 200)),
        ("/files/administrator", (200, 200, 200)),
        ("/files/admin", (401, 403, 200)),
        ("/files/admin/x", (401, 403, 200)),
        ("/vault", (401, 403, 200)),
        ("/vault/x", (401, 403, 200)),
        ("/vault/door", (200, 200, 200)),
        ("/vault/doors", (401, 403, 200)),
        ("/teams/a", (200, 200, 200)),
        ("/teams/a/keys", (401, 403, 200)),
        ("/teams/a/b/keys", (200, 200, 200)),
    ],
)
def test_plain_spelling(
    guarded: Gateway, behind: Upstream, path: str, verdict: tuple[int, ...]
) -> None:
    """The most specific route decides: without a token, with one, with one that has the scope."""
    asked: tuple[Credentials, ...] = ([], authorized(), authorized(scope="admin"))
    assert tuple(ask(guarded.port, target=path, headers=each).status for each in asked) == verdict


PIECES = ["/", "//", "files", "admin", "ADMIN", "%61", "dmin", "vault", "door", "teams", "keys", "a", "x",
          ".", "..", "%2e", "%2E%2e", ";", ";x", "\\", "%5c", "%2f", "%2F", "%252f", "%3b", "%00", "%",
          "?", "#", "open", "%66iles"]  # fmt: skip


@examples(200)
@given(pieces=st.lists(st.sampled_from(PIECES), min_size=1, max_size=9))
def test_any_path(guarded: Gateway, guarded_upstreams: Upstreams, pieces: list[str]) -> None:
    """Whatever is made of such pieces: nobody without the scope gets to a protected path."""
    guarded_upstreams.reset()
    answer = ask(guarded.port, target="/" + "".join(pieces))
    assert answer.status in (200, 400, 401, 404)
    assert slipped(guarded_upstreams.main.requests) == []


HOSTS = ["inner.example", "INNER.example", "Inner.Example", "inner.example:80", "INNER.EXAMPLE:8000",
         "inner.example.", "inner.example.:80", "INNER.example."]  # fmt: skip


@pytest.mark.parametrize("host", HOSTS)
def test_host_has_one_meaning(guarded: Gateway, behind: Upstream, host: str) -> None:
    """A host in capitals, with a port or a trailing dot is that host: its rule holds, or it is 400."""
    assert ask(guarded.port, target="/hosted", host=host).status in (400, 401)
    answer = ask(guarded.port, target="/hosted", headers=authorized(), host=host)
    assert answer.status in (400, 403)
    assert behind.raw == b""


@pytest.mark.parametrize(
    "host",
    ["inner.example.evil.test", "xinner.example", "inner-example", "example", "a.inner.example"],
)
def test_other_host_is_another_one(guarded: Gateway, behind: Upstream, host: str) -> None:
    """A host that only begins or ends like it is none of its rule's."""
    assert ask(guarded.port, target="/hosted", host=host).status == 200


@pytest.mark.parametrize(
    "lines",
    [
        b"Host: inner.example\r\nHost: gw.test\r\n",
        b"Host: gw.test\r\nHost: inner.example\r\n",
        b"Host: gw.test, inner.example\r\n",
        b"Host: inner.example%2f\r\n",
        b"Host: gw.test@inner.example\r\n",
        b"Host: inner.example#gw.test\r\n",
        b"Host: inner.example\\gw.test\r\n",
        b"Host: inner.example /\r\n",
        b"Host: inner%2eexample\r\n",
        b"Host: inner.example:80:80\r\n",
        b"Host: [inner.example]\r\n",
        b"Host: inner.example..\r\n",
        b"Host: INNER.example..:80\r\n",
        b"Host: inner..example\r\n",
        b"Host: .inner.example\r\n",
    ],
)
def test_host_of_two_meanings_opens_nothing(
    guarded: Gateway, behind: Upstream, lines: bytes
) -> None:
    """Two hosts, or one that two readers take for different ones: refused, nothing is forwarded."""
    with RawClient(guarded.port) as client:
        answer = client.send(b"GET /hosted HTTP/1.1\r\n" + lines + b"\r\n").read()
    assert answer.status in (400, 401)
    assert behind.raw == b""


@pytest.mark.parametrize(
    "header", ["X-Forwarded-Host", "X-Host", "Forwarded", "X-Original-Host", "X-Forwarded-Server"]
)
def test_host_of_a_header_is_not_believed(guarded: Gateway, behind: Upstream, header: str) -> None:
    """An untrusted peer cannot leave a host's rules by naming another host in a header."""
    value = "host=gw.test" if header == "Forwarded" else "gw.test"
    answer = ask(guarded.port, target="/hosted", headers=[(header, value)], host="inner.example")
    assert answer.status == 401
    assert behind.raw == b""


@pytest.mark.parametrize(
    "header", ["X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Prefix", "X-Original-Path"]
)
def test_path_of_a_header_is_not_believed(guarded: Gateway, behind: Upstream, header: str) -> None:
    """Nor can it choose another path: neither the protected one nor, for the protected one, a public."""
    answer = ask(guarded.port, target="/files/admin", headers=[(header, "/files/public")])
    assert answer.status == 401
    assert ask(guarded.port, target="/files/x", headers=[(header, "/files/admin")]).status == 200
    assert [arrived.target for arrived in behind.requests] == [b"/files/x"]


@pytest.mark.parametrize(
    "header", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "_method"]
)
def test_method_of_a_header_is_not_believed(
    guarded: Gateway, behind: Upstream, header: str
) -> None:
    """The method that is judged is the method that is sent on."""
    answer = ask(guarded.port, "GET", "/table", [*authorized(roles=["user"]), (header, "POST")])
    assert answer.status == 200
    assert [arrived.method for arrived in behind.requests] == ["GET"]


def test_absolute_form_does_not_open_a_path(guarded: Gateway, behind: Upstream) -> None:
    """A target in absolute form is judged by its path and its host, too."""
    answers: list[Answer] = []
    for target in ("http://gw.test/files/admin", "http://gw.test/files/%61dmin", "http://gw.test//vault",
                   "http://inner.example/hosted"):  # fmt: skip
        host = target.split("/")[2]
        with RawClient(guarded.port) as client:
            answers.append(client.send(request(target=target, host=host)).read())
    assert {answer.status for answer in answers} <= {400, 401, 404}
    assert behind.raw == b""
