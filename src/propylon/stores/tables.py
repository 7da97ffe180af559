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

__all__ = [
    "METADATA",
    "access_tokens",
    "causes",
    "families",
    "refresh_tokens",
    "revocations",
    "schema",
    "users",
]

METADATA = MetaData()
# `since` is the addition with which a table or a column came (see `schema`); what has none was there from the start.
# An added column may be null or has a default of the server, so that the release before can still write rows.
_FIRST = {"since": 1}
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
    Column("address", String(64), nullable=True, info=_FIRST),  # where the login came from
    Column("renewed", Double, nullable=True, info=_FIRST),  # when it was last refreshed
)

# Tokens of a family beside the newest, which is in the family's own row: those that were used within the grace, and
# those that another answer in the grace has overtaken. An older release does not look here, and accepts the newest only.
refresh_tokens = Table(
    "refresh_tokens",
    METADATA,
    Column("digest", String(64), primary_key=True),
    Column("family", String(32), nullable=False, index=True),
    Column("used", Double, nullable=True),  # null: not used yet
    Column("expires", Double, nullable=False, index=True),
    info=_FIRST,
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

# Revocations of single tokens that follow from one of many (see `MemoryRevocations.covered`): who takes that one back
# takes them back, too.
causes = Table(
    "revocation_causes",
    METADATA,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("cause", BigInteger, nullable=False, index=True),
    Column("until", Double, nullable=False, index=True),
    info=_FIRST,
)

# One row: what has to be known to read this database. A release reads no database of a higher `version`. `additions`
# counts what only added tables and columns: a database with more of them is read all the same.
schema = Table(
    "propylon_schema",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
    Column("additions", Integer, nullable=False),
    info=_FIRST,
)
