"""Middlewares that say who may come."""

from __future__ import annotations

from typing import Any

from propylon.commands.imports.networks import network
from propylon.commands.imports.parts import Route
from propylon.commands.imports.tree import Item, named

__all__ = ["allow_list", "basic", "forward"]


def basic(route: Route, config: Item) -> None:
    """Translate basicAuth with a file; lines in the configuration have no file here."""
    file = named(config, "usersFile")
    if named(config, "users"):
        route.close(
            named(config, "users").at,
            "its users stand in the configuration, and propylon reads them from a file",
            "make a file with `htpasswd -B`, then write basic_auth: {file: …}",
        )
    keys: dict[str, Any] = {"file": file.text()}
    if realm := named(config, "realm").text():
        keys["realm"] = realm
    if header := named(config, "headerField").text():
        keys["user_header"] = header
    if not named(config, "removeHeader").flag():
        keys["forward"] = True
    if file.text():
        route.set(
            "basic_auth",
            keys,
            file.at,
            "the hashes in the file must be bcrypt or argon2",
            protects=True,
        )


def forward(route: Route, config: Item) -> None:
    """Translate forwardAuth: another service is asked first."""
    keys: dict[str, Any] = {"url": named(config, "address").text()}
    for theirs, ours in (
        ("authResponseHeaders", "headers"),
        ("authRequestHeaders", "request_headers"),
    ):
        if names := named(config, theirs).texts():
            keys[ours] = names
    for key, why in (
        ("authResponseHeadersRegex", "a regular expression for headers"),
        ("forwardBody", "the body is not sent to the service that is asked"),
        (
            "addAuthCookiesToResponse",
            "cookies of the service that is asked are for the client only where it refuses",
        ),
        ("headerField", "the name of the user for the log"),
    ):
        if named(config, key).text() not in ("", "false") or named(config, key).texts():
            route.lost(named(config, key).at, why)
    if named(config, "trustForwardHeader").flag():
        route.differs(
            named(config, "trustForwardHeader").at,
            "X-Forwarded-* count from server.trusted_proxies only",
        )
    if named(config, "tls"):
        route.lost(named(config, "tls").at, "the TLS of the service that is asked")
        named(config, "tls").ignore(*named(config, "tls").names())
    route.set("forward_auth", keys, named(config, "address").at, protects=True)
    config.ignore(
        "maxBodySize", "preserveLocationHeader", "preserveRequestMethod", "maxResponseBodySize"
    )


def allow_list(route: Route, config: Item) -> None:
    """Translate ipAllowList, which version 2 calls ipWhiteList."""
    strategy = named(config, "ipStrategy")
    said = []
    if strategy:
        said.append("the address is the client's behind server.trusted_proxies; set them")
        strategy.ignore(*strategy.names())
    if named(config, "rejectStatusCode").number(403) != 403:
        said.append("the status is 403")
    allow = [network(text) for text in named(config, "sourceRange").texts()]
    if not allow:
        route.close(config.at, "it names no addresses", "write clients")
        return
    route.set("clients", {"allow": allow}, config.at, "; ".join(said), protects=True)
