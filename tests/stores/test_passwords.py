"""Hashes of passwords: the right algorithm, off the loop, few at a time, the same work for everybody."""

import asyncio
import os
import sys
import threading

import bcrypt
import pytest
from pwdlib.hashers.argon2 import Argon2Hasher

from propylon.errors import ServiceUnavailable
from propylon.stores.passwords import LONGEST_PASSWORD, Cost, Passwords, _dummy
from tests.stores.kept import CHEAP, PASSWORD, Counting
from tests.support.hashing import USUAL, usual_cost

__all__ = ["usual_cost"]


@pytest.mark.usefixtures("usual_cost")
def test_argon2id_with_the_parameters_of_rfc_9106() -> None:
    """By default: argon2id, 64 MiB, three rounds, four lanes; every hash has a salt of its own."""

    async def main() -> tuple[str, str]:
        passwords = Passwords()
        made = await passwords.hash(PASSWORD), await passwords.hash(PASSWORD)
        assert await passwords.verify(PASSWORD, made[0]) == (True, None)
        passwords.close()
        return made

    first, second = asyncio.run(main())
    assert first.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert first != second


def test_what_fits() -> None:
    """The password fits, another does not, and none fits what is no hash of ours."""

    async def main() -> None:
        passwords = Passwords(CHEAP)
        known = await passwords.hash(PASSWORD)
        assert await passwords.verify(PASSWORD, known) == (True, None)
        assert await passwords.verify("wrong horse", known) == (False, None)
        assert await passwords.verify(PASSWORD, None) == (False, None)
        assert await passwords.verify(PASSWORD, "$2b$12$" + "x" * 53) == (False, None)
        assert await passwords.verify("", known) == (False, None)
        passwords.close()

    asyncio.run(main())


@pytest.mark.parametrize("known", ["one", "another", "none", "foreign"])
def test_the_same_work_for_everybody(known: str) -> None:
    """Right, wrong, unknown, or a hash of another kind: the hash is computed once."""

    async def main() -> int:
        passwords = Counting()
        hashes = {
            "one": await passwords.hash(PASSWORD),
            "another": await passwords.hash("another"),
            "none": None,
            "foreign": "$2b$12$" + "x" * 53,
        }
        await passwords.verify(PASSWORD, hashes[known])
        passwords.close()
        return passwords.verified

    assert asyncio.run(main()) == 1


@pytest.mark.parametrize("cost", [CHEAP, USUAL, Cost(2, 16, 2)])
def test_the_dummy_has_the_parameters_of_all_others(cost: Cost) -> None:
    """Verifying against it takes what verifying against a real one takes, and it is another one each time."""
    hasher = Argon2Hasher(cost.time, cost.memory, cost.lanes)
    dummy, real = _dummy(cost), hasher.hash(PASSWORD)
    assert not hasher.check_needs_rehash(dummy)
    assert [len(part) for part in dummy.split("$")] == [len(part) for part in real.split("$")]
    assert dummy != _dummy(cost)
    assert not hasher.verify(PASSWORD, dummy)


def test_new_parameters_make_a_new_hash() -> None:
    """Who logs in with the old one gets one with the new parameters, which fits and is not renewed again."""

    async def main() -> None:
        old, new = Passwords(CHEAP), Passwords(Cost(2, 16, 1))
        known = await old.hash(PASSWORD)
        fits, renewed = await new.verify(PASSWORD, known)
        assert fits
        assert renewed is not None
        assert renewed.startswith("$argon2id$v=19$m=16,t=2,p=1$")
        assert await new.verify(PASSWORD, renewed) == (True, None)
        assert await new.verify("wrong horse", known) == (False, None)
        old.close()
        new.close()

    asyncio.run(main())


def test_one_form_for_what_looks_the_same() -> None:
    """An é of one character and an é of two are the same password."""

    async def main() -> bool:
        passwords = Passwords(CHEAP)
        known = await passwords.hash("caf\u00e9 noir")
        fits, _ = await passwords.verify("cafe\u0301 noir", known)
        passwords.close()
        return fits

    assert asyncio.run(main())


def test_a_long_one_fits_nothing() -> None:
    """What is longer than a password may be fits nothing, not even what it begins with."""

    async def main() -> None:
        passwords = Counting()
        longest = "x" * LONGEST_PASSWORD
        known = await passwords.hash(longest)
        assert await passwords.verify(longest, known) == (True, None)
        assert await passwords.verify(longest + "x", known) == (False, None)
        passwords.close()
        assert passwords.verified == 2

    asyncio.run(main())


class Slow(Passwords):
    """Hashes when it is told to."""

    def __init__(self, **options: int) -> None:
        super().__init__(CHEAP, **options)
        self.go = threading.Event()
        self.began = threading.Semaphore(0)
        self.most = 0
        self.ran = 0
        self._now = 0

    def _verify(self, text: bytes, known: str | None) -> tuple[bool, str | None]:
        self.ran += 1
        self._now += 1
        self.most = max(self.most, self._now)
        self.began.release()
        self.go.wait(10)
        self._now -= 1
        return False, None


def test_a_flood_takes_neither_memory_nor_the_loop() -> None:
    """At most `threads` are hashed at a time, `waiting` wait, the next is refused at once; the loop goes on."""

    async def main() -> None:
        passwords = Slow(threads=2, waiting=3)
        waiting = [asyncio.create_task(passwords.verify("x", None)) for _ in range(5)]
        await asyncio.sleep(0)
        for _ in range(2):
            await asyncio.to_thread(passwords.began.acquire)
        for refused in (passwords.verify("x", None), passwords.hash("x")):
            with pytest.raises(ServiceUnavailable) as caught:
                await refused
            assert caught.value.headers == ((b"Retry-After", b"2"),)
        passwords.go.set()
        assert await asyncio.gather(*waiting) == [(False, None)] * 5
        assert passwords.most == 2
        assert await passwords.verify("x", None) == (False, None)
        passwords.close()

    asyncio.run(main())


def test_who_leaves_makes_room() -> None:
    """A client that does not wait any longer is taken out of the queue."""

    async def main() -> None:
        passwords = Slow(threads=1, waiting=1)
        first = asyncio.create_task(passwords.verify("x", None))
        second = asyncio.create_task(passwords.verify("x", None))
        await asyncio.to_thread(passwords.began.acquire)
        second.cancel()
        assert await asyncio.gather(second, return_exceptions=True) != [(False, None)]
        third = asyncio.create_task(passwords.verify("x", None))
        await asyncio.sleep(0)
        passwords.go.set()
        assert await asyncio.gather(first, third) == [(False, None)] * 2
        assert passwords.ran == 2
        passwords.close()

    asyncio.run(main())


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no priority for a thread")
def test_requests_go_first() -> None:
    """The threads that hash have a lower priority than the one of the event loop, and only they have."""
    passwords = Passwords()

    async def main() -> int:
        return await passwords._run(
            lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        )

    before = os.getpriority(os.PRIO_PROCESS, 0)
    assert asyncio.run(main()) > before
    assert os.getpriority(os.PRIO_PROCESS, 0) == before
    passwords.close()


# Of "correct horse" and of 72 letters x, made by htpasswd and by argon2 with little work.
FOREIGN = {
    "bcrypt": "$2y$04$mZ0ut5Ur1MlbUZnpd7m9Iun8uT5kOUPgAhSeJqcWq9CLer8ydss5K",
    "argon2": "$argon2id$v=19$m=64,t=1,p=1$RHhsO8Y0onZf8v8hMMZpyA$b/YJkUv7luv/QYHXpBFmE2N2QVJrIsmq0qTkQlnc8/A",
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_hashes_of_other_programs(kind: str) -> None:
    """A file of users: the password fits byte for byte; one of megabytes is only wrong."""

    async def main() -> list[bool]:
        passwords = Passwords()
        found = [
            await passwords.matches(one, FOREIGN[kind])
            for one in (b"correct horse", b"correct horse ", b"", b"x" * 3000, b"correct\0horse")
        ]
        passwords.close()
        return found

    assert asyncio.run(main()) == [True, False, False, False, False]


def test_bcrypt_reads_72_bytes() -> None:
    """What htpasswd has made of a longer password fits the password."""
    known = bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4)).decode()

    async def main() -> list[bool]:
        passwords = Passwords()
        found = [await passwords.matches(b"x" * size, known) for size in (71, 72, 100)]
        passwords.close()
        return found

    assert asyncio.run(main()) == [False, True, True]
