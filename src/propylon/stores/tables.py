"""Lay out what is kept in SQL. Pure."""

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
# All times are seconds since 1970, as in tokens. Lists are kept as texts, joined by spaces: neither a scope
# nor a role has one in it.

users = Table(
    "users",
    METADATA,
    Column("folded", String(512), primary_key=True),  # what a name is looked up by
    Column("username", String(128), nullable=False),  # as it was written
    Column("email", String(254), nullable=False),
    Column("full_name", String(256), nullable=False),
    Column("password_hash", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("roles", Text, nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("created", Double, nullable=False),
)

# A login, and all refresh tokens that came of it one after the other. Only the newest is good, and of that one
# only the SHA-256 is kept. A family that ended is deleted.
families = Table(
    "refresh_families",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("subject", String(512), nullable=False, index=True),
    Column("scopes", Text, nullable=False),  # what was granted; a refresh never gets more
    Column("digest", String(64), nullable=False),
    Column("begun", Double, nullable=False),
    Column("expires", Double, nullable=False, index=True),
)

# The access tokens of a family that may still be good: they end with it.
access_tokens = Table(
    "access_tokens",
    METADATA,
    Column("id", String(256), primary_key=True),  # its `jti`
    Column("family", String(32), nullable=False, index=True),
    Column("expires", Double, nullable=False, index=True),
)

# A journal: rows are added, and leave when they make no difference any more. AUTOINCREMENT, because SQLite
# would give the number of a row that left to the next one, and whoever reads from the last number on would
# miss it.
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
