"""Define one route: its path, who answers, and under which rules."""

from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticKnownError

from propylon.config.models.answered import (
    QUERY,
    REST,
    RedirectConfig,
    RespondConfig,
    placeholders,
)
from propylon.config.models.base import RoutePath
from propylon.config.models.cors import RouteCors
from propylon.config.models.detours import Detour, check_others, check_possible
from propylon.config.models.route_names import check_rewrite, check_values
from propylon.config.models.routes import OF_SERVICES, UNSET, RouteRules
from propylon.config.models.sticky import RouteSticky
from propylon.config.models.traffic import Split

__all__ = ["RouteConfig"]


class RouteConfig(RouteRules):
    """A route: which requests it matches, which service gets them, under which rules."""

    name: str = Field(
        default="",
        min_length=1,
        description="Name for policies, logs and metrics; the path when not set.",
    )
    path: RoutePath = Field(
        description="Path that is matched with everything below it; {name} stands for one segment."
    )
    respond: RespondConfig | None = Field(
        default=None, description="In place of a service: the gateway answers so by itself."
    )
    redirect: RedirectConfig | None = Field(
        default=None, description="In place of a service: the gateway sends the client elsewhere."
    )
    split: Split = Field(
        default=(),
        description="In place of a service: several, and what share of the requests each gets, [{service: stable, weight: 95},"
        " {service: canary, weight: 5}].",
    )
    sticky: RouteSticky = Field(
        default=None, description="With split: one caller stays with its service, by a cookie."
    )
    service: str = Field(
        default="",
        validate_default=True,
        description="The service that gets the request. Every route has one, or split, respond or redirect.",
    )

    cors: RouteCors = Field(
        default=None,
        description="Which pages may read the answers of this route, in place of the whole section cors; none: there is no"
        " CORS here, and the service's own headers pass.",
    )

    @property
    def guard(self) -> str:
        """The key that keeps strangers away without a token of the gateway's; empty if there is none."""
        if self.basic_auth:
            return "basic_auth"
        return "forward_auth" if self.forward_auth else ""

    @field_validator("path")
    @classmethod
    def _names_of_values(cls, path: str, info: ValidationInfo) -> str:
        judged = [key for key in ("security", "requests") if info.data.get(key) not in UNSET]
        if (responses := info.data.get("responses")) and responses.sample:
            judged.append("responses")
        check_rewrite(path, info.data, judged)
        check_values(path, info.data)
        return path

    @field_validator("redirect")
    @classmethod
    def _names_of_redirect(
        cls, redirect: RedirectConfig | None, info: ValidationInfo
    ) -> RedirectConfig | None:
        known = info.data.get("path", "").split("/")
        for name in placeholders(redirect.to) if redirect else ():
            if name not in known and name not in (REST, QUERY):
                msg = f"`to` has {name}, which the path has not; write one of its names, {REST} or {QUERY}"
                raise ValueError(msg)
        return redirect

    @field_validator("fallback", "mirror")
    @classmethod
    def _possible(cls, detour: Detour, info: ValidationInfo) -> Detour:
        return check_possible(detour, info.data)

    @field_validator("service")
    @classmethod
    def _another_service(cls, service: str, info: ValidationInfo) -> str:
        return check_others(service, info.data)

    @field_validator("service")
    @classmethod
    def _one_answer(cls, service: str, info: ValidationInfo) -> str:
        own = [key for key in ("respond", "redirect") if info.data.get(key) is not None]
        split = ["split"] if info.data.get("split") else []
        named = [*own, *split, *(["service"] if service else [])]
        if len(named) > 1:
            msg = f"a route has one of {', '.join(named)}; take the others out"
            raise ValueError(msg)
        if own and (vain := [key for key in OF_SERVICES if info.data.get(key) not in UNSET]):
            msg = f"{vain[0]} is for a route with a service, and this one has {own[0]}; take it out"
            raise ValueError(msg)
        if not named and {"respond", "redirect", "split"} <= info.data.keys():
            kind: Literal["missing"] = "missing"
            raise PydanticKnownError(kind)
        return service

    @property
    def targets(self) -> tuple["RouteConfig", ...]:
        """The route for each service that gets requests of it: itself, or with `split` a route to each of its services."""
        if not self.split:
            return (self,)
        return tuple(
            self.model_copy(update={"service": part.service, "split": ()}) for part in self.split
        )

    def target(self, service: str) -> "RouteConfig":
        """Return the route to one of its services."""
        return next((one for one in self.targets if one.service == service), self)

    @property
    def services(self) -> tuple[str, ...]:
        """The services that get requests of this route; none where it answers by itself."""
        return tuple(one.service for one in self.split) or ((self.service,) if self.service else ())

    @property
    def counted(self) -> tuple[str, ...]:
        """The services under which requests of this route are counted: those that get them, and that of its fallback."""
        other = "" if self.fallback is None else self.fallback.service
        return (*(self.services or ("",)), other) if other else self.services or ("",)

    @model_validator(mode="before")
    @classmethod
    def _named_by_path(cls, data: Any) -> Any:
        path = data.get("path") if isinstance(data, dict) else None
        named = path is None or data.get("name") is not None
        return data if named or not isinstance(path, str) else {**data, "name": path}
