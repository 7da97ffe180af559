"""Hold the ASGI app: `uvicorn app.main:app`."""

from app.core.gateway import gateway
from app.core.settings import settings

__all__ = ["app", "gateway", "settings"]

app = gateway.asgi
