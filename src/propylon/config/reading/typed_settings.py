"""Read the configuration with variables that a settings class has read, such as one of `pydantic-settings`."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import orjson
from pydantic import BaseModel, SecretStr

from propylon.config.reading.load import Loaded, load

__all__ = ["Environ", "Settings", "reader", "variables"]

Environ = Mapping[str, str] | None
"""Environment variables; those of the process if it is None."""

Settings = BaseModel | None
"""Variables that an application has read itself."""


def reader(path: Path, environ: Environ, settings: Settings) -> Callable[[], Loaded]:
    """Return what reads the file, now and for a reload."""

    def read() -> Loaded:
        given = os.environ if environ is None else environ
        return load(path, {**given, **variables(settings)})

    return read


def variables(settings: Settings) -> Mapping[str, str]:
    """Return the fields as environment variables: the field `debug` or `DEBUG` is the variable DEBUG.

    None counts as not set. What is no text becomes JSON, which the configuration reads as it reads variables.
    """
    if settings is None:
        return {}
    prefix = str(settings.model_config.get("env_prefix") or "")
    plain = settings.model_dump(mode="json", exclude_none=True)
    return {
        f"{prefix}{name}".upper(): _text(getattr(settings, name), value)
        for name, value in plain.items()
        if name in type(settings).model_fields
    }


def _text(written: object, plain: object) -> str:
    if isinstance(written, SecretStr):
        return written.get_secret_value()
    return plain if isinstance(plain, str) else orjson.dumps(plain).decode()
