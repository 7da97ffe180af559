"""Define the rules of routes, and `defaults`, which may set them for all routes."""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    ValidationInfo,
    field_validator,
)

from propylon.config.models.answered import (
    ClientsConfig,
)
from propylon.config.models.base import (
    Claims,
    ConfigModel,
    Method,
    OneOrMany,
    RouteHost,
)
from propylon.config.models.basic_auth import BasicAuth, BasicAuthConfig
from propylon.config.models.cache import Cache, CacheConfig
from propylon.config.models.coding import Compress, Decompress
from propylon.config.models.documented import Requests, ResponsesConfig
from propylon.config.models.fallback import Fallback
from propylon.config.models.forward_auth import ForwardAuth, ForwardAuthConfig, check_names
from propylon.config.models.headers import HeadersConfig
from propylon.config.models.idempotency import IdempotencyConfig
from propylon.config.models.limits import Limits
from propylon.config.models.maintenance import Maintenance
from propylon.config.models.match import MatchConfig
from propylon.config.models.mirror import Mirror
from propylon.config.models.syntax import check_role, check_scope
from propylon.config.models.templates import QueryConfig, RewritePath
from propylon.config.models.timeouts import RouteTimeoutsConfig
from propylon.config.models.units import Share, Size, Whole
from propylon.config.models.websocket import UpgradeName, WebSocketConfig

__all__ = [
    "OF_SERVICES",
    "UNSET",
    "DefaultsConfig",
    "ResponsesConfig",
    "RouteRules",
    "RouteTimeoutsConfig",
]

Scope = Annotated[str, AfterValidator(check_scope)]
Role = Annotated[str, AfterValidator(check_role)]


# Keys that say something of the way to a service, or of its answers.
OF_SERVICES = (
    "strip_prefix",
    "rewrite",
    "query",
    "decompress",
    "security",
    "requests",
    "cache",
    "coalesce",
    "idempotency",
    "upgrade",
    "preflight",
    "fallback",
    "mirror",
)

UNSET = (None, False, "off", (), QueryConfig())

# What a request lacks without a token, where it is not what the key is called.
_NEEDED = {"security": "the scopes that `security` asks for"}


class RouteRules(ConfigModel):
    """The keys that both a route and `defaults` may have."""

    exact: bool = Field(
        default=False,
        description="True: matches the path itself and nothing below it. A path that is written with a final slash matches with"
        " and without it.",
    )
    methods: tuple[Method, ...] = Field(
        default=(), min_length=1, description="Methods; WEBSOCKET is one of them. All when not set."
    )
    hosts: tuple[RouteHost, ...] = Field(
        default=(),
        min_length=1,
        description="Host names without a port; *.example.com: all names below it. Any when not set.",
    )
    match: MatchConfig = Field(
        default=MatchConfig(),
        description="What a request must have besides. One that has it not goes to the next route: of this path, or of a less"
        " specific one.",
    )
    strip_prefix: bool = Field(
        default=False, description="True: the service gets the path without the part that matched."
    )
    rewrite: RewritePath | None = Field(
        default=None,
        description="Instead: a path that replaces the part that matched. {name} stands for the segment of that name; a final"
        " slash is kept. {claim.tenant} and the other names of `headers` may stand there too: a request without a value for one"
        " is 403 where the token lacks it, else 400.",
    )
    query: QueryConfig = Field(
        default=QueryConfig(), description="Parameters of the query to set, to add and to remove."
    )
    priority: Annotated[Whole, Field(ge=-1_000_000, le=1_000_000)] = Field(
        default=0, description="If two routes match equally well, the higher priority wins."
    )
    clients: ClientsConfig = Field(
        default=ClientsConfig(),
        description="Whose requests are taken, by the address of the client. Others get 403, and no other route is tried.",
    )
    maintenance: Maintenance = None
    auth: Literal["required", "optional", "none"] = Field(
        default="required",
        description="required: 401 without a good token; optional: a bad token is refused, none is accepted; none:"
        " tokens are not looked at.",
    )
    scopes: tuple[Scope, ...] = Field(
        default=(), description="Scopes; a token must have all of them, else 403."
    )
    roles: tuple[Role, ...] = Field(
        default=(), description="Roles; a token must have one of them, else 403."
    )
    security: Literal["from-document"] | None = Field(
        default=None,
        description="from-document: a token must also have the scopes that the service's document asks for the operation; what is"
        " not in the document is 403, and without a document all is 503. Needs services.X.openapi.",
    )
    requests: Requests = Field(
        default="off",
        description="Whether requests are checked against the service's document: path, query, headers and JSON body. validate:"
        " one that does not fit is 422, and 400 where the body is no JSON; shadow: it is counted and logged, and passes. Needs"
        " services.X.openapi.",
    )
    undocumented: Literal["pass", "refuse"] = Field(
        default="pass",
        description="With `requests`: what becomes of a request for an operation that the document does not have.",
    )
    responses: ResponsesConfig = Field(
        default=ResponsesConfig(), description="Whether answers are held against the document, too."
    )
    issuers: OneOrMany = Field(
        default=(),
        description="Issuers whose tokens this route accepts; a token of another one is 401. All configured ones when not"
        " set.",
    )
    claims: Claims = Field(
        default_factory=dict,
        description="Claims of the token that the service gets as headers: {X-Tenant: tenant.id}. A client's headers of these"
        " names are removed. Together with the service's.",
    )
    basic_auth: BasicAuth | None = Field(
        default=None,
        description="A name and a password from a file, for internal pages; others get 401. Needs `auth: none`: both would read"
        " the header Authorization. none: no basic authentication, whatever `defaults` say.",
    )
    forward_auth: ForwardAuth | None = Field(
        default=None,
        description="Another service decides about each request, beside `auth`: write `auth: none` where it alone protects the"
        " route. none: nobody is asked, whatever `defaults` say.",
    )
    preflight: Literal["pass"] | None = Field(
        default=None,
        description="pass: CORS preflights reach the service without a token, for a service that does CORS itself. Not together"
        " with CORS: then the gateway answers them.",
    )
    circuit: bool = Field(
        default=True,
        description="False: this route ignores the service's breaker and is not counted by it.",
    )
    privacy: Literal["ignored", "optional", "required"] = Field(
        default="optional",
        description="ignored: X-Privacy-Level, DNT and Sec-GPC pass as sent; optional: a malformed one is 400;"
        " required: a request without X-Privacy-Level is 400, too.",
    )
    default_privacy: Literal["strict", "standard", "permissive"] | None = Field(
        default=None, description="X-Privacy-Level of requests that send none."
    )
    timeouts: RouteTimeoutsConfig = Field(
        default=RouteTimeoutsConfig(), description="Timeouts that replace the service's."
    )
    max_body: Size | None = Field(
        default=None,
        description="Largest request body of this route; server.max_body when not set.",
    )
    websocket: WebSocketConfig = Field(
        default=WebSocketConfig(), description="The rules of WebSockets, and of other tunnels."
    )
    upgrade: tuple[UpgradeName, ...] = Field(
        default=(),
        description="Other protocols that a client may change to with `Upgrade`: [name]. The gateway passes their bytes on;"
        " any other offer is dropped, and the request served. Never h2c.",
    )
    headers: HeadersConfig = Field(
        default=HeadersConfig(), description="Headers to set and to remove."
    )
    rate_limit: Limits | None = Field(
        default=None,
        description="How much each caller may do: one limit, or a list. On a route it counts for this route, in `defaults` for all"
        " routes together. A route's own replaces the default; none: there is none.",
    )

    cache: Cache | None = Field(
        default=None,
        description="Answers are stored and used again, by these rules. A route's own replace those of `defaults`; none:"
        " there is no cache.",
    )
    compress: Compress | None = Field(
        default=None,
        description="Answers are compressed for clients that want it: codings, the best first, or rules. A route's own replace those"
        " of `defaults`; none: nothing is compressed. Mind BREACH: no secret beside what a client has sent in one answer.",
    )
    decompress: Decompress | None = Field(
        default=None,
        description="True, or bounds: a body with Content-Encoding (gzip, deflate, br, zstd) is unpacked for the service. One that"
        " becomes too long is 413, another coding 415. When not set, bodies pass as they are sent.",
    )
    sampling: Share | None = Field(
        default=None,
        description="The share of the traces that is recorded here, in place of traces.sampling.ratio.",
    )
    coalesce: bool = Field(
        default=False,
        description="True, without a cache: while one GET is under way, others that want the same wait for its answer, if it is"
        " one that a cache might store.",
    )

    idempotency: IdempotencyConfig | None = Field(
        default=None,
        description="Requests with Idempotency-Key that are sent again get the first one's answer. When not set, the header reaches"
        " the service, and the gateway does nothing about it.",
    )

    fallback: Fallback = None
    mirror: Mirror = None

    @field_validator("rewrite")
    @classmethod
    def _strip_or_rewrite(cls, rewrite: str | None, info: ValidationInfo) -> str | None:
        if rewrite is not None and info.data.get("strip_prefix"):
            msg = "a route has strip_prefix or rewrite, not both"
            raise ValueError(msg)
        return rewrite

    @field_validator("basic_auth")
    @classmethod
    def _one_reads_authorization(
        cls, basic: BasicAuthConfig | None, info: ValidationInfo
    ) -> BasicAuthConfig | None:
        if basic and info.data.get("auth") in {"required", "optional"}:
            msg = f"reads the header Authorization, and so does `auth: {info.data['auth']}`; write `auth: none` beside it"
            raise ValueError(msg)
        return basic

    @field_validator("forward_auth")
    @classmethod
    def _one_names_the_caller(
        cls, forward: ForwardAuthConfig | None, info: ValidationInfo
    ) -> ForwardAuthConfig | None:
        if forward:
            check_names(forward, info.data)
        return forward

    @field_validator("headers")
    @classmethod
    def _claims_are_not_set(cls, headers: HeadersConfig, info: ValidationInfo) -> HeadersConfig:
        writers = dict.fromkeys(
            (name.lower() for name in info.data.get("claims", ())), "claims set"
        )
        if (basic := info.data.get("basic_auth")) and basic.user_header:
            writers[basic.user_header.lower()] = "basic_auth sets"
        if forward := info.data.get("forward_auth"):
            writers |= dict.fromkeys(
                (name.lower() for name in forward.headers), "forward_auth sets"
            )
        rules = headers.request
        for verb, names in (("sets", rules.set), ("removes", rules.remove)):
            for name in names:
                if writer := writers.get(name.lower()):
                    msg = f"{verb} {name}, which {writer}, too; take it out of one of them"
                    raise ValueError(msg)
        return headers

    @field_validator("cache")
    @classmethod
    def _claim_needs_a_token(
        cls, cache: CacheConfig | None, info: ValidationInfo
    ) -> CacheConfig | None:
        by = cache.by if cache else ""
        if by.startswith("claim:") and info.data.get("auth") == "none":
            msg = f"is by {by}, and with `auth: none` no token is read; write by: caller, or auth: required"
            raise ValueError(msg)
        return cache

    @field_validator("scopes", "roles", "security", "issuers", "claims")
    @classmethod
    def _need_a_token(cls, names: Any, info: ValidationInfo) -> Any:
        if names and info.data.get("auth") == "none":
            msg = (
                f"with `auth: none` no token is read, so no request would have {_NEEDED.get(info.field_name or '', info.field_name)};"
                " write `auth: required`"
            )
            raise ValueError(msg)
        return names


class DefaultsConfig(RouteRules):
    """Values for all routes that do not set the key themselves."""
