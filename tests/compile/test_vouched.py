"""Claims and policies: both say something to the service that the gateway vouches for."""

from propylon.proxy.principal import Principal
from propylon.proxy.route import Before
from propylon.wire.headers import fields, values
from propylon.wire.message import Request
from tests.compile.compiled import TOKEN, World, one

CLAIMS = {"auth": "optional", "claims": {"X-Tenant": "sub", "X-Role": "roles"}}
FORGED = (b"x-tenant: forged", b"X_Tenant: forged", b"X-Role: forged", b"x_role: forged")


def policy(total: float) -> Before:
    """A policy that knows the tenant better than the token does."""

    async def before(asked: Request, principal: Principal) -> None:
        asked.set_header("X-Tenant", "shop")

    return before


def told(world: World, *lines: bytes) -> list[tuple[bytes, bytes]]:
    """What the service gets about tenant and role, in any spelling."""
    pairs = fields(world.sent(*lines))
    return [pair for pair in pairs if pair[0].lower().replace(b"_", b"-") in VOUCHED]


VOUCHED = {b"x-tenant", b"x-role"}


def test_claims_replace_what_the_client_sent() -> None:
    """The claims stand in the block once; without a token nothing stands there."""
    world = one(CLAIMS, verified=True)
    assert told(world, TOKEN, *FORGED) == [(b"X-Tenant", b"alice"), (b"X-Role", b"clerk")]
    assert told(world, *FORGED) == []


def test_a_policy_replaces_a_claim() -> None:
    """A header of both is sent once, with the policy's value, and the next request begins with the claim again."""
    world = one(CLAIMS, verified=True, policies={"/a": policy})
    for _ in range(2):
        assert told(world, TOKEN, *FORGED) == [(b"X-Tenant", b"shop"), (b"X-Role", b"clerk")]
    assert told(world, *FORGED) == [(b"X-Tenant", b"shop")]


def test_what_stands_beside_them() -> None:
    """Claims and the gateway's own identity headers are both sent, and other headers of the client stay."""
    block = one(CLAIMS, verified=True).sent(TOKEN, b"X-Tenants: others")
    assert values(block, b"x-user-id") == values(block, b"x-tenant") == [b"alice"]
    assert values(block, b"x-tenants") == [b"others"]
