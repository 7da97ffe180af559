"""Make the gateway of `propylon.yaml` and of the settings: `uvicorn gateway.main:app`."""

from pathlib import Path

from gateway.config import settings
from propylon import Gateway

__all__ = ["app", "gateway", "settings"]

CONFIGURATION = Path(__file__).parents[1] / "propylon.yaml"

gateway = Gateway.from_file(CONFIGURATION, settings=settings)
app = gateway.asgi
