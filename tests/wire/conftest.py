"""Heads are read by the compiled part, where there is one, and by Python: the same cases hold both."""

from collections.abc import Iterator

import pytest

from propylon.wire import native

_COMPILED = (native.request, native.response)
READERS = {"pure": (lambda _: None, lambda _: None)}
if native.implementation == "native":
    READERS["native"] = _COMPILED
# The modules that read heads.
_BOTH = {"test_request", "test_response", "test_lookalikes", "test_streams"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each case of these modules once with each reader."""
    if metafunc.module.__name__.rpartition(".")[2] in _BOTH:
        metafunc.fixturenames.append("reader")
        metafunc.parametrize("reader", READERS, indirect=True, scope="module")


@pytest.fixture(scope="module")
def reader(request: pytest.FixtureRequest) -> Iterator[str]:
    """Have heads read in this way, whose name it is."""
    native.request, native.response = READERS[request.param]
    yield request.param
    native.request, native.response = _COMPILED
