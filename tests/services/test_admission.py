"""Who may register, for which service, and on which port."""

import asyncio

import pytest

from propylon.errors import InvalidRequest
from propylon.services.admission import ALL_SERVICES, Admission, Allowed, split_ports
from tests.services.registrar import Names

BY_SERVICE = {
    "orders": Allowed(["10.0.0.0/8:8000-8099", "10.9.0.0/16"]),
    "users": Allowed(["[fd00::/8]:80"]),
}


def refusal(admission: Admission, service: str, host: str, port: int) -> str:
    """Why an instance may not register; empty if it may."""
    try:
        asyncio.run(admission.admit(service, host, port))
    except InvalidRequest as error:
        fields = error.details["fields"]
        assert isinstance(fields, dict)
        return str(fields["host"])
    return ""


@pytest.mark.parametrize(
    ("service", "host", "port", "why"),
    [
        ("orders", "10.0.0.1", 8000, ""),
        ("orders", "10.0.0.1", 8099, ""),
        ("orders", "10.0.0.1", 8100, "registry.allow does not name 10.0.0.1 with port 8100"),
        ("orders", "10.0.0.1", 22, "registry.allow does not name 10.0.0.1 with port 22"),
        ("orders", "10.9.0.1", 22, ""),
        ("orders", "11.0.0.1", 8000, "registry.allow does not name 11.0.0.1"),
        ("users", "fd00::1", 80, ""),
        ("users", "fd00::1", 81, "registry.allow does not name fd00::1 with port 81"),
        ("users", "10.0.0.1", 8000, "registry.allow does not name 10.0.0.1"),
        ("billing", "10.0.0.1", 8000, "registry.allow names no host for the service billing"),
    ],
)
def test_by_service_and_port(service: str, host: str, port: int, why: str) -> None:
    """A rule of one service is none of another's, and a rule with ports is for these ports."""
    admission = Admission(BY_SERVICE, Names())
    assert refusal(admission, service, host, port) == why
    assert admission.still_admits(service, host, port, (host,)) is not bool(why)


def test_a_list_is_for_all_services() -> None:
    """Those that nobody has heard of, too."""
    admission = Admission({ALL_SERVICES: Allowed(["10.0.0.0/8:80"])}, Names())
    assert refusal(admission, "anything", "10.0.0.1", 80) == ""
    assert refusal(admission, "anything", "10.0.0.1", 81).endswith("with port 81")


@pytest.mark.parametrize("allow", [{}, {ALL_SERVICES: Allowed()}, {"orders": Allowed([])}])
def test_an_empty_list(allow: dict[str, Allowed]) -> None:
    """It is said as such."""
    expected = "registry.allow is empty, so no host may register"
    assert refusal(Admission(allow, Names()), "orders", "10.0.0.1", 80) == expected


def test_ports_do_not_open_what_is_never_registered() -> None:
    """A metadata service stays out, whatever port the rule names."""
    admission = Admission({ALL_SERVICES: Allowed(["*:80", "0.0.0.0/0:80"])}, Names())
    assert refusal(admission, "orders", "169.254.169.254", 80)
    assert refusal(admission, "orders", "127.0.0.1", 80)


@pytest.mark.parametrize("text", ["a:1-", "a:-1", "a:1-2-3", "a: 80", "a:+80", "a:0x50", "a:80 "])
def test_what_is_no_port(text: str) -> None:
    """It is refused, and not read as some number."""
    with pytest.raises(ValueError, match="is no port"):
        split_ports(text)
