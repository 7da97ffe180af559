"""Make the gateway of `propylon.yaml`, which lists the services and the routes, and of the settings."""

from pathlib import Path

from app.core.settings import settings
from propylon import Gateway

__all__ = ["gateway"]

CONFIGURATION = Path(__file__).parents[2] / "propylon.yaml"

gateway = Gateway.from_file(CONFIGURATION, settings=settings)
