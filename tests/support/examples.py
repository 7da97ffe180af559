"""Say how many examples a property is worth; the profile decides which share of them is drawn."""

from math import ceil
from typing import Any

from hypothesis import settings

FULL, FEW = 100, 25  # of a property that does not say how many, in the two kinds of profiles


def examples(full: int, **more: Any) -> settings:
    """Settings with so many examples in a full run, and with its share of them in a quick one."""
    return settings(max_examples=ceil(full * settings.default.max_examples / FULL), **more)
