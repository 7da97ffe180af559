"""Write requests as keys and numbers for the script, and read its answer. Pure.

A key is `NAMESPACE:{WHO}:LIMIT`, with digests for who is counted and for the limit: no caller's name is to be read in it, and
no key is too long. The braces are a hash tag: all limits of a caller are in one slot of a Cluster, and decided together.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b

import orjson

from propylon.proxy.limit.arithmetic import Log, decision, decision_in, lack, lack_in
from propylon.proxy.limit.rule import MICROSECONDS, Decision, Rule, Spend, Taken
from propylon.stores.redis.nodes import slot_of

__all__ = ["CHARGE", "DECIDE", "PROBE", "Carried", "Names", "Packer", "read_decisions", "tag_of"]

DECIDE, CHARGE, CARRY = 0, 1, 2
# A bucket of one unit that is full again after a microsecond: to write it shows that writing is allowed.
PROBE = orjson.dumps((((0, 1, 1, 1, 1, 1),), (CHARGE, 1, 1, 1)))
Carried = tuple[Rule, bytes, int, int, int]
"""A rule, a key, what was spent meanwhile (own), what was known before (seed), and how long ago (age, microseconds)."""

# Bytes. Two of 2^48 callers share a digest, and two of 2^24 limits of one caller.
_WHO, _LIMIT = 12, 6
# Units. More than any budget, and few enough that Lua does not lose a unit.
_MOST = 2**40
# Rules that are remembered: each reload brings new ones. And names of keys, because a digest takes a microsecond: 10 MB.
_MOST_RULES = 10_000
_MOST_NAMES = 50_000


def _digest(text: bytes, size: int) -> bytes:
    return urlsafe_b64encode(blake2b(text, digest_size=size).digest())


class Names:
    """Names keys in a namespace, and says what the script is to know of a rule."""

    __slots__ = ("_begin", "_count", "_names", "_rules")

    def __init__(self, namespace: str) -> None:
        """`namespace` is what every key begins with."""
        self._begin = f"{namespace}:{{".encode()
        self._rules: dict[Rule, tuple[bytes, tuple[int, ...]]] = {}
        self._names: dict[Rule, dict[str, bytes]] = {}
        self._count = 0  # of names

    def who(self, key: str) -> bytes:
        """Return the hash tag of those that count under a key."""
        return _digest(key.encode("utf-8", "surrogateescape"), _WHO)

    def slot(self, key: str) -> int:
        """Return the slot of a key in a Cluster."""
        return slot_of(self.who(key))

    def name(self, rule: Rule, key: str) -> bytes:
        """Return the name of a key of a rule."""
        return self.known(rule).get(key) or self.new(rule, key)

    def known(self, rule: Rule) -> dict[str, bytes]:
        """Return the names that are remembered of a rule's keys."""
        found = self._names.get(rule)
        if found is None:
            self.of(rule)
            found = self._names[rule] = {}
        return found

    def new(self, rule: Rule, key: str) -> bytes:
        """Make the name of a key of a rule, and remember it."""
        self._count += 1
        if self._count > _MOST_NAMES:
            self._count = 1
            for names in self._names.values():
                names.clear()
        name = self.known(rule)[key] = self._begin + self.who(key) + self.of(rule)[0]
        return name

    def of(self, rule: Rule) -> tuple[bytes, tuple[int, ...]]:
        """Return the end of the names of a rule's keys, and the numbers that the script calculates with."""
        found = self._rules.get(rule)
        if found is None:
            if len(self._rules) >= _MOST_RULES:
                self._rules.clear()
                self._names.clear()
            end = b"}:" + _digest(rule.identity, _LIMIT)
            found = self._rules[rule] = (end, _numbers(rule))
        return found

    def probe(self, tag: bytes) -> bytes:
        """Return a key that counts for no caller, with a hash tag of choice."""
        return self._begin + tag + b"}:probe"


def _numbers(rule: Rule) -> tuple[int, ...]:
    enforced = int(not rule.shadow)
    if rule.sliding:
        return (1, enforced, rule.grain, rule.period, rule.amount)
    return (0, enforced, rule.scale, rule.unit, rule.capacity, rule.deepest)


def tag_of(name: bytes) -> bytes:
    """Return the hash tag of a key."""
    return name[name.index(b"{") + 1 : name.index(b"}")]


class Packer:
    """Packs one call of the script."""

    __slots__ = ("_at", "_known", "_names", "_numbers", "_rules", "names")

    def __init__(self, names: Names) -> None:
        """Begin with nothing in it; `names` of the keys are kept in the order of the spends."""
        self.names: list[bytes] = []
        self._names = names
        self._at: dict[Rule, int] = {}
        self._known: dict[Rule, dict[str, bytes]] = {}
        self._rules: list[tuple[int, ...]] = []
        self._numbers: list[int] = []

    def add(self, kind: int, spends: Sequence[Spend]) -> None:
        """Add a request: DECIDE or CHARGE."""
        numbers, known = self._numbers, self._at
        numbers += (kind, len(spends))
        for rule, key, cost in spends:
            at = known.get(rule) or self._add_rule(rule)
            # Not by `min` and `max`: this is the hot path.
            numbers += (at, cost if -_MOST < cost < _MOST else _MOST if cost > 0 else -_MOST)
            self.names.append(self._known[rule].get(key) or self._names.new(rule, key))

    def carry(self, carried: Iterable[Carried]) -> None:
        """Add what was spent without the server."""
        for rule, name, own, seed, age in carried:
            at = self._at.get(rule) or self._add_rule(rule)
            self._numbers += (CARRY, 1, at, own, seed, age)
            self.names.append(name)

    def _add_rule(self, rule: Rule) -> int:
        """Return its index; Lua counts from 1."""
        self._rules.append(self._names.of(rule)[1])
        self._known[rule] = self._names.known(rule)
        at = self._at[rule] = len(self._rules)
        return at

    def argument(self) -> bytes:
        """Return the argument of the script; the keys are `names`."""
        return orjson.dumps((self._rules, self._numbers))


def read_decisions(
    requests: Iterable[tuple[Sequence[Spend], object, bool]],
    names: Sequence[bytes],
    told: Sequence[int],
    note: Callable[[bytes, Rule, int], None],
) -> Iterator[list[Decision] | Taken]:
    """Yield what is decided of each request, from the answer of the script; `note` gets what each bucket owes.

    `requests` are spends with the one who waits, or None: of what was charged the script says nothing; and whether it is
    one spend of a bucket that wants the short form. `names` are those of the keys of all requests.
    """
    now, at, key = told[0], 1, 0
    for spends, waiter, short in requests:
        if short:
            (rule, _, cost), number = spends[0], told[at]
            note(names[key], rule, number if number >= 0 else -number - 1)
            at, key = at + 1, key + 1
            yield read_taken(rule, cost, number)
            continue
        decisions: list[Decision] = []
        if waiter is None:
            key += len(spends)
            yield decisions
            continue
        for rule, _, cost in spends:
            number = told[at]
            paid = number >= 0
            left = number if paid else -number - 1
            if rule.sliding:
                decisions.append(_of_window(rule, left, cost, paid, told[at + 1 : at + 3], now))
                at += 3
            else:
                note(names[key], rule, left)
                decisions.append(decision(rule, left, 0 if paid else lack(rule, left, cost)))
                at += 1
            key += 1
        yield decisions


def read_taken(rule: Rule, cost: int, number: int) -> Taken:
    """Return the short form of a decision of a bucket: the same as `arithmetic.decision`, written out, for the hot path."""
    second = rule.scale * MICROSECONDS
    if number >= 0:
        return (rule.capacity - number) // rule.unit, -(-number // second), 0
    debt = -number - 1
    lacking = debt + max(cost, 1) * rule.unit - rule.capacity
    return max(rule.capacity - debt, 0) // rule.unit, -(-debt // second), -(-lacking // second)


def _of_window(
    rule: Rule, units: int, cost: int, paid: bool, moments: Sequence[int], now: int  # noqa: FBT001
) -> Decision:
    newest, wait = moments
    lacking = 0 if paid else lack_in(rule, ((newest, units),), cost)
    return decision_in(rule, _log(units, newest, wait, lacking), now, lacking)


def _log(units: int, newest: int, wait: int, lacking: int) -> Log:
    """Return a log that says the same as the one in Redis: so many units, the newest then, and enough gone at `wait`."""
    if units == 0:
        return ()
    if lacking <= 0 or wait in {-1, newest}:
        return ((newest, units),)
    return ((wait, lacking), (newest, units - lacking))
