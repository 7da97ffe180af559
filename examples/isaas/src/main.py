"""Make the gateway of `propylon.yaml` and of the settings: `uvicorn src.main:app`."""

from pathlib import Path

from propylon import Gateway
from src.config import settings

__all__ = ["app", "gateway", "settings"]

CONFIGURATION = Path(__file__).parents[1] / "propylon.yaml"

gateway = Gateway.from_file(CONFIGURATION, settings=settings)
app = gateway.asgi
