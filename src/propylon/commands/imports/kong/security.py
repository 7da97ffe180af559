"""Plugins that say who may come: tokens, keys, passwords, groups."""

from __future__ import annotations

from typing import Any

from propylon.commands.imports.draft import Draft
from propylon.commands.imports.kong.names import IGNORED, text_of
from propylon.commands.imports.kong.routes import Written
from propylon.commands.imports.parts import Route, Variable
from propylon.commands.imports.tree import Item

__all__ = ["NAMES", "Consumers", "apply"]

_TODO = {
    "key-auth": "propylon checks no API keys yet; let callers bring tokens, then write auth: required",
    "key-auth-enc": "propylon checks no API keys yet; let callers bring tokens, then write auth: required",
    "basic-auth": "make a file with `htpasswd -B`, then write basic_auth: {file: …}",
    "acl": "write scopes or roles, if the tokens carry them",
    "openid-connect": "write auth.jwt.discovery_url, and auth: required with scopes",
    "oauth2": "write auth.jwt or auth.introspection, and auth: required",
    "oauth2-introspection": "write auth.introspection, and auth: required",
    "mtls-auth": "write tls.clients",
    "bot-detection": "refuse by a policy in Python, or in front of the gateway",
}
_CREDENTIALS = {
    "keyauth_credentials": "API keys",
    "basicauth_credentials": "passwords",
    "hmacauth_credentials": "HMAC keys",
    "oauth2_credentials": "OAuth 2.0 clients",
    "mtls_auth_credentials": "client certificates",
    "acls": "groups",
}
NAMES = frozenset(
    (*_TODO, "jwt", "hmac-auth", "ldap-auth", "ldap-auth-advanced", "session", "opa", "vault-auth")
)
_SYMMETRIC = ("HS256", "HS384", "HS512")


class Consumers:
    """The consumers of a file: who signs tokens, and what else they have."""

    def __init__(self, draft: Draft, document: Item) -> None:
        """Keep their credentials."""
        self._draft = draft
        self._consumers = document.get("consumers").each()
        self._loose = document.get("jwt_secrets").each()
        self._written = False
        self.issuers: list[dict[str, Any]] = []

    def report(self) -> None:
        """Say what is not translated of them, and of plugins that count for some of them."""
        for consumer in self._consumers:
            consumer.ignore(*IGNORED, "username", "custom_id", "jwt_secrets", "groups")
            for key, what in _CREDENTIALS.items():
                if consumer.get(key):
                    self._draft.lost(
                        consumer.get(key).at,
                        f"{what} of consumers are not taken over",
                        "see the routes that ask for them",
                    )
            for plugin in consumer.get("plugins").each():
                self._draft.lost(
                    plugin.at,
                    f"the plugin {plugin.get('name').text()} for one consumer: propylon has no rules for single callers",
                    "rate_limit with key: caller counts for each of them",
                )
            self._draft.leftovers(consumer)

    def jwt(self, route: Route, plugin: Item) -> bool:
        """Write the issuers of tokens into auth.jwt, the first time. Return False if there are none."""
        if self._written:
            return bool(self.issuers)
        self._written = True
        secrets = [
            one for consumer in self._consumers for one in consumer.get("jwt_secrets").each()
        ]
        for number, secret in enumerate((*secrets, *self._loose), 1):
            self._issuer(secret, number)
        if not self.issuers:
            route.lost(
                plugin.at, "there are no jwt_secrets in the file, so nothing can verify a token"
            )
            return False
        return self._draft.section("auth.jwt", self.issuers, plugin.at)

    def _issuer(self, secret: Item, number: int) -> None:
        secret.ignore(*IGNORED, "consumer")
        algorithm = secret.get("algorithm").text("HS256")
        issuer: dict[str, Any] = {"issuer": text_of(secret.get("key")), "algorithms": [algorithm]}
        if algorithm in _SYMMETRIC:
            # A secret of theirs belongs into no file that is passed around.
            name = f"KONG_JWT_SECRET_{number}"
            issuer["secret"] = Variable(f"${{{name}}}")
            self._draft.differs(
                secret.get("secret").at if secret.get("secret") else secret.at,
                f"the secret is read from the environment variable {name}; it must have 32 bytes",
            )
        else:
            issuer["public_key"] = text_of(secret.get("rsa_public_key"))
            self._draft.same(secret.at, "auth.jwt")
        self.issuers.append(issuer)


def apply(written: Written, name: str, plugin: Item, consumers: Consumers) -> None:
    """Translate a plugin that protects a route, or close the route."""
    route = written.route
    if name == "jwt":
        _jwt(route, plugin, consumers)
        return
    route.close(
        plugin.at,
        f"the plugin {name}",
        _TODO.get(name, "see whether tokens, auth: required, do it"),
    )


def _jwt(route: Route, plugin: Item, consumers: Consumers) -> None:
    config = plugin.get("config")
    if config.get("key_claim_name").text("iss") != "iss":
        route.close(
            config.get("key_claim_name").at,
            "the issuer of a token is in its claim iss, and in no other",
        )
    for key in ("secret_is_base64", "maximum_expiration"):
        if config.get(key).flag() or config.get(key).number():
            route.close(config.get(key).at, f"{key}: propylon has no such key")
    if not consumers.jwt(route, plugin):
        route.close(
            plugin.at, "no issuer of tokens could be written", "write auth.jwt, then open the route"
        )
        return
    anonymous = bool(config.get("anonymous"))
    route.set(
        "auth",
        "optional" if anonymous else "required",
        plugin.at,
        _differences(config, anonymous=anonymous),
        protects=True,
    )
    config.ignore(
        "claims_to_verify",
        "realm",
        "run_on_preflight",
        "header_names",
        "cookie_names",
        "uri_param_names",
    )
    for left in config.untaken():
        route.close(left.at, "the importer does not know this key")


def _differences(config: Item, *, anonymous: bool) -> str:
    said = []
    if "exp" not in config.get("claims_to_verify").texts():
        said.append("tokens that have expired are refused")
    if config.get("uri_param_names").value != []:
        said.append("no token is taken from the query")
    if config.get("cookie_names"):
        said.append("cookies are read if auth.from names them")
    if [name.lower() for name in config.get("header_names").texts()] not in ([], ["authorization"]):
        said.append("other headers are read if auth.from names them")
    if anonymous:
        said.append("a bad token is refused, and only no token is anonymous")
    return "; ".join(said)
