"""Keep accounts, and give tokens to who knows the password: `uvicorn services.users:app --port 8001`.

`python -m services.users EMAIL ROLE ...` gives an account other roles, such as admin.
"""

import hashlib
import hmac
import secrets
import sqlite3
import sys
import time
from typing import Annotated, Any

import jwt
from fastapi import FastAPI, Header, HTTPException
from pydantic import BaseModel, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.store import Store

__all__ = ["app"]

ACCESS = 15 * 60  # seconds that an access token is valid
REFRESH = 30 * 86400  # seconds that a refresh token is valid

store = Store(
    "users",
    """
    CREATE TABLE IF NOT EXISTS accounts (
        id INTEGER PRIMARY KEY, email TEXT NOT NULL UNIQUE COLLATE NOCASE,
        salt BLOB NOT NULL, password BLOB NOT NULL, roles TEXT NOT NULL DEFAULT 'user'
    );
    CREATE TABLE IF NOT EXISTS refresh_tokens (
        digest BLOB PRIMARY KEY, expires REAL NOT NULL,
        account INTEGER NOT NULL REFERENCES accounts ON DELETE CASCADE
    );
    """,
)
app = FastAPI(title="Users service")


class Settings(BaseSettings):
    """The variables of the service."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore")

    JWT_SECRET_KEY: str = ""


class Credentials(BaseModel):
    """Who logs in."""

    email: str = Field(pattern=r"^[^@\s]+@[^@\s]+$", max_length=254)
    password: str = Field(min_length=8, max_length=256)


class Refresh(BaseModel):
    """A refresh token."""

    refresh_token: str


class Account(BaseModel):
    """What everybody may know of an account."""

    id: int
    email: str
    roles: list[str]


class Tokens(BaseModel):
    """The tokens of a login."""

    access_token: str
    refresh_token: str
    token_type: str = "bearer"  # noqa: S105 — the type of a token, RFC 6750
    expires_in: int = ACCESS


Caller = Annotated[int, Header(alias="X-User-Id", description="Set by the gateway.")]


def _digest(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1)


def _account(row: sqlite3.Row) -> Account:
    return Account(id=row["id"], email=row["email"], roles=row["roles"].split())


def _tokens(database: sqlite3.Connection, account: Account) -> Tokens:
    key = Settings().JWT_SECRET_KEY
    if not key:
        raise HTTPException(503, "JWT_SECRET_KEY is not set")
    now = time.time()
    claims: dict[str, Any] = {
        "sub": str(account.id),
        "email": account.email,
        "roles": account.roles,
        "iat": int(now),
        "exp": int(now) + ACCESS,
        "jti": secrets.token_hex(8),
    }
    refresh = secrets.token_urlsafe(32)
    database.execute(
        "INSERT INTO refresh_tokens VALUES (?, ?, ?)",
        (hashlib.sha256(refresh.encode()).digest(), now + REFRESH, account.id),
    )
    return Tokens(access_token=jwt.encode(claims, key, "HS256"), refresh_token=refresh)


@app.post("/signup", status_code=201)
def signup(new: Credentials) -> Account:
    """Make an account. Its password is kept as a salted hash."""
    salt = secrets.token_bytes(16)
    with store.open() as database:
        try:
            row = database.execute(
                "INSERT INTO accounts (email, salt, password) VALUES (?, ?, ?) RETURNING *",
                (new.email, salt, _digest(new.password, salt)),
            ).fetchone()
        except sqlite3.IntegrityError as error:
            raise HTTPException(409, "This email address has an account already") from error
    return _account(row)


@app.post("/login")
def login(who: Credentials) -> Tokens:
    """Give tokens for a password."""
    with store.open() as database:
        row = database.execute("SELECT * FROM accounts WHERE email = ?", (who.email,)).fetchone()
        # An unknown address costs a hash, too: else the time would tell which addresses have accounts.
        digest = _digest(who.password, row["salt"] if row else bytes(16))
        if row is None or not hmac.compare_digest(digest, row["password"]):
            raise HTTPException(401, "Wrong email address or password")
        return _tokens(database, _account(row))


@app.post("/refresh")
def refresh(sent: Refresh) -> Tokens:
    """Give new tokens for a refresh token, which is used up by it."""
    digest = hashlib.sha256(sent.refresh_token.encode()).digest()
    with store.open() as database:
        row = database.execute(
            "DELETE FROM refresh_tokens WHERE digest = ? AND expires > ? RETURNING account",
            (digest, time.time()),
        ).fetchone()
        if row is None:
            raise HTTPException(401, "The refresh token is unknown, used or expired")
        found = database.execute("SELECT * FROM accounts WHERE id = ?", (row[0],)).fetchone()
        return _tokens(database, _account(found))


@app.post("/logout", status_code=204)
def logout(caller: Caller) -> None:
    """End all logins of the caller."""
    with store.open() as database:
        database.execute("DELETE FROM refresh_tokens WHERE account = ?", (caller,))


@app.get("/me")
def me(caller: Caller) -> Account:
    """Return the account of the caller."""
    with store.open() as database:
        row = database.execute("SELECT * FROM accounts WHERE id = ?", (caller,)).fetchone()
    if row is None:
        raise HTTPException(404, "No such account")
    return _account(row)


@app.get("/all")
def everybody() -> list[Account]:
    """List all accounts. The gateway lets only administrators get here."""
    with store.open() as database:
        rows = database.execute("SELECT * FROM accounts ORDER BY id").fetchall()
    return [_account(row) for row in rows]


@app.delete("/me", status_code=204)
def leave(caller: Caller) -> None:
    """Delete the account of the caller."""
    with store.open() as database:
        database.execute("DELETE FROM accounts WHERE id = ?", (caller,))


@app.get("/health")
def health() -> dict[str, str]:
    """Tell whether the database can be read."""
    with store.open() as database:
        database.execute("SELECT count(*) FROM accounts")
    return {"status": "healthy"}


def give_roles(email: str, *roles: str) -> bool:
    """Give an account these roles; return whether there is such an account."""
    with store.open() as database:
        changed = database.execute(
            "UPDATE accounts SET roles = ? WHERE email = ?", (" ".join(roles), email)
        )
        return changed.rowcount == 1


if __name__ == "__main__":
    sys.exit(0 if give_roles(*sys.argv[1:]) else "There is no such account")
