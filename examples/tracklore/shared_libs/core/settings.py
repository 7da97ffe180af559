"""Read the settings: from the environment, then from `.env`, then the defaults below."""

from collections.abc import Iterable
from typing import Any

from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["Settings", "settings"]


class Settings(BaseSettings):
    """The variables of Tracklore's gateway."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore")

    USER_SERVICE_URL: str = "http://user-service:8000"
    AUTH_SERVICE_URL: str = "http://auth-service:8000"
    # No default: the one in Tracklore's README is published, so anybody could sign tokens with it. Without a key,
    # protected routes answer 503.
    JWT_SECRET_KEY: str = ""

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Leave the key out of tracebacks and logs."""
        return [
            (name, value) for name, value in super().__repr_args__() if name != "JWT_SECRET_KEY"
        ]


settings = Settings()
