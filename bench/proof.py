"""Lets each gateway show that it does its whole task, token check included, before anything counts."""

import http.client
import ipaddress
import json
from dataclasses import dataclass

from peers import Peer, Site
from processes import BODY_SIZE, until
from tokens import Tokens

PATH = "/api/v1/orders/1042?expand=lines"
SEEN = "/api/v1/orders/seen"
LOG_LIMIT = 5.0
ROUTES_LIMIT = 5.0


class WrongAnswer(Exception):
    """What a gateway did is not what was asked; the text says how."""


class NotProven(Exception):
    """A gateway that claims to check tokens took one wrongly; the text says which."""


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: dict[str, str]
    content: bytes


def check(peer: Peer, site: Site, tokens: Tokens | None, size: int = BODY_SIZE) -> None:
    """One request for each thing that every gateway has to do; answers have `size` bytes."""
    token = tokens.good[0] if tokens else None
    # Traefik listens before it has read its routes.
    until(lambda: _get(site.port, PATH, token).status == 200, ROUTES_LIMIT)
    if tokens and peer.checks_tokens:
        _check_tokens(peer, site, tokens)
    _check_answer(_get(site.port, PATH, token), size)
    _check_request(peer, json.loads(_get(site.port, SEEN, token).content), token)
    if _get(site.port, "/nowhere", token).status == 200:
        raise WrongAnswer("a path without a route was forwarded")
    if not until(lambda: _logged(site), LOG_LIMIT):
        raise WrongAnswer("no JSON line with the request's path in its access log")


def _check_tokens(peer: Peer, site: Site, tokens: Tokens) -> None:
    """Every good token passes, every other one is 401, and the good ones pass again afterwards."""
    for _ in range(2):
        for number, token in enumerate(tokens.good):
            _expect(200, peer, site, f"good token {number}", token)
        _expect(401, peer, site, "missing token", None)
        for name, token in tokens.refused.items():
            _expect(401, peer, site, f"token that is bad ({name})", token)


def _expect(status: int, peer: Peer, site: Site, what: str, token: str | None) -> None:
    got = _get(site.port, PATH, token).status
    if got != status:
        raise NotProven(f"{peer.name} answers {got} instead of {status} to a {what}")


def _check_answer(answer: _Answer, size: int) -> None:
    got = len(answer.content)
    if (answer.status, got) != (200, size):
        raise WrongAnswer(f"{answer.status} with {got} bytes instead of 200 with {size}")
    json.loads(answer.content)
    if answer.headers.get("content-type") != "application/json":
        raise WrongAnswer(f"content-type {answer.headers.get('content-type')}")


def _check_request(peer: Peer, seen: dict[str, str], token: str | None) -> None:
    """What reached the service."""
    if peer.sends_request_id and len(seen["request_id"]) < 8:
        raise WrongAnswer("no X-Request-ID reached the service")
    # Envoy writes the machine's own address where the client is on loopback.
    if not _is_address(seen["forwarded_for"]):
        raise WrongAnswer(f"X-Forwarded-For reached the service as {seen['forwarded_for']!r}")
    if seen["protocol"] != "HTTP/1.1":
        raise WrongAnswer(f"the service was asked in {seen['protocol']}")
    if seen["authorization"] != (f"Bearer {token}" if token else ""):
        raise WrongAnswer("the token did not reach the service as it was sent")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _get(port: int, path: str, token: str | None) -> _Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        received = {name.lower(): value for name, value in answer.getheaders()}
        return _Answer(answer.status, received, answer.read())
    finally:
        connection.close()


def _logged(site: Site) -> bool:
    lines = site.access_log.read_bytes().splitlines() if site.access_log.exists() else []
    about = [line for line in lines if PATH.partition("?")[0].encode() in line]
    return any(isinstance(json.loads(line), dict) for line in about)
