"""No message, no representation and no dump of a configuration holds a secret."""

import traceback
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from propylon.config.models.schema import GatewayConfig, JwtConfig
from propylon.config.reading.credentials import weakness
from propylon.config.reading.environment import settings
from propylon.config.reading.problems import ConfigError
from tests.config.texts import SECRET, loaded

HIDDEN = "H1dden-" + SECRET
SHORT = "H1dden"
DATABASE = f"postgresql://gateway:{HIDDEN}@db/gateway"


def said_of(text: str, environ: dict[str, str]) -> Iterator[str]:
    """Yield all that is said of a configuration, be it good or bad."""
    try:
        read = loaded(text, environ)
    except ConfigError as error:
        yield from (str(error), repr(error), repr(error.problems))
        yield "".join(traceback.format_exception(error))
    else:
        yield from (repr(read), str(read.config), repr(read.warnings), str(asdict(read)["places"]))
        yield from (read.config.model_dump_json(), str(read.config.model_dump()))
        yield str(read.config.model_dump(mode="json"))


def test_a_good_configuration_keeps_its_secrets() -> None:
    """Whoever prints it, dumps it or logs its doubts sees stars; whoever asks for one gets it."""
    text = f"""\
auth:
  jwt: {{secret: {HIDDEN}}}
  introspection: {{url: 'http://id.example', client_id: me, client_secret: {HIDDEN}}}
  tokens: {{database: '{DATABASE}'}}
"""
    for said in said_of(text, {}):
        assert SHORT not in said
    auth = loaded(text).config.auth
    assert auth.jwt.signing_secret == HIDDEN.encode()
    assert auth.introspection.client_secret is not None
    assert auth.introspection.client_secret.get_secret_value() == HIDDEN
    assert auth.tokens.database.get_secret_value() == DATABASE


BAD = [
    # Of a wrong kind, in a wrong place, with a wrong neighbour.
    f"auth: {{jwt: {{secret: [{HIDDEN}]}}}}",
    f"auth: {{jwt: {{secret: {{{HIDDEN}: x}}}}}}",
    f"auth: {{jwt: {{secert: {HIDDEN}}}}}",
    f"auth: {{jwt: {HIDDEN}}}",
    f"auth: {HIDDEN}",
    f"auth: {{jwt: {{secret: {HIDDEN}, jwks_url: https://id.example, algorithms: [RS256]}}}}",
    f"auth: {{jwt: {{secret: {HIDDEN}, algorithms: [{HIDDEN}]}}}}",
    f"auth: {{jwt: {{public_key: {HIDDEN}}}}}",
    f"auth: {{jwt: {{public_key: '-----BEGIN PRIVATE KEY-----{HIDDEN}'}}}}",
    f"auth: {{jwt: {{jwks_url: 'https://me:{HIDDEN}@id.example'}}}}",
    f"auth: {{jwt: {{jwks_url: {HIDDEN}}}}}",
    f"auth: {{introspection: {{url: 'https://me:{HIDDEN}@id.example', client_secret: {HIDDEN}}}}}",
    f"auth: {{tokens: {{database: 'mysql://me:{HIDDEN}@db/x'}}}}",
    f"auth: {{tokens: {{database: 'postgres://me:{HIDDEN}@db/x'}}}}",
    # Short, published, tagged, aliased, badly quoted, or with half a variable.
    f"auth: {{jwt: {{secret: {SHORT}}}}}",
    f"auth: {{jwt: {{secret: 'change-me {HIDDEN}'}}}}",
    f"debug: true\nauth: {{jwt: {{secret: {SHORT}}}}}",
    f"auth:\n  jwt:\n    secret: !{HIDDEN} x",
    f"auth:\n  jwt:\n    secret: *{HIDDEN}",
    f"auth:\n  jwt:\n    secret: {HIDDEN}: {HIDDEN}",
    f"auth:\n  jwt:\n    secret: '{HIDDEN}",
    f"auth:\n  jwt:\n    secret: @{HIDDEN}",
    f"auth:\n  jwt:\n    secret: {HIDDEN}${{",
    f"auth:\n  jwt:\n    secret: {HIDDEN}\n    secret: {HIDDEN}",
]


@pytest.mark.parametrize("text", BAD)
def test_a_bad_configuration_keeps_its_secrets(text: str) -> None:
    """Whatever is wrong around a secret, what is said does not hold it."""
    for said in said_of(text, {}):
        assert said
        assert SHORT not in said


@pytest.mark.parametrize(
    "name", ["SECRET_KEY", "JWT_SECRET_KEY", "PROPYLON_AUTH__JWT__SECRET", "PROPYLON_AUTH__JWT"]
)
@pytest.mark.parametrize("value", [SHORT, f"change-me {HIDDEN}", f"[{HIDDEN}", f"{{a: {SHORT}}}"])
def test_a_variable_keeps_its_secret(name: str, value: str) -> None:
    """The variable is named, and what it holds is not."""
    (setting,) = settings({name: value})
    assert SHORT not in repr(setting)
    for said in said_of("", {name: value}):
        assert SHORT not in said


def test_a_model_made_by_hand_keeps_its_secrets() -> None:
    """Pydantic's own message would hold what was wrong."""
    with pytest.raises(ValidationError) as caught:
        JwtConfig.model_validate({"secret": [HIDDEN], "jwks_url": HIDDEN})
    assert SHORT not in str(caught.value)
    assert SHORT not in repr(caught.value)
    with pytest.raises(ValidationError) as caught:
        GatewayConfig.model_validate({"auth": {"jwt": {"secret": 5, "public_key": HIDDEN}}})
    assert SHORT not in str(caught.value)


@given(secret=st.text(min_size=1, max_size=80))
def test_why_a_secret_is_weak_does_not_tell_it(secret: str) -> None:
    """The sentence is the same for every secret of its length."""
    hidden = secret + "\N{SNOWMAN}"
    assert "\N{SNOWMAN}" not in weakness(hidden, ["HS512"])


def test_a_key_file_keeps_what_is_in_it(directory: Path) -> None:
    """Whatever file is named by mistake, nothing of it is repeated."""
    (directory / "id.pem").write_text(f"-----BEGIN {HIDDEN}-----\n{HIDDEN}\n")
    for said in said_of("auth: {jwt: {public_key: id.pem}}", {}):
        assert SHORT not in said
