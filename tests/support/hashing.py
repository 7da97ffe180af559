"""Hash passwords at a low cost in this process, as the zygote does: a login is no test of argon2.

At its usual cost a hash keeps four processors for a tenth of a second, in threads that let all others go first: beside
busy tests a login took ten seconds. `tests/stores/test_passwords.py` looks at the usual cost.
"""

import pytest

from propylon.stores.passwords import Cost

__all__ = ["USUAL", "hash_cheaply", "usual_cost"]

USUAL = Cost()  # before anything is changed
_CHEAP = (1, 8, 1)


def hash_cheaply() -> None:
    """Let a cost that nobody names be a low one."""
    Cost.__init__.__defaults__ = _CHEAP  # type: ignore[misc]


@pytest.fixture
def usual_cost(monkeypatch: pytest.MonkeyPatch) -> Cost:
    """Hash as a gateway does that is no test."""
    usual = (USUAL.time, USUAL.memory, USUAL.lanes)
    monkeypatch.setattr(Cost.__init__, "__defaults__", usual)
    return USUAL
