"""A name that leads to the gateway itself, later."""

from tests.services.registrar import Names, World


def test_the_gateway_itself_later() -> None:
    """Each connection looks again, there too."""
    names = Names(orders_internal=["10.0.0.9"])
    world = World(names=names, ours=[("10.0.0.5", 8000)])
    world.register(host="orders.internal", port=8000)
    world.register(host="orders.internal", port=8001)
    assert [pool.permit("10.0.0.9") for pool in world.pools] == [True] * 4
    assert [pool.permit("10.0.0.5") for pool in world.pools] == [False, False, True, True]
