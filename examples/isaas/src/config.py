"""Read the settings: from the environment, then from `.env`, then the defaults below."""

from collections.abc import Iterable
from typing import Any

from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["Settings", "settings"]


class Settings(BaseSettings):
    """The variables of the ISaaS gateway."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore")

    DEBUG: bool = False
    API_V1_PREFIX: str = "/api/v1"
    # Without a key the gateway starts, and routes that need a token answer 503.
    SECRET_KEY: str = ""
    ACCESS_TOKEN_EXPIRE_MINUTES: int = 30
    RATE_LIMIT_PER_SECOND: int = 10
    CONTEXT_SERVICE_URL: str = "http://context-service:8001"
    INTENT_SERVICE_URL: str = "http://intent-service:8002"
    PREDICTION_SERVICE_URL: str = "http://prediction-service:8003"
    REALTIME_SERVICE_URL: str = "http://realtime-service:8004"
    # Without a host the limits are counted on this machine.
    REDIS_HOST: str = ""
    REDIS_PORT: int = 6379

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Leave the key out of tracebacks and logs."""
        return [(name, value) for name, value in super().__repr_args__() if name != "SECRET_KEY"]


settings = Settings()
