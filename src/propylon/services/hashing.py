"""Choose an instance by a key: requests of one key go to one instance, whoever decides and whenever. Pure.

Strategy (rendezvous hashing, Thaler and Ravishankar, 1998): each instance has a score for each key, and the candidate with the
highest one is chosen. The scores of the others do not change when an instance leaves. So only the keys of that instance move,
each to the instance that was second for it: not one more. With a ring (ketama) or a table (Maglev) a few others move as well. A
score takes a microsecond, and a service has a handful of instances.

Facts. A score hangs on the key, on the id of the instance (`host:port`) and on nothing else. So all workers and all gateways
choose alike, also after a restart, and an instance that comes back gets its keys again.

Weights: a score is -weight / ln(u), with u from the hash, evenly in (0, 1). An instance is then chosen by its share of the
weights, and with a new weight only as many keys move as its share changes (Schindelhauer and Schomaker, 2005).

Bounded load (Mirrokni, Thorup and Zadimoghaddam, 2016): a candidate that has more than its part of the requests in flight is
passed over in favour of the next one by score. One hot key cannot overload an instance, and moves nobody else's keys.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

from propylon.services.service import Instance

__all__ = ["Rendezvous"]

_BITS = 0xFFFF_FFFF_FFFF_FFFF
_SIZE = 8  # bytes


@dataclass(frozen=True, slots=True)
class Rendezvous:
    """Chooses by keys. `bound` is how much of the average may be in flight at an instance; None: any number."""

    bound: float | None = None

    def choose(
        self,
        key: str,
        candidates: Sequence[Instance],
        weigh: Callable[[Instance], float] | None = None,
    ) -> Instance:
        """Return the candidate for the key. `weigh` returns weights for the moment, in place of those of the instances."""
        weights = [one.weight for one in candidates] if weigh is None else [*map(weigh, candidates)]
        pairs = list(zip(candidates, weights, strict=True))
        if self.bound is not None:
            pairs = _below(self.bound, pairs)
        if len(pairs) == 1:
            return pairs[0][0]
        point = _digest(key)
        return max(pairs, key=lambda pair: _score(point, pair[0].id, pair[1]))[0]


def _score(point: int, name: str, weight: float) -> float:
    # The last step of SplitMix64 (Steele, Lea and Flood, 2014): each bit of the result hangs on each bit of both.
    mixed = point ^ _seed(name)
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58_476D_1CE4_E5B9) & _BITS
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D0_49BB_1331_11EB) & _BITS
    mixed ^= mixed >> 31
    # 52 bits and a half: neither 0 nor 1 in floating point, whose logarithms are no divisors.
    return -weight / math.log(((mixed >> 12) + 0.5) / 2**52)


@lru_cache(maxsize=4096)
def _seed(name: str) -> int:
    return _digest(f"instance {name}")


def _digest(text: str) -> int:
    # A client chooses keys: with a weak hash it could make any number of them that meet at one instance. It can still try keys out
    # and look where they go, which is what `bound` is for.
    digest = blake2b(text.encode("utf-8", "surrogateescape"), digest_size=_SIZE)
    return int.from_bytes(digest.digest())


def _below(bound: float, pairs: Sequence[tuple[Instance, float]]) -> list[tuple[Instance, float]]:
    """Return the candidates that may have one more request; there is always one, as the bound is 1 or more."""
    total = sum([one.upstream.busy for one, _ in pairs]) + 1
    share = bound * total / sum([weight for _, weight in pairs])
    return [pair for pair in pairs if pair[0].upstream.busy < math.ceil(share * pair[1])]
