"""Define the tables of the SQL database. Pure."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

__all__ = ["METADATA", "access_tokens", "families", "revocations", "users"]

METADATA = MetaData()
# Times are seconds since 1970, as in tokens. Lists of scopes and roles are one text, joined by spaces: neither may
# contain a space.

users = Table(
    "users",
    METADATA,
    Column("folded", String(512), primary_key=True),  # the name for look-ups: NFKC, case folded
    Column("username", String(128), nullable=False),  # the name as the user writes it
    Column("email", String(254), nullable=False),
    Column("full_name", String(256), nullable=False),
    Column("password_hash", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("roles", Text, nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("created", Double, nullable=False),
)

# A family of refresh tokens: all that descend from one login, one after the other. Only the newest is valid, and
# only its SHA-256 is stored, so that a stolen database yields no tokens. A family that ended is deleted.
families = Table(
    "refresh_families",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("subject", String(512), nullable=False, index=True),
    Column(
        "scopes", Text, nullable=False
    ),  # granted at login; a refresh never grants more (RFC 6749, 6)
    Column("digest", String(64), nullable=False),
    Column("begun", Double, nullable=False),
    Column("expires", Double, nullable=False, index=True),
)

# The unexpired access tokens of each family, which are revoked when it ends.
access_tokens = Table(
    "access_tokens",
    METADATA,
    Column("id", String(256), primary_key=True),  # its `jti`
    Column("family", String(32), nullable=False, index=True),
    Column("expires", Double, nullable=False, index=True),
)

# A journal: workers add rows and read on from the last id that they know. AUTOINCREMENT, because SQLite would
# otherwise give the id of a pruned row to the next one, and the workers would not see that one.
revocations = Table(
    "revocations",
    METADATA,
    Column(
        "id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True
    ),
    Column("kind", String(16), nullable=False),
    Column("value", String(512), nullable=False),
    Column("moment", Double, nullable=False),
    Column("until", Double, nullable=False, index=True),
    sqlite_autoincrement=True,
)
