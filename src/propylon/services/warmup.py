"""Give an instance that came, or came back, a growing share of the requests (`slow_start`). Pure: the clock is an argument.

Strategy. The weight grows from a tenth, in a line, to the whole, as that of Envoy does (`slow_start_window`, `min_weight_percent`). The
fleet notes in the state of an instance when it could be asked again. Nothing counts time: a weight is computed when a request is
balanced, and only while an instance of the service is warming up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from propylon.services.instance import Instance

__all__ = ["Warmup"]

# Not zero: an instance without requests would learn nothing.
_LEAST = 0.1


@dataclass(frozen=True, slots=True)
class Warmup:
    """How long an instance warms up, in seconds of the clock of its fleet."""

    seconds: float
    clock: Callable[[], float]

    def is_on(self, instances: Sequence[Instance]) -> bool:
        """Whether one of these instances warms up."""
        since = self.clock() - self.seconds
        return any(one.state.began is not None and one.state.began > since for one in instances)

    def weigh(self, instance: Instance) -> float:
        """Return the weight of an instance now."""
        began = instance.state.began
        if began is None:
            return instance.weight
        grown = (self.clock() - began) / self.seconds
        return instance.weight * min(1.0, max(_LEAST, grown))
