"""Hold the ASGI app: `uvicorn app.main:app`."""

from app.api.routes import gateway
from shared_libs.core.settings import settings

__all__ = ["app", "gateway", "settings"]

app = gateway.asgi
