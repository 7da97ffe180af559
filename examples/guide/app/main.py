"""Put the guide's own endpoints on the gateway, and hold the ASGI app: `uvicorn app.main:app`."""

from app.api import orders, overview, products
from app.core.gateway import gateway
from app.core.settings import settings

__all__ = ["app", "gateway", "settings"]

for resource in (products, orders, overview):
    gateway.api.include_router(resource.router)

app = gateway.asgi
