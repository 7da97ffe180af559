"""Probes whose client is still sending: how long that took is nobody's fault, whoever looked meanwhile."""

from dataclasses import replace

import pytest

from propylon.services.breaker import Circuit, State
from tests.services.test_breaker import DEFAULT, THREE, World


@pytest.mark.parametrize("looks", [False, True])
@pytest.mark.parametrize("seconds", [20, 40, 4000])
def test_an_upload_that_takes_its_time(seconds: int, looks: bool) -> None:
    """When it is whole the upstream answers at once: that is no probe that took too long."""
    world = World(DEFAULT).play("F*5 +60 u")
    for _ in range(seconds):
        world.play("+1 h" if looks else "+1")
    world.play("e +0.1 s")
    assert world.breaker.state is not State.OPEN


def test_an_upload_that_takes_its_time_while_others_come() -> None:
    """Whoever comes while it is answered looks, too."""
    world = World(DEFAULT).play("F*5 +60 u +40 e +0.1 ! h s c")
    assert world.breaker.state is State.CLOSED


@pytest.mark.parametrize(
    ("before", "script", "after", "then"),
    [
        (THREE, "F*5 +60 u a*2 +1", DEFAULT, "! h"),
        (THREE, "F*5 +60 u*2 a +1", DEFAULT, "! h"),
        (THREE, "F*5 +60 S u*2 +1", replace(DEFAULT, probes=2), "! h"),
    ],
)
def test_fewer_probes_and_an_upload(
    before: Circuit, script: str, after: Circuit, then: str
) -> None:
    """Who makes way makes room only where there is some then."""
    world = World(before).play(script)
    world.breaker.apply(after)
    world.play(then)
