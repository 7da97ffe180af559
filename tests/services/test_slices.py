"""EndpointSlices: which addresses of a service may be asked, whatever else stands in them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.names.resolve import SrvTarget
from propylon.services.slices import MOST_INSTANCES, PortUnclear, read_slice, targets_of
from tests.support.cluster import LABEL, a_slice, endpoints
from tests.support.examples import examples


def targets(*items: dict[str, Any], port: str = "") -> list[str]:
    """Say the instances."""
    read = [one for one in map(read_slice, items) if one is not None]
    return [f"{one.host}:{one.port}" for one in targets_of(read, port)]


HTTP = ("http", 8000)


def test_several_slices_are_one_service() -> None:
    """Their addresses are put together; one that is in two of them counts once."""
    one = a_slice("a", "s", endpoints("10.0.0.2", "10.0.0.10", ready=True), HTTP)
    two = a_slice("b", "s", endpoints("10.0.0.2", "10.0.0.1", ready=True), HTTP)
    assert targets(one, two) == ["10.0.0.1:8000", "10.0.0.2:8000", "10.0.0.10:8000"]


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({}, ["ready", "other"]),  # unknown counts as ready
        ({"ready": True, "serving": True}, ["ready", "other"]),
        ({"ready": False, "serving": True, "terminating": True}, ["ready"]),
        ({"ready": False, "serving": False, "terminating": True}, ["ready"]),
        ({"ready": False}, ["ready"]),
    ],
)
def test_only_ready_ones_are_asked(conditions: dict[str, bool], expected: list[str]) -> None:
    """While there are any."""
    found = endpoints("10.0.0.1", ready=True) + endpoints("10.0.0.2", **conditions)
    names = {"10.0.0.1:8000": "ready", "10.0.0.2:8000": "other"}
    assert [names[one] for one in targets(a_slice("a", "s", found, HTTP))] == expected


def test_one_that_terminates_and_serves_is_better_than_none() -> None:
    """As kube-proxy has it: a last pod that is replaced goes on until there is another."""
    going = endpoints("10.0.0.1", ready=False, serving=True, terminating=True)
    gone = endpoints("10.0.0.2", ready=False, serving=False, terminating=True)
    assert targets(a_slice("a", "s", going + gone, HTTP)) == ["10.0.0.1:8000"]
    assert targets(a_slice("a", "s", gone, HTTP)) == []


def test_a_pod_of_both_families_counts_once() -> None:
    """By IPv4; by IPv6 where there is nothing else."""
    four = a_slice("a", "s", endpoints("10.0.0.1", ready=True), HTTP)
    six = a_slice("b", "s", endpoints("fd00::1", ready=True), HTTP, family="IPv6")
    assert targets(four, six) == ["10.0.0.1:8000"]
    assert targets(six) == ["fd00::1:8000"]


def test_ports_by_name_and_number() -> None:
    """Slices of one service may differ in the number of a name, while it is rolled out."""
    old = a_slice("a", "s", endpoints("10.0.0.1"), ("http", 8000), ("metrics", 9000))
    new = a_slice("b", "s", endpoints("10.0.0.2"), ("http", 8080), ("metrics", 9000))
    assert targets(old, new, port="http") == ["10.0.0.1:8000", "10.0.0.2:8080"]
    assert targets(old, new, port="9000") == ["10.0.0.1:9000", "10.0.0.2:9000"]
    for port in ("", "grpc", "8000"):
        with pytest.raises(PortUnclear, match="http \\(80"):
            targets(old, new, port=port)
    assert targets(a_slice("a", "s", endpoints("10.0.0.1"), ("", 80))) == ["10.0.0.1:80"]


def test_what_says_nothing_is_passed_over() -> None:
    """Other families, other objects, addresses that are none, and those that no pod has."""
    assert read_slice({**a_slice("a", "s", []), "addressType": "FQDN"}) is None
    assert read_slice({"metadata": {"name": "a", "labels": {}}, "addressType": "IPv4"}) is None
    hostile = endpoints("169.254.169.254", "224.0.0.1", "0.0.0.0", "fd00::1", "x", "10.0.0.1")
    assert targets(a_slice("a", "s", hostile, HTTP)) == ["10.0.0.1:8000"]
    udp = a_slice("a", "s", endpoints("10.0.0.1"), HTTP)
    udp["ports"].append({"name": "dns", "port": 53, "protocol": "UDP"})
    assert targets(udp) == ["10.0.0.1:8000"]


def test_a_service_has_so_many_instances_at_the_most() -> None:
    """What is beyond is not asked."""
    found = endpoints(*(f"10.0.{at // 250}.{at % 250 + 1}" for at in range(MOST_INSTANCES + 5)))
    assert len(targets(a_slice("a", "s", found, HTTP))) == MOST_INSTANCES


anything: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just("10.0.0.1"),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["addresses", "conditions", "ready", "name", "port", "protocol"]), inner
    ),
    max_leaves=8,
)


@given(anything, anything, anything)
@examples(100)
def test_nothing_that_the_api_says_is_a_fault(found: Any, ports: Any, whole: Any) -> None:
    """Each object is read or passed over."""
    labels = {"name": "a", "labels": {LABEL: "s"}}
    item = {"metadata": labels, "addressType": "IPv4", "endpoints": found, "ports": ports}
    read_slice(whole)
    read = read_slice(item)
    assert read is not None
    try:
        told = targets_of([read], "")
    except PortUnclear:
        return
    assert all(isinstance(one, SrvTarget) and 0 < one.port < 65536 for one in told)
