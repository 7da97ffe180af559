"""Publish what routes let through: a service's operations under public paths, or the routes themselves. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import orjson

from propylon.documents.document import Document, Operation
from propylon.documents.exposure import ORDINARY, Exposure, Place, sample
from propylon.documents.published import ANYBODY, Callers, Published, refer_to

__all__ = ["ERRORS", "Chosen", "Mismatch", "error_components", "publish", "publish_route"]

# Returns the name of the route that the gateway chooses for a host, path and method; None: it refuses the request.
Chosen = Callable[[str, bytes, str], str | None]

_ERROR = "propylon.Error"  # no service can be called so
ERRORS: Mapping[str, str] = {
    "400": "The gateway or the service does not understand the request.",
    "401": "The request has no token, or no valid one.",
    "403": "The token does not permit this.",
    "413": "The body is larger than this route permits.",
    "429": "The caller has used up a limit of this route; `Retry-After` says when it may ask again.",
    "502": "The service did not answer, or not with valid HTTP.",
    "503": "No instance of the service may be asked now; `Retry-After` says when to ask again.",
    "504": "The service did not answer in time.",
    "default": "Any other answer, of the gateway or of the service.",
}
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_WEBSOCKET = "WEBSOCKET"


@dataclass(frozen=True, slots=True)
class Mismatch:
    """An operation for which a document demands scopes that its route does not."""

    service: str
    route: str
    method: str
    path: str
    missing: tuple[str, ...]


def error_components(envelope: str) -> dict[str, str]:
    """Return the components that the operations of services refer to: an answer for each status of `ERRORS`.

    `envelope` is the name of the schema of the gateway's errors. An upstream's errors pass unchanged, whatever their form.
    """
    either = {
        "title": "Error",
        "description": "The gateway's envelope if `X-Error-Source` is `gateway`, else the service's own form.",
        "anyOf": [{"$ref": f"#/components/{envelope}"}, {"description": "The service's own."}],
        "examples": [
            {
                "error": {"code": "NOT_FOUND", "message": "No route matches", "details": {}},
                "request_id": "8f14e45fceea167a",
            }
        ],
    }
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{_ERROR}"}}}
    components = {f"schemas/{_ERROR}": orjson.dumps(either).decode()}
    for status, description in ERRORS.items():
        answer = {
            "description": description,
            **({} if status == "default" else {"content": content}),
        }
        components[f"responses/{_answer_name(status)}"] = orjson.dumps(answer).decode()
    return components


def _answer_name(status: str) -> str:
    return f"propylon.{status}"


def publish(
    document: Document, exposures: Iterable[Exposure], chosen: Chosen
) -> Iterator[Published | Mismatch | None]:
    """Yield a service's operations as the routes show them, and where scopes differ; None now and then, for a pause."""
    exposures = tuple(exposures)
    for operation in document.operations:
        yield None
        shown = _shown(operation, exposures, chosen)
        for exposure, place in shown:
            yield _published(document.service, operation, exposure, place)
            missing = _lacking(operation, exposure)
            if missing:
                path = "/" + "/".join(place.segments)
                yield Mismatch(document.service, exposure.name, operation.method, path, missing)


def _shown(
    operation: Operation, exposures: Iterable[Exposure], chosen: Chosen
) -> Iterator[tuple[Exposure, Place]]:
    for exposure in exposures:
        place = exposure.place(operation)
        if place is not None and _leads(exposure, place, operation.method, chosen):
            yield exposure, place


def _leads(exposure: Exposure, place: Place, method: str, chosen: Chosen) -> bool:
    """Whether a request to that place comes to this route, and not to a more specific one."""
    host = exposure.hosts[0] if exposure.hosts else ""
    return chosen(host, sample(place.segments), method) == exposure.name


def _lacking(operation: Operation, exposure: Exposure) -> tuple[str, ...]:
    """Return the scopes that the document demands and the route does not; none where the route enforces the document."""
    security = operation.security
    if exposure.enforced or security.permits(exposure.scopes, known=exposure.auth == "required"):
        return ()
    nearest = min(security.alternatives, key=lambda one: len(one - exposure.scopes))
    return tuple(sorted(nearest - exposure.scopes)) or ("a token",)


def _callers(exposure: Exposure, operation: Operation | None) -> Callers:
    """Return who may call: the route's rule, and the service's own behind it."""
    if exposure.auth == "none":
        return ANYBODY
    alternatives: tuple[frozenset[str], ...] = (exposure.scopes,)
    anonymous = exposure.auth == "optional" and not exposure.scopes and not exposure.roles
    if operation is not None and not operation.security.optional:
        alternatives, anonymous = operation.security.with_scopes(exposure.scopes), False
    return Callers(alternatives, frozenset(exposure.roles), anonymous)


def _published(service: str, operation: Operation, exposure: Exposure, place: Place) -> Published:
    summary = operation.summary or f"{operation.method} {exposure.name}"
    members = [
        *_said(summary, operation.description, exposure, service),
        *([operation.members] if operation.members else []),
        *([f'"requestBody":{operation.body}'] if operation.body else []),
        f'"responses":{_answers(operation.responses, exposure, body=bool(operation.body))}',
    ]
    return Published(
        place.segments,
        operation.method,
        _id(service, operation.id or f"{operation.method} {operation.path}"),
        ",".join(members),
        _callers(exposure, operation),
        service,
        place.parameters,
        operation.parameters,
    )


def publish_route(exposure: Exposure, chosen: Chosen) -> Iterator[Published]:
    """Yield what is known of a route whose service has no document: its paths, methods and rules."""
    for place in exposure.places():
        for method in sorted(exposure.methods or ORDINARY):
            if not _leads(exposure, place, method, chosen):
                continue
            answers = (
                {}
                if method == _WEBSOCKET
                else {"200": '{"description":"What the service answers."}'}
            )
            if method == _WEBSOCKET:
                answers["101"] = '{"description":"The WebSocket is open."}'
            body = '"requestBody":{"content":{"*/*":{"schema":{}}}}'
            has_body = method in _WITH_BODY
            members = [
                *_said(f"{method} {exposure.name}", "", exposure, exposure.service),
                *([body] if has_body else []),
                f'"responses":{_answers(answers, exposure, body=has_body)}',
            ]
            yield Published(
                place.segments,
                "GET" if method == _WEBSOCKET else method,
                _id(exposure.service, f"{method} {'/'.join(place.segments)}"),
                ",".join(members),
                _callers(exposure, None),
                exposure.service,
                place.parameters,
            )


def _said(summary: str, description: str, exposure: Exposure, service: str) -> Iterator[str]:
    """Yield the members for people: what it is, and which rules of the route hold."""
    rules = []
    if exposure.roles:
        rules.append(f"Roles, one of: {', '.join(exposure.roles)}.")
    if exposure.limits:
        rules.append(f"Limits: {'; '.join(exposure.limits)}.")
    if exposure.hosts:
        rules.append(f"On {', '.join(exposure.hosts)} only.")
    text = "\n\n".join(part for part in (description, " ".join(rules)) if part)
    yield f'"summary":{_json(summary)}'
    yield f'"tags":[{_json(service)}]'
    if text:
        yield f'"description":{_json(text)}'
    yield f'"x-route":{_json(exposure.name)}'
    if exposure.roles:
        yield f'"x-roles":{_json(list(exposure.roles))}'
    if exposure.limits:
        yield f'"x-limits":{_json(list(exposure.limits))}'


def _answers(written: Mapping[str, str], exposure: Exposure, *, body: bool) -> str:
    """Return the JSON text of the answers: the service's, and the gateway's for statuses that the service does not have."""
    own = ["400", "502", "503", "504", "default"]
    if exposure.auth != "none":
        own += ["401", "403"]
    if body:
        own.append("413")
    if exposure.limits:
        own.append("429")
    answers = dict(written)
    for status in sorted(own):
        answers.setdefault(status, refer_to(f"responses/{_answer_name(status)}"))
    return "{" + ",".join(f"{_json(status)}:{text}" for status, text in answers.items()) + "}"


def _id(service: str, written: str) -> str:
    """Return an id that code generators can make a name of; two services may have written the same one."""
    plain = "".join(one if one.isascii() and one.isalnum() else "_" for one in written).strip("_")
    return f"{service}_{plain}"[:200]


def _json(value: object) -> str:
    return orjson.dumps(value).decode()
