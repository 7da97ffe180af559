"""Which URLs of databases are taken, and what becomes of their parameters."""

import re

import pytest
from sqlalchemy.engine import make_url

from propylon.stores.urls import CannotUseDatabase, read_url

HOST = "postgresql://ann:s3cret@host/name"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://ann:s3cret@host:word/name", "the port in the URL of the database is no number"),
        ("postgresql://ann:s3cret@host:0/name", "the port in the URL of the database is no number"),
        ("postgresql://ann:s3cret@host:65536/name", "the port in the URL of the database is no number"),
        (f"{HOST}?port=word", 'the parameter "port" is "word"; write a whole number'),
        (f"{HOST}?port=70000", "is no number from 1 to 65535"),
        (f"{HOST}?sslmode=yes", 'the parameter "sslmode" is "yes"; write one of disable, allow, prefer, require'),
        (f"{HOST}?ssl=true", 'the parameter "ssl" is "true"; write one of disable'),
        (f"{HOST}?keepalives=1", 'the parameter "keepalives" cannot be passed to PostgreSQL; known are application_name'),
        (f"{HOST}?nonsense=1", 'the parameter "nonsense" cannot be passed'),
        (f"{HOST}?connect_timeout=soon", 'the parameter "connect_timeout" is "soon"; write a whole number'),
        (f"{HOST}?sslmode=require&sslmode=disable", 'the parameter "sslmode" stands twice'),
        (f"{HOST}?target_session_attrs=writable", 'the parameter "target_session_attrs" is "writable"'),
        ("sqlite:///a.db?mode=ro", 'the parameter "mode" is not known for SQLite'),
    ],
)  # fmt: skip
def test_what_cannot_be_used(url: str, said: str) -> None:
    """It is refused by name before anything is connected; the message shows no password."""
    with pytest.raises(CannotUseDatabase, match=re.escape(said)) as caught:
        read_url(url)
    assert "s3cret" not in str(caught.value)


def test_what_the_driver_gets() -> None:
    """A DSN with the parameters of libpq; the numbers as arguments of its own."""
    query = "ssl=verify-full&sslrootcert=%2Fca.pem&application_name=a%20b&connect_timeout=3"
    found = read_url(f"postgresql+asyncpg://ann:s3%40cret@host:5433/name?{query}")
    dsn = make_url(str(found.arguments["dsn"]))
    assert (dsn.drivername, dsn.host, dsn.port, dsn.password) == (
        "postgresql", "host", 5433, "s3@cret",
    )  # fmt: skip
    assert dict(dsn.query) == {
        "sslmode": "verify-full",
        "sslrootcert": "/ca.pem",
        "application_name": "a b",
    }
    assert found.arguments["timeout"] == 3
    assert found.name == (
        "postgresql://ann:***@host:5433/name"
        "?application_name=a+b&sslmode=verify-full&sslrootcert=%2Fca.pem"
    )
    assert found.url.render_as_string() == "postgresql+asyncpg://"


def test_passwords_stay_out_of_names() -> None:
    """Those in parameters as well."""
    found = read_url(f"{HOST}?sslpassword=hidden&password=hidden")
    assert found.name == "postgresql://ann:***@host/name"


def test_parameters_of_sqlite() -> None:
    """Those that change nothing are dropped."""
    assert read_url("sqlite:////a.db?timeout=20").name == "/a.db"
