"""Play an identity provider: a key set and an introspection endpoint, and all that can go wrong."""

import json
from base64 import b64decode
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs

from tests.support import answers
from tests.support.gateway import free_port
from tests.support.secrecy import SECRECY
from tests.support.tokens import Key
from tests.support.upstream import Arrived, Peer, Script, Upstream

JWKS, INTROSPECT = "/keys.json", "/introspect"
CLIENT_ID = "gateway"
CLIENT_SECRET = SECRECY.note("Iq5-client-secret-of-the-gateway-w8")

Said = dict[str, Any] | Script


def as_json(value: Any) -> Script:
    """An ordinary JSON answer."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return answers.plain(headers=["Content-Type: application/json"], body=body)


class Issuer:
    """A source of keys that can rotate, stall, lie and go away; and the judge of opaque tokens."""

    def __init__(self) -> None:
        # While it is down, nobody else may listen there.
        self.port = free_port()
        self._upstream = Upstream(fallback=self._answer, port=self.port)
        self.keys: list[Key] = []
        self.opaque: dict[str, Said] = {}  # what introspection says of a token, or does
        self.asked: list[str] = []  # the tokens that it was asked for
        self._faults: list[str] = []
        self._instead: Script | None = None
        self.pages: dict[str, Script] = {}  # what it answers on other paths

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._upstream.close()

    @property
    def jwks_url(self) -> str:
        """Where its keys are published."""
        return f"http://127.0.0.1:{self.port}{JWKS}"

    @property
    def introspection_url(self) -> str:
        """Where it is asked about opaque tokens."""
        return f"http://127.0.0.1:{self.port}{INTROSPECT}"

    @property
    def fetches(self) -> int:
        """How often its keys were asked for."""
        return sum(request.target == JWKS.encode() for request in self._upstream.requests)

    @property
    def faults(self) -> list[str]:
        """What the gateway did that a strict issuer would not accept."""
        return self._faults + self._upstream.faults

    @property
    def requests(self) -> list[Arrived]:
        """Everything that it was asked, on any path."""
        return list(self._upstream.requests)

    def publish(self, *keys: Key) -> None:
        """Publish these keys, and no others."""
        self.keys = list(keys)

    def instead(self, script: Script | None) -> None:
        """Do this when the keys are asked for; None: publish them again."""
        self._instead = script

    def grant(self, token: str, said: Said) -> str:
        """Say this of an opaque token, or do this when asked about it; return the token."""
        self.opaque[token] = said
        return SECRECY.note(token)

    def go_down(self) -> None:
        """Close the listener and every connection."""
        self._faults += self._upstream.faults
        self._upstream.close()

    def come_up(self) -> None:
        """Listen again where it did before."""
        self._upstream = Upstream(fallback=self._answer, port=self.port)

    def wait(self, true: Any, within: float = 20.0) -> bool:
        """Whether it becomes true in time."""
        return self._upstream.wait(true, within)

    def _answer(self, peer: Peer, arrived: Arrived) -> None:
        path = arrived.target.decode("latin-1")
        if path == JWKS:
            script = self._instead or as_json({"keys": [key.jwk for key in self.keys]})
        elif path == INTROSPECT:
            peer.read_body(arrived)
            script = self._judge(arrived)
        else:
            script = self.pages.get(path, answers.plain("404 Not Found"))
        script(peer, arrived)

    def _judge(self, arrived: Arrived) -> Script:
        """RFC 7662, 2.1: a POST with a form, from a client that has proved who it is."""
        scheme, _, credentials = (arrived.get("authorization") or "").partition(" ")
        pair = f"{CLIENT_ID}:{CLIENT_SECRET}"
        if scheme.lower() != "basic" or b64decode(credentials).decode() != pair:
            self._faults.append(f"introspection without the client's credentials: {scheme}")
            return answers.plain("401 Unauthorized")
        form = parse_qs(arrived.body.decode())
        if arrived.method != "POST" or len(form.get("token", [])) != 1:
            self._faults.append(f"introspection by {arrived.method} with {sorted(form)}")
            return answers.plain("400 Bad Request")
        self.asked.append(form["token"][0])
        said = self.opaque.get(form["token"][0], {"active": False})
        return said if callable(said) else as_json(said)
