"""One class for each gateway: where its program is, what configuration it gets, how it is started.

All get the same task: one core, ten prefix routes, kept connections to the service, a request id,
X-Forwarded-For, a JSON access log in a file, their own metrics where they have them, and the check of
an HS256 token (signature and expiry) where the free version can.
"""

from peers.base import HERE, Peer, Site
from peers.envoy import Envoy
from peers.in_c import HAProxy, Nginx
from peers.in_go import Caddy, Traefik
from peers.in_python import PlainFastAPI, PortablePropylon, Propylon

__all__ = ["HERE", "PEERS", "Peer", "Site"]

PEERS: tuple[Peer, ...] = (
    Propylon(),
    PortablePropylon(),
    HAProxy(),
    Nginx(),
    Envoy(),
    Caddy(),
    Traefik(),
    PlainFastAPI(),
)
