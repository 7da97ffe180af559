"""Read the variables that a settings class has read already, such as one of `pydantic-settings`. Pure."""

from collections.abc import Mapping

import orjson
from pydantic import BaseModel, SecretStr

__all__ = ["variables"]


def variables(settings: BaseModel | None) -> Mapping[str, str]:
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
