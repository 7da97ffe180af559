"""A reload keeps published keys if they are the same set, read the same way; and nothing else of the old."""

import logging
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest
import yaml

from propylon import Gateway
from propylon.assembly.running import Running
from propylon.compile.authentication import Authentication, compile_authentication
from propylon.config.models.auth import AuthConfig
from propylon.proxy.authenticate.jwks import PublishedKeys
from propylon.proxy.authenticate.keys import UnusableKeys
from propylon.upstream.pool import Address
from propylon.upstream.ports import Answer, Outgoing, Sink
from tests.compile.test_authentication import (
    ISSUER,
    KEYS,
    OF_KEY,
    Site,
    active,
    verdict,
)
from tests.proxy.authenticate.stand_in import NOW, SECRET, Taken, Wall, signed
from tests.proxy.doubles import whole
from tests.support.issuer import Issuer
from tests.support.jose import document, ec_jwk, es, es_key, pem, token
from tests.support.tokens import ec_key, rsa_key
from tests.support.virtual import run
from tests.upstream.peer import run as run_for_real
from tests.upstream.peer import until

Written = dict[str, Any]

URL = "https://issuer.test/keys"
PUBLISHED: Written = {"jwt": {"jwks_url": URL, "algorithms": ["ES256", "RS256"]}}
OTHER_KEYS = document({**ec_jwk(es_key()), "kid": "b"})


def after(before: Authentication | None, site: Site, written: Written) -> Authentication:
    """What a configuration comes to, after another one."""
    found = compile_authentication(
        AuthConfig.model_validate(written), site.connect, Taken(), Wall(), before=before
    )
    assert found is not None
    if found.published is not None:
        found.published.on_change = found.verifier.forget
    return found


async def fetched(site: Site, written: Written = PUBLISHED) -> Authentication:
    """What the first configuration comes to, with its keys fetched."""
    first = after(None, site, written)
    assert first.published is not None
    await first.published.refresh()
    assert first.published.missing is None
    return first


def changed(**jwt: Any) -> Written:
    """The same source, and something else beside it."""
    return {"jwt": {**PUBLISHED["jwt"], **jwt}}


SAME = [
    PUBLISHED,
    changed(issuer="https://issuer.test"),
    changed(audience=["orders"]),
    changed(leeway="30s"),
    changed(scopes_claim="scp", roles_claim="groups"),
    {**PUBLISHED, "introspection": {"url": ISSUER}},
    {**PUBLISHED, "tokens": {"enabled": False}},
]
OTHERS = [
    changed(jwks_url="https://issuer.test/other"),
    changed(jwks_url="https://issuer.test/keys?v=2"),
    changed(jwks_url="https://other.test/keys"),
    changed(jwks_url="https://issuer.test:8443/keys"),
    changed(jwks_url="http://issuer.test/keys"),
]
ALGORITHMS = [["ES256"], ["ES256", "RS256", "PS256"]]


@pytest.mark.parametrize("written", SAME)
def test_the_same_set(written: Written) -> None:
    """It goes on: the same keys, the same connections, and nobody is asked anew."""

    async def main() -> None:
        site = Site(KEYS)
        first = await fetched(site)
        second = after(first, site, written)
        assert second.published is first.published
        assert set(map(id, first.upstreams)) <= set(map(id, second.upstreams))
        refused = {"issuer", "audience"} & written["jwt"].keys()  # it names neither
        assert await verdict(second, OF_KEY) == ("401" if refused else "42")
        assert second.published is not None
        assert second.published.missing is None
        assert len(site.got) == 1
        assert [address.host for address, _ in site.connected].count("issuer.test") == (
            2 if "introspection" in written else 1
        )

    run(main())


@pytest.mark.parametrize("written", OTHERS)
def test_another_set(written: Written) -> None:
    """What was known is worth nothing there, not even for a moment; what is in force goes on meanwhile."""

    async def main() -> None:
        site = Site(KEYS)
        first = await fetched(site)
        second = after(first, site, written)
        assert second.published is not None
        assert second.published is not first.published
        assert second.published.missing is not None
        assert [await verdict(one, OF_KEY) for one in (first, second)] == ["42", "503"]
        await second.published.refresh()
        assert await verdict(second, OF_KEY) == "42"
        assert len(site.connected) == len(site.got) == 2

    run(main())


@pytest.mark.parametrize("algorithms", ALGORITHMS)
def test_other_algorithms(algorithms: list[str]) -> None:
    """The document that is held is bound to them at once; nobody is asked, and nothing is missing."""

    async def main() -> None:
        site = Site(KEYS)
        first = await fetched(site)
        second = after(first, site, changed(algorithms=algorithms))
        assert second.published is not first.published
        assert second.missing is None
        assert await verdict(second, OF_KEY) == "42"
        assert len(site.got) == 1

    run(main())


def test_algorithms_that_no_key_fits() -> None:
    """It is said before anything changes: the gateway would be without a key."""

    async def main() -> None:
        site = Site(KEYS)
        first = await fetched(site)
        with pytest.raises(UnusableKeys, match="no key of the set can be used"):
            after(first, site, changed(algorithms=["PS512"]))
        assert await verdict(first, OF_KEY) == "42"

    run(main())


@pytest.mark.parametrize(
    "jwt", [{"secret": SECRET.decode()}, {"public_key": pem(es_key()).decode()}]
)
def test_no_set_any_more(jwt: Written) -> None:
    """Keys that are written down replace those that were fetched."""

    async def main() -> None:
        site = Site(KEYS)
        first = await fetched(site)
        second = after(first, site, {"jwt": jwt})
        assert second.published is None
        expected = ("401", "42") if "secret" in jwt else ("42", "401")
        assert (await verdict(second, OF_KEY), await verdict(second, signed())) == expected

    run(main())


def test_there_and_back() -> None:
    """A set that was left is fetched again: who knows what became of it meanwhile."""

    async def main() -> None:
        site = Site(KEYS)
        first = await fetched(site)
        second = after(first, site, OTHERS[0])
        third = after(second, site, PUBLISHED)
        assert third.published is not first.published
        assert await verdict(third, OF_KEY) == "503"

    run(main())


def test_many_reloads() -> None:
    """It goes on from one to the next, and the latest one hears of what is published."""

    async def main() -> None:
        site = Site(KEYS, OTHER_KEYS)
        first = await fetched(site)
        last = first
        for written in (*SAME, PUBLISHED):
            last = after(last, site, written)
            assert last.published is first.published
        assert await verdict(last, OF_KEY) == "42"
        assert last.published is not None
        await last.published.refresh()
        assert await verdict(last, OF_KEY) == "401"

    run(main())


def test_a_set_that_was_not_there_yet() -> None:
    """It is waited for as before, and serves the new configuration when it comes."""

    async def main() -> None:
        site = Site(whole(500, b""), KEYS)
        first = after(None, site, PUBLISHED)
        assert first.published is not None
        await first.published.refresh()
        second = after(first, site, changed(leeway="30s"))
        assert second.published is first.published
        assert await verdict(second, OF_KEY) == "503"
        await first.published.refresh()
        assert await verdict(second, OF_KEY) == "42"

    run(main())


@pytest.mark.parametrize(
    ("rules", "status"),
    [
        ({"issuer": "https://issuer.test"}, "401"),
        ({"audience": "orders"}, "401"),
        ({"leeway": "0s"}, "401"),
        ({"leeway": "5s"}, "42"),
    ],
)
def test_new_rules_hold_for_tokens_that_were_verified(rules: Written, status: str) -> None:
    """Keys are kept, verdicts are not."""
    late = token({"alg": "ES256", "kid": "a"}, {"sub": "42", "exp": NOW - 1}, es(es_key()))

    async def main() -> None:
        site = Site(KEYS)
        first = await fetched(site, changed(leeway="5s"))
        assert await verdict(first, late) == "42"
        assert (
            await verdict(after(first, site, changed(**{"leeway": "5s", **rules})), late) == status
        )

    run(main())


def test_an_introspection_beside_it_is_the_new_one() -> None:
    """What was remembered of opaque tokens was said by somebody else."""

    class Sites(Site):
        """Says who it is asked as."""

        def connect(self, address: Address, limit: int) -> "Site":
            self.connected.append((address, limit))
            return _Judge(address.host) if address.host != "keys.test" else self

    class _Judge(Site):
        def __init__(self, host: str) -> None:
            super().__init__(active(sub=host))

        def send(self, outgoing: Outgoing, sink: Sink) -> Awaitable[Answer]:
            return self._exchange(outgoing)

    async def main() -> None:
        site = Sites(KEYS)
        source = {"jwks_url": "https://keys.test/"}
        first = await fetched(site, {"jwt": source, "introspection": {"url": "https://one.test/"}})
        assert await verdict(first, b"opaque") == "one.test"
        second = after(first, site, {"jwt": source, "introspection": {"url": "https://two.test/"}})
        assert second.published is first.published
        assert await verdict(second, b"opaque") == "two.test"

    run(main())


# Over real sockets


class Reloading:
    """A gateway in this process whose configuration is changed under it."""

    def __init__(self, gateway: Gateway, written: Written) -> None:
        self._gateway = gateway
        self.file = gateway.loaded.path
        self.written = written

    @property
    def running(self) -> Running:
        """What runs."""
        return self._gateway.start()

    def reload(self, **auth: Any) -> None:
        """Read another `auth`."""
        assert self.file is not None
        self.file.write_text(yaml.safe_dump({**self.written, "auth": auth}))
        self._gateway.reload()
        assert self._gateway.config.auth == AuthConfig.model_validate(auth)
        assert self.running.loaded is self._gateway.loaded

    @property
    def verifying(self) -> Authentication:
        """What verifies tokens now."""
        found = self.running.authentication
        assert found is not None
        return found

    @property
    def published(self) -> PublishedKeys:
        """The set that is followed now."""
        found = self.verifying.published
        assert found is not None
        return found


@pytest.fixture
def logger() -> logging.Logger:
    """Where a gateway in this process logs."""
    return logging.getLogger("propylon")


def test_while_it_runs(
    directory: Path, logger: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    """A source that is followed is followed on; one that is left is asked until the next one has answered."""
    tokens = {"enabled": False, "database": f"sqlite:///{directory}/none.db"}
    key = ec_key("k")

    async def main(issuer: Issuer) -> None:
        issuer.publish(key)
        jwt = {"jwks_url": issuer.jwks_url}
        written = {"auth": {"jwt": jwt, "tokens": tokens}}
        file = directory / "propylon.yaml"
        file.write_text(yaml.safe_dump(written))
        gateway = Gateway.from_file(file, {})
        async with gateway.lifespan():
            world = Reloading(gateway, written)
            await until(lambda: world.published.missing is None)
            first, sent = world.published, key.mint(sub="ann").encode()
            issuer.instead(lambda peer, arrived: peer.close())  # whoever asks now gets nothing
            for leeway in ("1s", "2s", "3s"):
                world.reload(jwt={**jwt, "leeway": leeway}, tokens=tokens)
                assert world.published is first
                assert await verdict(world.verifying, sent) == "ann"
            following = first._task
            assert following is not None
            assert not following.done()
            assert issuer.fetches == 1
            with Issuer() as other:
                other.go_down()
                world.reload(jwt={"jwks_url": other.jwks_url, "issuer": ISSUER}, tokens=tokens)
                await until(lambda: "tokens count as before" in caplog.text)
                assert world.published is first  # keys and rules, until there are others
                assert gateway._health.reasons() == []
                assert await verdict(world.verifying, sent) == "ann"
                other.publish(ec_key("n"))
                other.come_up()
                await until(lambda: world.published is not first)
                await until(following.cancelled)
                assert await verdict(world.verifying, sent) == "401"
                assert "reload: the new keys are in force" in caplog.text

    with Issuer() as issuer:
        run_for_real(main(issuer))


def test_a_mistake_that_is_corrected(directory: Path, logger: logging.Logger) -> None:
    """An address without keys changes nothing; neither does the way back; a third address counts."""
    tokens = {"enabled": False, "database": f"sqlite:///{directory}/none.db"}
    key = ec_key("k")

    async def main(issuer: Issuer, other: Issuer) -> None:
        issuer.publish(key)
        other.publish(key)
        jwt = {"jwks_url": issuer.jwks_url}
        written = {"auth": {"jwt": jwt, "tokens": tokens}, "log": {"level": "critical"}}
        (directory / "propylon.yaml").write_text(yaml.safe_dump(written))
        gateway = Gateway.from_file(directory / "propylon.yaml", {})
        async with gateway.lifespan():
            world = Reloading(gateway, written)
            first, sent = world.published, key.mint(sub="ann").encode()
            world.reload(jwt={"jwks_url": issuer.jwks_url + "/typo"}, tokens=tokens)
            mistaken = world.running._verification.pending
            world.reload(jwt={"jwks_url": issuer.jwks_url + "/typo", "leeway": 1}, tokens=tokens)
            waiting = world.running._verification.pending
            assert mistaken is not None
            assert waiting is not None
            assert waiting.published is mistaken.published  # the same address: asked once
            world.reload(jwt=jwt, tokens=tokens)
            assert world.running._verification.pending is None
            assert world.published is first
            assert await verdict(world.verifying, sent) == "ann"
            world.reload(jwt={"jwks_url": other.jwks_url}, tokens=tokens)
            await until(lambda: world.published is not first)
            assert await verdict(world.verifying, sent) == "ann"

    with Issuer() as issuer, Issuer() as other:
        run_for_real(main(issuer, other))


def test_algorithms_that_would_leave_no_key(
    directory: Path, logger: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    """The reload is refused with its place, like any mistake of the file; narrower ones count at once."""
    tokens = {"enabled": False, "database": f"sqlite:///{directory}/none.db"}
    old, new = ec_key("old"), rsa_key("new")

    async def main(issuer: Issuer) -> None:
        issuer.publish(old, new)
        jwt = {"jwks_url": issuer.jwks_url}
        written = {"auth": {"jwt": jwt, "tokens": tokens}}
        (directory / "propylon.yaml").write_text(yaml.safe_dump(written))
        gateway = Gateway.from_file(directory / "propylon.yaml", {})
        async with gateway.lifespan():
            world = Reloading(gateway, written)
            taken = gateway.loaded
            with pytest.raises(AssertionError):
                world.reload(jwt={**jwt, "algorithms": ["EdDSA"]}, tokens=tokens)
            assert gateway.loaded is world.running.loaded is taken
            sent = [key.mint(sub="ann").encode() for key in (old, new)]
            assert [await verdict(world.verifying, one) for one in sent] == ["ann", "ann"]
            issuer.go_down()
            world.reload(jwt={**jwt, "algorithms": ["ES256"]}, tokens=tokens)
            assert [await verdict(world.verifying, one) for one in sent] == ["ann", "401"]

    with Issuer() as issuer:
        run_for_real(main(issuer))
    said = "auth.jwt.algorithms: with these, no published key could verify a token"
    assert f"reload: nothing changes: {directory}/propylon.yaml:3 {said}" in caplog.text
