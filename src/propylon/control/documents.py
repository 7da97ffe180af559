"""Serve `GET {prefix}/documents`: the OpenAPI documents of services, and how they have changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from propylon.control.admin import AdminGate

__all__ = ["DocumentEntry", "DocumentReports", "merged", "router"]

_CHANGE: dict[str, Any] = {
    "kind": "operation_removed",
    "breaking": True,
    "method": "GET",
    "path": "/parts/{id}",
    "detail": "",
}
_REVISION: dict[str, Any] = {
    "at": "2026-01-01T00:00:00Z",
    "old": "6f1d7a0c52e84b3b",
    "new": "9a4e6f1d7a0c52e8",
    "breaking": True,
    "changes": [_CHANGE],
    "more": 0,
}
_MISMATCH: dict[str, Any] = {
    "route": "orders",
    "method": "DELETE",
    "path": "/api/v1/orders/{id}",
    "missing": ["admin"],
}
_ENTRY: dict[str, Any] = {
    "service": "orders",
    "path": "/openapi.json",
    "status": "current",
    "problem": None,
    "asked_at": "2026-01-01T00:00:30Z",
    "read_at": "2026-01-01T00:00:00Z",
    "digest": "9a4e6f1d7a0c52e8",
    "title": "Orders",
    "version": "1.4.2",
    "openapi": "3.1.0",
    "operations": 12,
    "notes": [],
    "revisions": [_REVISION],
    "scopes": [_MISMATCH],
}


def _with_example(example: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"example": example})


class ChangeEntry(BaseModel):
    """One difference between two versions of a document."""

    model_config = _with_example(_CHANGE)

    kind: Literal[
        "operation_added",
        "operation_removed",
        "required_added",
        "required_removed",
        "field_removed",
        "scopes_tightened",
        "scopes_widened",
    ] = Field(description="What has changed.")
    breaking: bool = Field(
        description="Whether clients may fail by it, or reach what they could not."
    )
    method: str = Field(description="The method of the operation.")
    path: str = Field(description="The path that the service has for it.")
    detail: str = Field(description="The field, or the scopes before and after.")


class RevisionEntry(BaseModel):
    """The replacement of a document by another one."""

    model_config = _with_example(_REVISION)

    at: datetime = Field(description="When the new one came into force, in UTC.")
    old: str = Field(description="The digest of the document before.")
    new: str = Field(description="The digest of the document after.")
    breaking: bool = Field(description="Whether one of the changes is breaking.")
    changes: list[ChangeEntry] = Field(description="The differences, 40 at the most.")
    more: int = Field(description="Differences that are not listed.")


class MismatchEntry(BaseModel):
    """An operation for which the service asks for more than the route does."""

    model_config = _with_example(_MISMATCH)

    route: str = Field(description="The name of the route.")
    method: str = Field(description="The method.")
    path: str = Field(description="The public path.")
    missing: list[str] = Field(description="The scopes that the route does not ask for.")


class DocumentEntry(BaseModel):
    """The document of one service."""

    model_config = _with_example(_ENTRY)

    service: str = Field(description="The name of the service.")
    path: str = Field(description="Where the service is asked for it.")
    status: Literal["waiting", "current", "stale"] = Field(
        description="waiting: none has been read yet; current: the last question was answered; stale: it was not, and the last"
        " good document stays in force."
    )
    problem: str | None = Field(description="Why the last question failed; null if it did not.")
    asked_at: datetime | None = Field(description="When the service was last asked, in UTC.")
    read_at: datetime | None = Field(description="When the document in force was read, in UTC.")
    digest: str | None = Field(description="Identifies the document in force; null: there is none.")
    title: str | None = Field(description="Its title.")
    version: str | None = Field(description="The version of the API that it describes.")
    openapi: str | None = Field(description="The version of OpenAPI that it is written in.")
    operations: int = Field(description="How many operations it has, shown or not.")
    notes: list[str] = Field(description="What of it was left out, and why.")
    revisions: list[RevisionEntry] = Field(
        description="How it has changed, the newest first; the last five."
    )
    scopes: list[MismatchEntry] = Field(
        description="Where it asks for scopes that the route does not ask for."
    )


class Documents(BaseModel):
    """The documents of all services that are asked for one."""

    model_config = _with_example({"documents": [_ENTRY]})

    documents: list[DocumentEntry] = Field(description="One entry for each service.")


class DocumentReports(Protocol):
    """Collects what is known of documents."""

    async def gather(self) -> Sequence[Mapping[str, Any]]:
        """Return what each worker knows, in pieces; those of this worker first."""

    async def mismatches(self) -> Iterable[Mapping[str, Any]]:
        """Return the operations that ask for scopes which their routes do not ask for, with their services."""


def router(prefix: str, reports: DocumentReports, gate: AdminGate) -> APIRouter:
    """Return the endpoint."""
    routes = APIRouter(tags=["services"])

    @routes.get(
        f"{prefix}/documents",
        summary="The OpenAPI documents of all services",
        description="What was read of each service, what has changed, and which changes break clients.",
        dependencies=[gate.requires()],
    )
    async def documents(response: Response) -> Documents:
        response.headers["Cache-Control"] = "no-store"
        return Documents(documents=merged(await reports.gather(), await reports.mismatches()))

    return routes


def merged(
    pieces: Iterable[Mapping[str, Any]], mismatches: Iterable[Mapping[str, Any]]
) -> list[DocumentEntry]:
    """Return one entry for each service from what all workers know: the one that asked last knows its state best."""
    states: dict[str, Mapping[str, Any]] = {}
    notes: dict[str, dict[str, None]] = {}
    revisions: dict[str, list[Mapping[str, Any]]] = {}
    for piece in pieces:
        service = piece["service"]
        if "state" in piece:
            known = states.get(service)
            if known is None or _asked(piece["state"]) > _asked(known):
                states[service] = piece["state"]
        elif "note" in piece:
            notes.setdefault(service, {})[piece["note"]] = None
        else:
            revisions.setdefault(service, []).append(piece["revision"])
    scopes = [*mismatches]
    return [
        _entry(
            service,
            state,
            [*notes.get(service, ())],
            _revisions(revisions.get(service, ())),
            [one for one in scopes if one["service"] == service],
        )
        for service, state in states.items()
    ]


def _asked(state: Mapping[str, Any]) -> float:
    return state["asked_at"] or 0.0


def _entry(
    service: str,
    state: Mapping[str, Any],
    notes: list[str],
    revisions: list[RevisionEntry],
    scopes: Iterable[Mapping[str, Any]],
) -> DocumentEntry:
    status: Literal["waiting", "current", "stale"] = "current"
    if state["digest"] is None:
        status = "waiting"
    elif state["problem"] is not None:
        status = "stale"
    return DocumentEntry(
        service=service,
        path=state["path"],
        status=status,
        problem=state["problem"],
        asked_at=_moment(state["asked_at"]),
        read_at=_moment(state["read_at"]),
        digest=state["digest"],
        title=state["title"],
        version=state["version"],
        openapi=state["openapi"],
        operations=state["operations"],
        notes=notes,
        revisions=revisions,
        scopes=[
            MismatchEntry(
                route=one["route"], method=one["method"], path=one["path"], missing=one["missing"]
            )
            for one in scopes
        ],
    )


def _revisions(pieces: Iterable[Mapping[str, Any]]) -> list[RevisionEntry]:
    """Join the pieces of each revision; workers that saw the same one tell it alike, each at its own moment."""
    first: dict[tuple[str, str], Mapping[str, Any]] = {}
    changes: dict[tuple[str, str], dict[int, ChangeEntry]] = {}
    for piece in pieces:
        key = piece["old"], piece["new"]
        if key not in first or piece["at"] < first[key]["at"]:
            first[key] = piece
        known = changes.setdefault(key, {})
        if piece["number"] >= 0:
            known[piece["number"]] = ChangeEntry(
                kind=piece["kind"],
                breaking=piece["breaking"],
                method=piece["method"],
                path=piece["path"],
                detail=piece["detail"],
            )
    newest = sorted(first.items(), key=lambda one: one[1]["at"], reverse=True)
    return [
        RevisionEntry(
            at=_moment(piece["at"]) or datetime.now(UTC),
            old=piece["old"],
            new=piece["new"],
            breaking=any(one.breaking for one in changes[key].values()),
            changes=[one for _, one in sorted(changes[key].items())],
            more=piece["more"],
        )
        for key, piece in newest
    ]


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(round(seconds, 3), UTC)
