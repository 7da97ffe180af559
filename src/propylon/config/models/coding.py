"""Define `compress`, which answers of a route are compressed, and `decompress`, which requests are unpacked."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from propylon.config.models.base import ConfigModel
from propylon.config.models.units import Size, Whole
from propylon.proxy.coding.codecs import package_missing

__all__ = ["Compress", "CompressConfig", "Decompress", "DecompressConfig"]

# RFC 9110, 8.3.1, with a `*` for the rest of a name, or for what stands before a suffix.
_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]+/(?:\*|(?:\*\+)?[a-z0-9!#$&^_.+-]+)")
# What browsers and scripts get as text. Pictures, films and archives are compressed already.
_TYPES = (
    "text/*",
    "application/json",
    "application/*+json",
    "application/x-ndjson",
    "application/xml",
    "application/*+xml",
    "application/javascript",
    "application/wasm",
    "image/svg+xml",
    "font/ttf",
    "font/otf",
)


def _type(text: str) -> str:
    text = text.lower()
    if text == "text/event-stream":
        msg = "is never compressed: its events would wait for each other; take it out"
        raise ValueError(msg)
    if not _TYPE.fullmatch(text):
        msg = f'"{text}" is no type; write application/json, text/*, or application/*+json'
        raise ValueError(msg)
    return text


def _coding(name: str) -> str:
    package = package_missing(name)
    if package:
        msg = f'{name} needs the package {package}, which is not installed; run: pip install "propylon[compression]"'
        raise ValueError(msg)
    return name


def _each_once(codings: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(codings)) < len(codings):
        msg = "has a coding twice; write each once, the best first"
        raise ValueError(msg)
    return codings


_Coding = Annotated[Literal["br", "zstd", "gzip"], AfterValidator(_coding)]


class CompressConfig(ConfigModel):
    """Which answers are compressed, and how."""

    encodings: Annotated[tuple[_Coding, ...], AfterValidator(_each_once)] = Field(
        default=("gzip",),
        min_length=1,
        description="Codings, the best first: br, zstd, gzip. What the client prefers decides first.",
    )
    types: tuple[Annotated[str, AfterValidator(_type)], ...] = Field(
        default=_TYPES,
        min_length=1,
        description="Types of answers; `text/*` and `application/*+json` stand for many. Never text/event-stream.",
    )
    min_size: Size = Field(
        default=1_000,
        description="The smallest body, as far as its length is known; for a smaller one compression gains nothing.",
    )
    level: Annotated[Whole, Field(ge=1, le=9)] | None = Field(
        default=None,
        description="How hard to try: 1 is fast, 9 small. When not set: 5 for gzip, 4 for br, 3 for zstd. br and zstd take 6 at"
        " the most, because more would hold other requests up.",
    )


class NoCompressConfig(CompressConfig):
    """Stands for `none`: false, and otherwise what nobody looks at."""

    def __bool__(self) -> bool:
        """Say that nothing is compressed."""
        return False


_NONE = NoCompressConfig()


def _short(written: Any) -> Any:
    if written == "none":
        return _NONE
    if isinstance(written, list | tuple):
        return {"encodings": written}
    if isinstance(written, str | bool | int | float):
        msg = "must be a list of codings, such as [br, zstd, gzip], a mapping, or none"
        raise ValueError(msg)  # noqa: TRY004 — pydantic makes a problem of a ValueError only
    return written


Compress = Annotated[
    CompressConfig,
    BeforeValidator(
        _short,
        json_schema_input_type=CompressConfig
        | list[Literal["br", "zstd", "gzip"]]
        | Literal["none"],
    ),
]
"""The rules of compression, or only its codings; `none`: there is none, whatever `defaults` say."""


class DecompressConfig(ConfigModel):
    """How long a body may become when it is unpacked."""

    max_size: Size = Field(
        default=10_000_000,
        description="Bytes of the unpacked body; never more than `max_body`, which counts for the body as it comes, too.",
    )
    max_ratio: Annotated[Whole, Field(ge=1, le=100_000)] = Field(
        default=100,
        description="How many times longer it may become; looked at beyond 64 KiB.",
    )


class NoDecompressConfig(DecompressConfig):
    """Stands for `false`: false, and otherwise what nobody looks at."""

    def __bool__(self) -> bool:
        """Say that nothing is unpacked."""
        return False


_PACKED = NoDecompressConfig()


def _true_is_usual(written: Any) -> Any:
    if written is True:
        return {}
    if written is False or written == "none":
        return _PACKED
    if not isinstance(written, dict | DecompressConfig):
        msg = "must be true, false, or bounds such as {max_size: 10MB, max_ratio: 100}"
        raise ValueError(msg)  # noqa: TRY004 — pydantic makes a problem of a ValueError only
    return written


Decompress = Annotated[
    DecompressConfig,
    BeforeValidator(_true_is_usual, json_schema_input_type=DecompressConfig | bool),
]
"""The bounds of unpacked bodies; true: the usual ones; false: nothing is unpacked, whatever `defaults` say."""
