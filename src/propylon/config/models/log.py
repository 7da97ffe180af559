"""Define the section `log`: what is logged, which records are written, with which fields, and where to."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from propylon.config.models.base import ConfigModel, PlainPath, as_list
from propylon.config.models.spelling import did_you_mean
from propylon.config.models.units import Duration, Share, Whole

__all__ = ["RECORD_FIELDS", "AuditConfig", "LogConfig", "SyslogConfig"]

_SHORTEST_KEY = 16
_LONGEST_APP_NAME = 48  # RFC 5424, 6.2.5

# As other programs spell them: LOG_LEVEL=WARN is as common as LOG_LEVEL=WARNING.
_LEVELS = {"warn": "warning", "err": "error", "fatal": "critical", "trace": "debug"}

_ALWAYS = ("time", "level", "event")
RECORD_FIELDS = (
    "request_id", "trace_id", "client_ip", "method", "host", "path", "route", "service", "instance", "principal", "status",
    "upstream_status", "bytes_in", "bytes_out", "duration_ms", "upstream_ms", "attempts", "error", "flags", "fallback",
    "rate_limit", "faults", "close_code", "traceback",
)  # fmt: skip
"""The fields of a record of the access log, besides time, level and event."""

_HEADERS = {"user_agent": "header:User-Agent", "referer": "header:Referer"}
_KINDS = ("header", "claim", "policy")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_OTHERS = re.compile(r"[^a-z0-9]+")
# A record never has a credential (CWE-532). `Idempotency-Key` is none.
_CREDENTIAL = re.compile(
    r"(?i)(?!idempotency-key\Z).*(?:auth|cookie|credential|dpop|key|passw|secret|session|signature|ticket|token)"
)
_SYSLOG = re.compile(
    r"(?P<unix>unix:)?(?P<path>/[^\0]+)|(?P<kind>udp|tcp)://(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?"
)
_FACILITIES = (
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "ntp", "audit", "alert",
    "clock", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
)  # fmt: skip
# RFC 5426, 3.3 and RFC 6587, 3.4.1 (the port that IANA keeps for syslog over TCP).
_PORTS = {"udp": 514, "tcp": 601}


def _level(value: object) -> object:
    if not isinstance(value, str):
        return value
    return _LEVELS.get(value.lower(), value.lower())


def _check_file(file: str | None) -> str | None:
    if file is not None and not Path(file).parent.is_dir():
        msg = f"there is no directory {Path(file).parent}; make it, or write another path"
        raise ValueError(msg)
    if file is not None and Path(file).is_dir():
        msg = f"{file} is a directory; write the path of a file in it, such as {file}/propylon.log"
        raise ValueError(msg)
    return file


LogFile = Annotated[str | None, Field(min_length=1), AfterValidator(_check_file)]


def _named(value: object) -> object:
    """Return the sources of fields by the fields' names; a list of sources names them itself."""
    if not isinstance(value, list | tuple):
        return value
    return {_name_of(source): source for source in value}


def _name_of(source: object) -> str:
    text = str(source)
    return _OTHERS.sub("_", text.partition(":")[2].lower()).strip("_") or text


def _check_name(name: str) -> str:
    if name in RECORD_FIELDS or name in _ALWAYS:
        msg = f'"{name}" is in each record already; write another name, as in {{x_{name}: …}}'
        raise ValueError(msg)
    if _NAME.fullmatch(name) is None:
        msg = f'"{name}" is no name of a field; write small letters, digits and _'
        raise ValueError(msg)
    return name


def _check_source(source: str) -> str:
    source = _HEADERS.get(source, source)
    kind, _, name = source.partition(":")
    if kind not in _KINDS or not name:
        msg = f'"{source}" is no source; write header:NAME, claim:NAME, policy:NAME, user_agent or referer'
        raise ValueError(msg)
    if kind == "header" and _CREDENTIAL.match(name):
        msg = f"{name} may hold a credential, and the log holds none; log a claim of the token instead, as in claim:sub"
        raise ValueError(msg)
    return source


class AuditConfig(ConfigModel):
    """The audit log: logins, refreshes, revocations, registrations, reloads."""

    file: LogFile = Field(
        default=None,
        description="File that audit records are appended to, one line of JSON each. When not set, they go where the"
        " access log goes.",
    )
    key: SecretStr | None = Field(
        default=None,
        description="Key of the hash that stands for a user in the audit log when the client sends"
        " `X-Privacy-Level: strict`. When not set, it is made from auth.jwt.secret; without one, each worker makes its"
        " own, and hashes of two workers differ.",
    )

    @field_validator("key")
    @classmethod
    def _long_enough(cls, key: SecretStr | None) -> SecretStr | None:
        # Names are easy to guess: who has the log tries keys and names together. 128 bits cannot be tried.
        if key is not None and len(key.get_secret_value()) < _SHORTEST_KEY:
            msg = f"must have at least {_SHORTEST_KEY} characters; make one: openssl rand -hex 32"
            raise ValueError(msg)
        return key


class SyslogConfig(ConfigModel):
    """A syslog daemon that gets the log (RFC 5424)."""

    address: str = Field(
        default="/dev/log",
        description="/dev/log or another Unix datagram socket, udp://HOST:514, or tcp://HOST:601 (RFC 6587).",
    )
    facility: Literal[_FACILITIES] = Field(  # type: ignore[valid-type]
        default="daemon", description="The facility, as in syslog.conf."
    )
    app_name: str = Field(
        default="propylon",
        pattern=r"^[!-~]+$",
        max_length=_LONGEST_APP_NAME,
        description="The name of the program in each message.",
    )

    @model_validator(mode="before")
    @classmethod
    def _short(cls, data: Any) -> Any:
        return {"address": data} if isinstance(data, str) else data

    @field_validator("address")
    @classmethod
    def _known_address(cls, address: str) -> str:
        match = _SYSLOG.fullmatch(address)
        if match is None or (match["port"] and not 0 < int(match["port"]) <= 65535):
            msg = f'"{address}" is no address; write /dev/log, udp://HOST:514 or tcp://HOST:601'
            raise ValueError(msg)
        return address

    @property
    def path(self) -> str | None:
        """The path of the Unix socket; None for an address of the network."""
        match = _SYSLOG.fullmatch(self.address)
        return None if match is None else match["path"]

    @property
    def remote(self) -> tuple[str, str, int]:
        """The transport, the host and the port; for an address of the network."""
        match = _SYSLOG.fullmatch(self.address)
        kind = "udp" if match is None else match["kind"]
        host = "" if match is None else match["host"].strip("[]")
        port = _PORTS[kind] if match is None or not match["port"] else int(match["port"])
        return kind, host, port


Names = Annotated[tuple[str, ...], BeforeValidator(as_list, json_schema_input_type=str | list[str])]


class LogConfig(ConfigModel):
    """What is logged, which records are written, with which fields, and where to."""

    level: Annotated[
        Literal["debug", "info", "warning", "error", "critical"], BeforeValidator(_level)
    ] = Field(default="info", description="Lowest level that is logged.")
    format: Literal["json", "text"] | None = Field(
        default=None,
        description="json for programs, text for people. When not set: text on a terminal, json elsewhere.",
    )
    file: LogFile = Field(
        default=None,
        description="File that the log is appended to instead of standard output; opened anew on SIGUSR1, and when it was renamed.",
    )
    syslog: SyslogConfig | None = Field(
        default=None,
        description="A syslog daemon that gets the log instead of standard output: /dev/log, udp://HOST:514, tcp://HOST:601.",
    )
    skip: Annotated[tuple[PlainPath, ...], BeforeValidator(as_list)] = Field(
        default=("/livez", "/readyz", "/health"),
        description="Paths that are left out of the access log while they are answered below 400: load balancers ask for"
        " them all the time. [] leaves nothing out.",
    )
    min_status: Annotated[Whole, Field(ge=100, le=599)] | None = Field(
        default=None,
        description="Records of answers with this status or a higher one are written; of the others, those that slower_than and"
        " sample let through. Server errors, refusals and answers that were cut are always written.",
    )
    slower_than: Duration | None = Field(
        default=None,
        description="Records of requests that took longer are written; of the others, those that min_status and sample let through.",
    )
    sample: Share | None = Field(
        default=None,
        description="The share that is written of the records that min_status and slower_than do not ask for. When not set: none of"
        " them, and all where neither is set.",
    )
    fields: Annotated[
        dict[
            Annotated[str, AfterValidator(_check_name)],
            Annotated[str, AfterValidator(_check_source)],
        ],
        BeforeValidator(_named, json_schema_input_type=list[str] | dict[str, str]),
    ] = Field(
        default_factory=dict,
        max_length=32,
        description="Fields that each access-log record has in addition: user_agent, referer, header:NAME, claim:NAME of the token,"
        " policy:NAME that a policy has noted. A list, or a mapping with names of your own: {tenant: claim:tenant.id}.",
    )
    keep: Names | None = Field(
        default=None,
        description="The only fields of access-log records that are written, besides time, level and event.",
    )
    drop: Names = Field(default=(), description="Fields of access-log records that are left out.")
    redact: Names = Field(
        default=(),
        description='Fields of access-log records whose values are replaced by "redacted".',
    )
    audit: AuditConfig = Field(default=AuditConfig(), description="The audit log.")

    @field_validator("keep", "drop", "redact")
    @classmethod
    def _known_fields(
        cls, names: tuple[str, ...] | None, info: ValidationInfo
    ) -> tuple[str, ...] | None:
        known = (*RECORD_FIELDS, *info.data.get("fields", ()))
        for name in names or ():
            if name in _ALWAYS:
                msg = f'"{name}" is in each line: time, level and event stay'
                raise ValueError(msg)
            if name not in known:
                msg = f'no record has a field "{name}"{did_you_mean(name, known)}'
                raise ValueError(msg)
        return names

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.file is not None and self.syslog is not None:
            msg = "has file and syslog; the log goes to one place: write one of them"
            raise ValueError(msg)
        if self.keep is not None and self.drop:
            msg = "has keep and drop; write one of them"
            raise ValueError(msg)
        return self
