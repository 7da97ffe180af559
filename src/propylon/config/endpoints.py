"""Name the paths of the gateway's own endpoints: what is routed, and what no route may stand on."""

__all__ = ["LOOPBACK", "PUBLIC", "UNDER_PREFIX"]

PUBLIC = (
    "/health",
    "/livez",
    "/readyz",
    "/docs",
    "/docs/oauth2-redirect",
    "/redoc",
    "/openapi.json",
)
LOOPBACK = ("/metrics",)
# Kept free for what the design puts there; `{}` stands for one segment.
UNDER_PREFIX = (
    "/auth/token",
    "/auth/revoke",
    "/auth/introspect",
    "/users/me",
    "/services",
    "/services/{}/{}",
    "/services/{}/{}/heartbeat",
    "/circuits",
    "/rate-limits",
)
