"""Read the settings: from the environment, then from `.env`, then the defaults below."""

from collections.abc import Iterable
from typing import Any

from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["Settings", "settings"]


class Settings(BaseSettings):
    """The variables of the guide's gateway."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore")

    # Without a key the gateway starts, and routes that need a token answer 503.
    JWT_SECRET_KEY: str = ""
    USERS_SERVICE_URL: str = "http://users-service:8000"
    PRODUCTS_SERVICE_URL: str = "http://products-service:8000"
    ORDERS_SERVICE_URL: str = "http://orders-service:8000"

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Leave the key out of tracebacks and logs."""
        return [
            (name, value) for name, value in super().__repr_args__() if name != "JWT_SECRET_KEY"
        ]


settings = Settings()
