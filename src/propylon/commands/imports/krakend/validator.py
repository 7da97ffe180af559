"""auth/validator: which tokens an endpoint takes."""

from __future__ import annotations

from typing import Any

from propylon.commands.imports.draft import Draft
from propylon.commands.imports.parts import Route
from propylon.commands.imports.tree import Item

__all__ = ["Validators"]

_TUNING = (
    "cache",
    "cache_duration",
    "key_identify_strategy",
    "operation_debug",
    "failed_jwk_key_cooldown",
    "leeway",
    "roles_key_is_nested",
    "scopes_matcher",
    "@comment",
    "$schema",
)
_PINS = ("jwk_fingerprints", "cipher_suites", "jwk_local_ca", "secret_url", "cypher_key")


class Validators:
    """The issuers of a file. Endpoints with the same settings share one entry of auth.jwt."""

    def __init__(self, draft: Draft) -> None:
        """Begin with none."""
        self._draft = draft
        self._entries: list[dict[str, Any]] = []
        self._cookies: list[str] = []
        self.routes: list[Route] = []  # that take tokens

    def apply(self, route: Route, config: Item) -> None:
        """Translate the validator of an endpoint; what is missing closes the route."""
        self.routes.append(route)
        if not config.get("jwk_url"):
            route.close(
                config.at,
                "the keys are in a file of JWK",
                "write auth.jwt with public_key or jwks_url",
            )
            config.get("jwk_local_path")
            return
        if len(config.get("audience").texts()) > 1:
            route.close(
                config.get("audience").at,
                "KrakenD wants all audiences in a token, propylon one of them",
            )
        entry = _entry(config)
        if not self._add(entry, config):
            route.close(
                config.at,
                "two endpoints ask for tokens of one issuer in different ways",
                "write auth.jwt",
            )
            return
        route.set("auth", "required", config.at, protects=True)
        if len({one.get("issuer") for one in self._entries}) > 1 and "issuer" not in entry:
            route.close(
                config.at, "it names no issuer, and others do: it would take the tokens of all"
            )
        self._rules(route, config)
        for key in _PINS:
            if config.get(key):
                route.lost(
                    config.get(key).at, "propylon fetches keys with the authorities of the system"
                )
        if config.get("disable_jwk_security").flag():
            route.differs(
                config.get("disable_jwk_security").at,
                "propylon fetches keys without it, and checks certificates",
            )
        config.ignore(*_TUNING)
        route.close_untaken(config)

    def finish(self) -> None:
        """Bind each route to its issuer, if there are several."""
        if len(self._entries) < 2:
            for route in self.routes:
                route.keys.pop("issuers", None)

    def _add(self, entry: dict[str, Any], config: Item) -> bool:
        if entry in self._entries:
            return True
        if any(one.get("issuer") == entry.get("issuer") for one in self._entries):
            return False
        entries = [*self._entries, entry]
        if not self._draft.section("auth.jwt", entries, config.get("jwk_url").at):
            return False
        self._entries = entries
        return True

    def _rules(self, route: Route, config: Item) -> None:
        if config.get("roles"):
            route.set("roles", config.get("roles").texts(), config.get("roles").at, protects=True)
        if scopes := config.get("scopes").texts():
            loose = len(scopes) > 1 and config.get("scopes_matcher").text("any") == "any"
            route.set(
                "scopes",
                scopes,
                config.get("scopes").at,
                "all of them are asked for, not any" if loose else "",
                protects=True,
            )
        if issuer := config.get("issuer").text():
            route.put("issuers", [issuer])
        if config.get("propagate_claims"):
            _claims(route, config.get("propagate_claims"))
        if cookie := config.get("cookie_key").text():
            self._cookies = list(dict.fromkeys([*self._cookies, f"cookie:{cookie}"]))
            self._draft.section(
                "auth.from", ["header", *self._cookies], config.get("cookie_key").at
            )


def _entry(config: Item) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "jwks_url": config.get("jwk_url").text(),
        "algorithms": [config.get("alg").text("RS256")],
    }
    if issuer := config.get("issuer").text():
        entry["issuer"] = issuer
    if audience := config.get("audience").texts():
        entry["audience"] = audience
    for theirs, ours in (("roles_key", "roles_claim"), ("scopes_key", "scopes_claim")):
        if name := config.get(theirs).text():
            entry[ours] = [name]
    return entry


def _claims(route: Route, pairs: Item) -> None:
    for pair in pairs.each():
        match pair.texts():
            case [claim, header]:
                claims = {**route.keys.get("claims", {}), header: claim}
                route.set("claims", claims, pair.at)
            case _:
                route.lost(pair.at, "not a pair of a claim and a header")
