"""Published keys: they rotate without a restart or a stall, and no trouble of their source opens a gate.

Every scenario has a gateway and a source of its own. Most of the time they wait (a source is asked once
in a cool-down at the most), so all of them run at the same time, in threads.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from tests.support import answers
from tests.support.client import RawClient, ask, request
from tests.support.gateway import Config, Gateway
from tests.support.issuer import JWKS, Issuer
from tests.support.tokens import Key, bearer, ec_key, rsa_key
from tests.support.upstream import Script, Upstream

# Seconds between two fetches: a fifth of what it is for an operator, on whose clock
# `tests/proxy/authenticate/test_published_keys.py` looks at it.
COOL_DOWN = 1.0
FIRST = f"""
from propylon.proxy.authenticate.jwks import PublishedKeys
PublishedKeys.__init__.__kwdefaults__["cool_down"] = {COOL_DOWN}
"""
SOON = 40.0  # seconds in which what must happen by itself has happened
PROMPT = 4.0  # seconds, of a client: less than a fetch may take
ISS, AUD = "https://issuer.example/", "orders"

Start = Callable[[], Gateway]
Scenario = Callable[[Issuer, Start], None]


def signed(key: Key, **more: Any) -> list[tuple[str, str]]:
    """The header with a good token of that key."""
    return bearer(key.mint(**{"iss": ISS, "aud": AUD, **more}))


def status(gateway: Gateway, headers: list[tuple[str, str]], target: str = "/locked") -> int:
    """What a request gets; one that waits for a source that hangs is a failure."""
    with RawClient(gateway.port, timeout=PROMPT) as client:
        return client.send(request(target=target, headers=headers)).read().status


def becomes(true: Callable[[], bool]) -> bool:
    """Whether it becomes true soon."""
    deadline = time.monotonic() + SOON
    while time.monotonic() < deadline:
        if true():
            return True
        time.sleep(0.1)
    return False


def flood(gateway: Gateway, key: Key, size: int = 60) -> None:
    """Send tokens with key ids that nobody has ever published; each is refused, and few of them wait."""
    with RawClient(gateway.port, timeout=PROMPT) as client:
        for number in range(size):
            token = key.mint(iss=ISS, aud=AUD, headers={"kid": f"unknown-{number}"})
            assert (
                client.send(request(target="/locked", headers=bearer(token))).read().status == 401
            )


def check_pauses(issuer: Issuer) -> None:
    """Assert that there was a cool-down between fetches for unknown keys; on a busy machine one arrives late.

    The gateway's own fetches, every few minutes, may come in between.
    """
    times = [one.started for one in issuer.requests if one.target == JWKS.encode()]
    pauses = [after - before for before, after in zip(times, times[2:], strict=False)]
    assert all(pause > COOL_DOWN * 0.6 for pause in pauses), times


def check_claims(gateway: Gateway, issuer: Issuer, key: Key) -> None:
    """Issuer and audience are the file's; a key is taken for its own name only; no other is fetched."""
    assert status(gateway, signed(key, aud=["x", AUD])) == 200
    changes: list[dict[str, Any]] = [
        {"iss": "https://issuer.example"},
        {"iss": "https://evil.test/"},
        {"iss": [ISS]},
        {"iss": None},
        {"aud": "other"},
        {"aud": []},
        {"aud": {AUD: 1}},
        {"aud": None},
        {"headers": {"kid": "old"}},
        {"headers": {"kid": "../../dev/null"}},
        {"headers": {"kid": ""}},
        {"headers": {"jku": f"http://127.0.0.1:{issuer.port}/evil.json", "kid": "evil"}},
    ]
    for bad in changes:
        assert status(gateway, signed(key, **bad)) == 401, bad
    assert status(gateway, bearer(ec_key(key.kid).mint(iss=ISS, aud=AUD))) == 401
    assert {one.target for one in issuer.requests} == {JWKS.encode()}


def fetched_since(issuer: Issuer, fetches: int) -> bool:
    """Whether the source was asked again."""
    return issuer.fetches > fetches


def from_nothing(issuer: Issuer, start: Start) -> None:
    """No source at first; then one whose keys rotate; then none again, which changes nothing."""
    old, kept, new = rsa_key("old"), ec_key("kept"), ec_key("new")
    issuer.publish(old, kept)
    issuer.go_down()
    gateway = start()
    check_unready(gateway, signed(old))
    issuer.come_up()
    assert becomes(lambda: ask(gateway.port, target="/readyz").status == 200)
    flood(gateway, kept)
    assert [status(gateway, signed(key)) for key in (old, kept, new)] == [200, 200, 401]
    check_claims(gateway, issuer, kept)
    issuer.publish(kept, new)

    def rotated() -> bool:
        assert status(gateway, signed(kept)) == 200
        assert status(gateway, signed(old)) in (200, 401)
        return status(gateway, signed(new)) == 200

    assert becomes(rotated)
    assert [status(gateway, signed(key)) for key in (old, kept, new)] == [401, 200, 200]
    flood(gateway, kept)
    time.sleep(0.3)
    # Neither the flood before nor the one behind it had the source asked more often.
    assert issuer.fetches > 1
    check_pauses(issuer)
    issuer.go_down()
    assert [status(gateway, signed(key)) for key in (old, kept, new)] == [401, 200, 200]
    assert ask(gateway.port, target="/readyz").status == 200


def check_unready(gateway: Gateway, headers: list[tuple[str, str]]) -> None:
    """Assert that it runs, is not ready, serves what is public, and lets nobody else in."""
    assert ask(gateway.port, target="/livez").status == 200
    assert ask(gateway.port, target="/open").status == 200
    assert ask(gateway.port, target="/readyz").status == 503
    answer = ask(gateway.port, target="/locked", headers=headers)
    assert (answer.status, answer.json()["error"]["code"]) == (503, "SERVICE_UNAVAILABLE")
    assert answer.get("retry-after")
    assert status(gateway, []) in (401, 503)
    assert becomes(lambda: "the key set could not be fetched" in gateway.said())


def trouble(*scripts: Script) -> Scenario:
    """A source that does this instead, one after the other: the known keys stay in force, nothing waits."""

    def scenario(issuer: Issuer, start: Start) -> None:
        key = ec_key("k")
        issuer.publish(key)
        gateway = start()
        assert becomes(lambda: ask(gateway.port, target="/readyz").status == 200)
        assert status(gateway, signed(key)) == 200
        for script in scripts:
            fetches = issuer.fetches
            issuer.instead(script)
            flood(gateway, key)
            assert becomes(partial(fetched_since, issuer, fetches))
            flood(gateway, key)
            assert [status(gateway, signed(key)) for _ in range(5)] == [200] * 5
            assert ask(gateway.port, target="/readyz").status == 200
        time.sleep(0.5)  # what the answer does, it has done
        assert status(gateway, signed(key)) == 200
        check_pauses(issuer)

    return scenario


def moved_then_hangs(issuer: Issuer, start: Start) -> None:
    """A redirect, which is not followed, whoever waits there; then no answer at all."""
    with Issuer() as elsewhere:
        elsewhere.publish(ec_key("foreign"))
        moved = answers.plain("302 Found", headers=[f"Location: {elsewhere.jwks_url}"])
        trouble(moved, answers.hang)(issuer, start)
        assert elsewhere.requests == []


HTML = answers.plain(headers=["Content-Type: text/html"], body=b"<html>Welcome</html>")
HUGE = answers.plain(
    headers=["Content-Type: application/json"], body=b'{"keys": [' + b" " * 10_000_000 + b"]}"
)

SCENARIOS: dict[tuple[str, str], Scenario] = {
    ("fast", "from-nothing"): from_nothing,
    ("portable", "from-nothing"): from_nothing,
    # What the source answers is the same to both edges: each takes its part.
    ("fast", "moved-then-hangs"): moved_then_hangs,
    ("portable", "huge-then-html"): trouble(HUGE, HTML),
}


def configuration(upstream: Upstream, issuer: Issuer) -> Config:
    """A gateway that trusts this source."""
    jwt = {
        "jwks_url": issuer.jwks_url,
        "algorithms": ["RS256", "ES256"],
        "issuer": ISS,
        "audience": AUD,
    }
    return {
        "auth": {"jwt": jwt},
        "services": {"main": {"url": f"http://127.0.0.1:{upstream.port}"}},
        "routes": [
            {"path": "/locked", "service": "main"},
            {"path": "/open", "service": "main", "auth": "none"},
        ],
    }


def run(edge: str, name: str, folder: Path) -> None:
    """Carry out a scenario. Raises whatever went wrong."""
    with Upstream(identified=True) as upstream, Issuer() as issuer, ExitStack() as stack:

        def start() -> Gateway:
            gateway = Gateway(edge, configuration(upstream, issuer), folder, first=FIRST)
            stack.callback(gateway.kill)
            gateway.wait_ready(30)
            return gateway

        SCENARIOS[edge, name](issuer, start)
        assert issuer.faults + upstream.faults == []
