"""Questions to the issuer are shared out: no client, and no crowd of bad ones, has all of them."""

import asyncio
from collections.abc import Callable

import pytest

from propylon.errors import AuthError, RateLimited, ServiceUnavailable
from propylon.proxy.authenticate import shares as module
from propylon.proxy.authenticate.claims import Rules
from propylon.proxy.authenticate.introspection import Introspection
from propylon.proxy.authenticate.shares import Shares, Turn
from propylon.proxy.authenticate.trust import Trust
from propylon.upstream.fetch import Fetched
from tests.proxy.authenticate.stand_in import NOW, Wall
from tests.support.virtual import run

SLOW = 2.0  # seconds that the issuer takes for an answer
ACTIVE = b'{"active": true, "sub": "ann"}'
GONE = b'{"active": false}'


def shares(slots: int = 4, *, waiting: int = 128) -> Shares:
    """Slots, with the loop's clock."""
    return Shares(slots, waiting=waiting, clock=lambda: asyncio.get_running_loop().time())


async def entered(of: Shares, client: str, *, proven: bool = False) -> asyncio.Task[Turn]:
    """A question that has asked for a slot."""
    task = asyncio.ensure_future(of.enter(client, proven=proven))
    await asyncio.sleep(0)
    return task


def has_slot(*tasks: asyncio.Task[Turn]) -> list[bool]:
    """Which of them have one."""
    return [task.done() and not task.cancelled() and task.exception() is None for task in tasks]


def test_invented_tokens_do_not_shut_honest_clients_out() -> None:
    """200 clients send made-up tokens without end to a slow issuer, and 24 honest clients are all let in."""

    async def post(token: bytes) -> Fetched:
        await asyncio.sleep(SLOW)
        return Fetched(200, b"", ACTIVE if token.startswith(b"good") else GONE)

    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        asked = Introspection(
            post, [Trust(Rules())], ttl=30.0, clock=lambda: NOW + loop.time(), shares=shares(64)
        )

        async def attack(number: int) -> None:
            for sent in range(1000):
                try:
                    await asked.ask(b"made-up-%d-%d" % (number, sent), f"198.51.100.{number}")
                except (AuthError, RateLimited, ServiceUnavailable):
                    await asyncio.sleep(0.01)

        crowd = [asyncio.ensure_future(attack(number)) for number in range(200)]
        await asyncio.sleep(10.0)
        honest = [asked.ask(b"good-%d" % one, f"203.0.113.{one}") for one in range(24)]
        found = await asyncio.gather(*honest, return_exceptions=True)
        for task in crowd:
            task.cancel()
        await asyncio.gather(*crowd, return_exceptions=True)
        return [getattr(getattr(one, "principal", None), "subject", repr(one)) for one in found]

    assert run(main()) == ["ann"] * 24


def test_made_up_tokens_push_no_answer_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused tokens have a cache of their own: a user's answer stays, however many tokens are made up."""
    monkeypatch.setattr("propylon.proxy.authenticate.introspection._MAX_CACHED", 10)
    questions: list[bytes] = []

    async def post(token: bytes) -> Fetched:
        questions.append(token)
        return Fetched(200, b"", ACTIVE if token == b"good" else GONE)

    async def main() -> None:
        asked = Introspection(post, [Trust(Rules())], ttl=30.0, clock=Wall())
        await asked.ask(b"good", "a")
        for number in range(100):
            with pytest.raises(AuthError):
                await asked.ask(b"made-up-%d" % number, "b")
        await asked.ask(b"good", "a")

    run(main())
    assert questions.count(b"good") == 1


def test_a_user_behind_an_attackers_address() -> None:
    """A token that was active at its last answer is asked about first, from whatever address it comes."""

    async def main() -> None:
        of = shares(2)
        of.note_refused("a")
        first, second = await entered(of, "a"), await entered(of, "a")
        proven = await entered(of, "a", proven=True)
        assert has_slot(first, second, proven) == [True, False, True]
        proven.result().leave()
        first.result().leave()
        (await second).leave()

    run(main())


def test_one_client_has_half() -> None:
    """A client has at most half of the slots; the others find some free."""

    async def main() -> None:
        of = shares(4)
        greedy = [await entered(of, "a") for _ in range(5)]
        other = await entered(of, "b")
        assert has_slot(*greedy, other) == [True, True, False, False, False, True]
        for task in (*greedy, other):
            (await task).leave()

    run(main())


def test_clients_take_turns() -> None:
    """A client with one question does not wait for all those that another client asked before."""

    async def main() -> None:
        of = shares(2)
        begun = [await entered(of, "a"), await entered(of, "c")]
        many = [await entered(of, "a") for _ in range(3)]
        one = await entered(of, "b")
        begun[0].result().leave()
        await asyncio.sleep(0)
        assert has_slot(*many, one) == [True, False, False, False]
        begun[1].result().leave()
        await asyncio.sleep(0)
        assert has_slot(*many, one) == [True, False, False, True]
        for task in (*many, one):
            (await task).leave()

    run(main())


def test_suspects_wait_behind_the_others() -> None:
    """Clients whose tokens were refused lately have half of the slots together, until that is forgotten."""

    async def main() -> None:
        of = shares(4)
        for client in "abc":
            of.note_refused(client)
        bad = [await entered(of, client) for client in "abc"]
        good = [await entered(of, client) for client in "de"]
        assert has_slot(*bad, *good) == [True, True, False, True, True]
        for task in (*bad, *good):
            (await task).leave()
        await asyncio.sleep(module._SUSPECT_FOR)
        later = [await entered(of, client) for client in "abcd"]
        assert has_slot(*later) == [True] * 4
        for task in later:
            task.result().leave()

    run(main())


def test_too_many_that_wait() -> None:
    """A client that has its share waiting is refused at once, with 429 and when to come again."""

    async def main() -> None:
        of = shares(2, waiting=3)
        tasks = [await entered(of, "a") for _ in range(4)]
        with pytest.raises(RateLimited) as caught:
            await of.enter("a", proven=False)
        assert caught.value.headers == ((b"Retry-After", b"1"),)
        for task in tasks:
            (await task).leave()

    run(main())


def test_no_turn_in_time() -> None:
    """A question that gets no slot in time is 503, and leaves nothing behind."""

    async def main() -> None:
        of = shares(2)
        tasks = [await entered(of, client) for client in "ab"]
        with pytest.raises(ServiceUnavailable):
            await of.enter("c", proven=False)
        for task in tasks:
            task.result().leave()
        assert (of._free, of._free_for_suspects, of._waits, of._under_way) == (2, 1, {}, {})

    run(main())


@pytest.mark.parametrize("settle", [lambda: asyncio.sleep(0), None])
def test_a_request_that_is_cancelled(settle: Callable[[], object] | None) -> None:
    """A cancelled question gives its place, or its slot, to the next, also if the slot came at that moment."""

    async def main() -> None:
        of = shares(2)
        first, other = await entered(of, "a"), await entered(of, "d")
        second, third = await entered(of, "b"), await entered(of, "c")
        if settle is None:
            first.result().leave()  # the slot is the second's, which is cancelled before it notices
            second.cancel()
        else:
            second.cancel()
            await asyncio.sleep(0)
            first.result().leave()
        (await third).leave()
        other.result().leave()
        assert (of._free, of._waits, of._all_waiting) == (2, {}, 0)

    run(main())


def test_addresses_of_one_network_are_one_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """IPv6 clients count by their /64, and suspects are forgotten when there are too many."""
    monkeypatch.setattr(module, "_MAX_SUSPECTS", 2)

    async def main() -> None:
        of = shares(4)
        for client in ("2001:db8::1", "b", "c"):
            of.note_refused(client)
        assert len(of._suspects) == 2
        tasks = [await entered(of, f"2001:db8::{number}") for number in range(1, 5)]
        assert has_slot(*tasks) == [True, True, False, False]
        for task in tasks:
            (await task).leave()

    run(main())
