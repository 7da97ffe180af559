"""The search for secrets finds what was said; without that, its silence would mean nothing."""

import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support.client import chunked, request
from tests.support.secrecy import SECRECY, Search, Secrecy
from tests.support.tokens import mint
from tests.support.zygote import ROOT

PLANTED = "pL4nt3d-by-the-test-of-the-search"


@pytest.fixture
def own() -> Secrecy:
    """A search of its own: what is planted here is no leak of a gateway's."""
    return Secrecy()


@pytest.mark.parametrize(
    "sent",
    [
        request(headers=[("Authorization", f"Bearer {PLANTED}")]),
        request(headers=[("AUTHORIZATION", f"bearer   {PLANTED}")]),
        request(headers=[("authorization", PLANTED)]),
        request(headers=[("Proxy-Authorization", f"Basic {PLANTED}")]),
        request(headers=[("Cookie", f"a=b; session={PLANTED}; c=d")]),
        request(target=f"/up/x?a=b&token={PLANTED}&c=d"),
        request(target=f"/up/x?access_token={PLANTED}"),
        request("POST", body=f"username=alice&password={PLANTED}".encode()),
        request("POST", body=f"grant_type=refresh_token&refresh_token={quote(PLANTED)}".encode()),
        f"HTTP/1.1 200 OK\r\nSet-Cookie: id={PLANTED}; Path=/; HttpOnly\r\n\r\n".encode(),
    ],
)
def test_what_is_sent_is_noted(own: Secrecy, sent: bytes) -> None:
    """Tokens, cookies and passwords that pass through a client or an upstream are noted by themselves."""
    own.note_sent(sent)
    assert PLANTED in own.secrets


@pytest.mark.parametrize("name", ["access_token", "refresh_token"])
def test_what_is_handed_out_is_noted(own: Secrecy, name: str) -> None:
    """So are the tokens in an answer of the token endpoint, but not the examples in documentation."""
    own.note_issued(json.dumps({"expires_in": 1, name: PLANTED}).encode())
    assert PLANTED in own.secrets
    own.note_issued(json.dumps({name: "3xamPl3-in-a-page", "text": "x" * 5000}).encode())
    assert "3xamPl3-in-a-page" not in own.secrets


@pytest.mark.parametrize(
    "sent",
    [
        request(headers=[("Authorization", "Bearer abc"), ("Cookie", "a=b")]),
        request(headers=[("Cookie", "a=" + "x" * 5000)]),
        b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Domain=shop.example.com; Expires=Wed,01\r\n\r\n",
        chunked(b"no secret in here at all"),
    ],
)
def test_what_is_none_is_not(own: Secrecy, sent: bytes) -> None:
    """Fillers, attributes and values too short to be found by more than chance are left alone."""
    own.note_sent(sent)
    assert own.secrets == set()


def test_secrets_of_a_configuration_are_noted(own: Secrecy) -> None:
    """So are the keys that a gateway is started with."""
    jwt, introspection = {"secret": PLANTED}, {"url": "http://idp", "client_secret": PLANTED[::-1]}
    own.note_config(
        {"auth": {"jwt": jwt, "introspection": introspection}, "routes": [{"path": "/x"}]}
    )
    assert {PLANTED, PLANTED[::-1]} <= own.secrets
    assert "http://idp" not in own.secrets


@pytest.mark.parametrize("offset", range(20))
def test_search_finds_it_anywhere(offset: int) -> None:
    """Wherever it begins, whatever stands around it, short or long."""
    for secret in (PLANTED, PLANTED[:8], PLANTED[:14], PLANTED[:15], PLANTED * 9):
        text = "x" * offset + secret + "y" * 100
        search = Search({secret, "another-one-that-is-not-there"})
        assert search.found_in(text) == {secret}
        assert search.found_in(text[: offset + len(secret) - 1]) == set()


def test_parts_and_spellings_are_found(own: Secrecy, tmp_path: Path) -> None:
    """A token's claims or signature alone, an escaped password, in a file or in what was printed."""
    token, password = own.note(mint()), own.note('pass "word" /with& odd=signs')
    log = tmp_path / "log"
    own.watch(log)
    own.watch(tmp_path / "never-written")
    assert own.leaks() == []
    for said in (
        token,
        *token.split(".")[1:],
        password,
        quote(password, safe=""),
        json.dumps(password),
    ):
        log.write_text(f'{{"message": "for {said}"}}\n')
        assert own.leaks(), said
    log.write_text("")
    own.hear("a command", f"error: {token}\n")
    leak, *_ = own.leaks()
    assert leak.startswith("a command says ")
    assert token not in leak


RUN = """
from pathlib import Path

from tests.support.secrecy import SECRECY


def test_one(tmp_path: Path) -> None:
    SECRECY.note("{planted}")
    SECRECY.watch(tmp_path / "log")
    (tmp_path / "log").write_text("token={planted}!")
    print("it was {planted}")
"""


def test_leak_fails_the_run(tmp_path: Path) -> None:
    """A session in which a secret was logged or printed fails, although each of its tests went well."""
    test = tmp_path / "test_planted.py"
    test.write_text(RUN.format(planted=PLANTED))
    parts = "from tests.support.secrecy import pytest_runtest_logreport, secrecy\n"
    (tmp_path / "conftest.py").write_text(parts)
    options = ["-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(test)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stdout
    for words in ("1 passed", "1 error", "log says pL4nt3", "test_one says pL4nt3"):
        assert words in done.stdout


def test_real_search_is_on(secrecy: None) -> None:
    """The session that runs this is searched: what is minted for any case of it is noted."""
    assert mint() in SECRECY.secrets
