"""Join the users, the refresh tokens and the revocations to the endpoints that work on them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable

from fastapi import APIRouter

from propylon.config.models.auth import AuthConfig
from propylon.config.models.schema import GatewayConfig
from propylon.control import tokens, users
from propylon.control.admin import AdminGate
from propylon.control.audit import AuditTrail
from propylon.control.issuer import Issuer
from propylon.control.ports import Verify
from propylon.control.sessions import Sessions
from propylon.errors import ServiceUnavailable
from propylon.loop.tasks import spawn_forever
from propylon.proxy.authenticate.claims import MOST_LEEWAY
from propylon.stores.clocks import elapsed
from propylon.stores.database import Database
from propylon.stores.grants import Grants
from propylon.stores.journal import RevocationJournal
from propylon.stores.memory import LONGEST_TOKEN, MemoryRevocations
from propylon.stores.passwords import Passwords
from propylon.stores.prune import Pruning
from propylon.stores.shared import Facts
from propylon.stores.siblings import Message
from propylon.stores.users import Users

__all__ = ["TokenServices", "issuer_of"]

log = logging.getLogger(__name__)

_TOPIC = "revocations"
# How long a token that was taken back still counts where no worker tells of it: another machine did it, or `propylon user
# disable`; or the message was lost.
_CATCH_UP = 1.0
# However many are taken back in a row, the database is not asked more often.
_BREATH = 0.02
# How long a stop waits for the database.
_LET_GO = 1.0
_ID_BYTES = 16


class TokenServices:
    """What there is behind the token endpoints, and what goes on beside them."""

    def __init__(
        self,
        config: GatewayConfig,
        verify: Verify,
        gate: AdminGate | None = None,
        trail: AuditTrail | None = None,
        on_users: Callable[[bool], None] = lambda _: None,
    ) -> None:
        """Take it from the configuration; no database is opened or created before it is used.

        `on_users` hears whether the token endpoint is on, where that depends on whether there are users: as soon as it
        is known, and after each change. Raises CannotUseDatabase.
        """
        auth = config.auth
        self.revocations = MemoryRevocations(time.time, longest=LONGEST_TOKEN, leeway=MOST_LEEWAY)
        self._database = Database(auth.tokens.database.get_secret_value())
        self._journal = RevocationJournal(
            self._database, self.revocations, time.time, self._announce
        )
        self._pruning = Pruning(self._database, self.revocations, time.time, elapsed)
        self._facts: Facts | None = None
        self._known = False
        self._caught_up: float | None = None  # when the list of revoked tokens was last read
        self._open = auth.revocation.on_failure == "open"
        self._following: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()
        self._news = asyncio.Event()
        self._passwords = Passwords()
        self._on_users = on_users
        self._while_users = auth.issues_while_users
        self.on = not self._while_users  # the token endpoint, as far as it hangs on users
        self._users = accounts = Users(self._database, self._passwords, time.time, self._journal)
        self._grants = grants = Grants(
            self._database,
            self._journal,
            expires=auth.tokens.refresh_expires,
            clock=time.time,
            secret=secrets.token_bytes,
            grace=auth.tokens.refresh_grace,
        )
        self._sessions: Sessions | None = None
        self._journal.own_issuer = _own_issuer(auth)
        if (issuer := issuer_of(auth)) is not None:
            self._sessions = Sessions(accounts, grants, self._journal, issuer)
        self.routers: tuple[APIRouter, ...] = (
            tokens.router(
                config.prefix,
                verify=verify,
                revoker=self._journal,
                clock=time.time,
                sessions=self._sessions,
                grants=grants,
                gate=gate,
                trail=trail,
                accounts=accounts,
            ),
            users.router(
                config.prefix,
                accounts if self._sessions is not None else None,
                grants,
                self._sessions,
                gate=gate,
                trail=trail,
                own_issuer=lambda: self._journal.own_issuer,
            ),
        )

    @property
    def lag(self) -> float | None:
        """The seconds for which the database was not asked what was revoked; None: it was not read yet."""
        return None if self._caught_up is None else time.monotonic() - self._caught_up

    def observe_database(self, observe: Callable[[str, float], None]) -> None:
        """Tell how long each use of the database takes: `read` or `write`, and seconds."""
        self._database.observe = observe

    def apply(self, auth: AuthConfig) -> None:
        """Sign with another secret from now on, or for another time, or not any more."""
        issuer, sessions = issuer_of(auth), self._sessions
        self._journal.own_issuer = _own_issuer(auth)
        self._open = auth.revocation.on_failure == "open"
        self._set_known(known=self._known)
        self._while_users = auth.issues_while_users
        self._grants.grace = auth.tokens.refresh_grace
        self._grants.expires = auth.tokens.refresh_expires
        if not auth.verifies:
            log.warning("reload: nothing is left to verify tokens with: who needs one gets 503")
        if sessions is None:
            if issuer is not None:
                log.warning("reload: auth.tokens.enabled takes effect with the next start")
            return
        if issuer is None and sessions.issuer is not None:
            log.warning("reload: no more tokens are given out: auth.tokens.enabled, or no secret")
        elif issuer is not None and sessions.issuer is None:
            log.warning("reload: tokens are given out again")
        sessions.issuer = issuer

    def _set_known(self, *, known: bool) -> None:
        self._known = known
        self.revocations.set_known(known=known or self._open)

    def missing(self) -> str | None:
        """Say what is being waited for, as long as it is not known which tokens were taken back."""
        if self._following is not None and self._following.done():
            return (
                "the database that says which tokens were taken back: no gateway reads it any more"
            )
        return None if self._known else "the database that says which tokens were taken back"

    def start(self, facts: Facts) -> None:
        """Begin to follow what other workers take back. Needs a running loop."""
        if self._following is None:
            self._facts = facts
            self._set_known(
                known=False
            )  # also at a second start: other workers may have revoked meanwhile
            facts.hear(_TOPIC, self._hear)
            self._ended, self._news = asyncio.Event(), asyncio.Event()
            self._following = spawn_forever(self._follow(self._ended, self._news))

    def _announce(self) -> None:
        if self._facts is not None:
            self._facts.tell(_TOPIC, {})

    def _hear(self, _message: Message) -> None:
        """Read what was written, whatever was told: also that something was missed."""
        self._news.set()

    async def close(self) -> None:
        """Follow it no longer; close the database."""
        following, self._following = self._following, None
        if following is not None:
            self._ended.set()
            self._news.set()
            # A question under way is let end: one that is cancelled leaves a thread of the driver's behind.
            _, late = await asyncio.wait({following}, timeout=_LET_GO)
            for task in late:
                task.cancel()
                await asyncio.wait({task}, timeout=_LET_GO)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LET_GO):
                await self._database.close()

    async def _follow(self, ended: asyncio.Event, news: asyncio.Event) -> None:
        """Catch up again and again, until it is to end.

        Not merely until it is cancelled: that may come out of the driver as an error of the database, and then
        nothing would ever end this, nor the process that waits for it.
        """
        away = False
        while not ended.is_set():
            news.clear()
            try:
                await self._journal.catch_up()
                await self._look_for_users()
                await self._pruning.prune()
            except ServiceUnavailable as error:
                if not away and not ended.is_set():  # once an outage; what is known stays in force
                    log.warning("revoked tokens cannot be read: %s", error.reason or error)
                away = True
            else:
                if away:
                    log.warning("revoked tokens can be read again")
                away = False
                self._caught_up = time.monotonic()
                if not self._known:
                    self._set_known(known=True)
            await asyncio.sleep(_BREATH)
            await _pause(news)

    async def _look_for_users(self) -> None:
        """Turn the token endpoint on with the first user, and off with the last. Raises ServiceUnavailable.

        `propylon user add` tells no worker of it, and it may run on another machine: so every worker looks.
        """
        on = await self._users.exist() if self._while_users else True
        if on != self.on:
            self.on = on
            self._on_users(on)


async def _pause(news: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_CATCH_UP):
            await news.wait()


def issuer_of(auth: AuthConfig) -> Issuer | None:
    """Return what signs tokens; None where there is nothing to sign with, or it is not wanted."""
    secret = auth.jwt.signing_secret
    if not auth.issues or secret is None:
        return None
    return Issuer(
        secret=secret,
        algorithm=auth.jwt.algorithms[0],
        expires=auth.tokens.expires,
        clock=time.time,
        ids=lambda: secrets.token_hex(_ID_BYTES),
        issuer=_own_issuer(auth) or None,
        audience=auth.jwt.audience[:1],
        scopes_claim=_claim("scopes", auth.jwt.scopes_claim),
        roles_claim=_claim("roles", auth.jwt.roles_claim),
        subject_claim=_claim("sub", auth.jwt.subject_claim),
        kind=auth.jwt.require_typ or "JWT",
    )


def _own_issuer(auth: AuthConfig) -> str:
    """Return the issuer that our own tokens name; empty if they name none."""
    return auth.jwt.issuer[0] if auth.jwt.secret is not None and auth.jwt.issuer else ""


def _claim(usual: str, read: tuple[str, ...]) -> str:
    """Return a claim that we read ourselves, the usual one if it is among them."""
    return usual if usual in read or not read else read[0]
