"""Read the settings: from the environment, then from `.env`, then the defaults below."""

from collections.abc import Iterable
from typing import Any

from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["Settings", "settings"]


class Settings(BaseSettings):
    """The variables of the game library's gateway."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore")

    AUTH_SERVICE_URL: str = "http://auth-service:8000"
    GAME_SERVICE_URL: str = "http://game-service:8000"
    LIBRARY_SERVICE_URL: str = "http://library-service:8000"
    # Without a key the gateway starts, and routes that need a token answer 503.
    JWT_SECRET_KEY: str = ""
    # Origins of pages that may read the answers, with commas between them. Empty: CORS is off.
    CORS_ORIGINS: str = ""

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Leave the key out of tracebacks and logs."""
        return [
            (name, value) for name, value in super().__repr_args__() if name != "JWT_SECRET_KEY"
        ]


settings = Settings()
