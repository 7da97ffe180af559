"""Secrets in files: `X_FILE` names the file with what the variable `X` would hold."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from propylon.config.reading.load import load
from tests.config.texts import SECRET, doubts, loaded, problems

OTHER = SECRET[::-1]
NAMES = ["JWT_SECRET_KEY_FILE", "SECRET_KEY_FILE", "PROPYLON_AUTH__JWT__SECRET_FILE"]
WRAPPED = (
    "this file holds {} lines: several secrets, or one that was wrapped; write each secret whole on a line of its own,"
    " strong enough by itself"
)
INTROSPECTION = "auth: {introspection: {url: 'https://id', client_id: a, client_secret: '${S}'}}"


def file(content: str | bytes) -> str:
    """Write a file, and return its path."""
    Path("secret").write_bytes(content if isinstance(content, bytes) else content.encode())
    return "secret"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_secret_from_a_file(name: str, end: str) -> None:
    """The text of the file is the secret, without the one line end that an editor writes at its end."""
    found = load(None, {name: file(f"[{SECRET},{end}")})
    assert found.config.auth.jwt.secret == (SecretStr(f"[{SECRET},"),)
    assert doubts(found) == []


@pytest.mark.parametrize("end", [" ", "\t\n", " \n"])
def test_other_white_space_is_doubted(end: str) -> None:
    """It is part of the secret, and the operator is told."""
    found = load(None, {"JWT_SECRET_KEY_FILE": file(SECRET + end)})
    assert found.config.auth.jwt.signing_secret == (SECRET + end.removesuffix("\n")).encode()
    (said,) = doubts(found)
    assert said.startswith("JWT_SECRET_KEY_FILE auth.jwt.secret: begins or ends with white space")


@pytest.mark.parametrize("name", NAMES)
def test_several_secrets_one_a_line(name: str) -> None:
    """The first one signs, all verify."""
    found = load(None, {name: file(f"{SECRET}\r\n{OTHER}\n")})
    assert found.config.auth.jwt.secret == (SecretStr(SECRET), SecretStr(OTHER))


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (f"{SECRET[:40]}\n{SECRET[40:]}\n", 2),
        (f"{SECRET}\n\n", 2),
        (f"{SECRET}\n\n{OTHER}\n", 3),
        (f"\n{SECRET}\n", 2),
        (f"{SECRET}\n{'ab' * 30}", 2),
    ],
)
def test_a_secret_that_was_wrapped(content: str, lines: int) -> None:
    """A line that would be no secret by itself stops the start, in debug, too."""
    environ = {"JWT_SECRET_KEY_FILE": file(content)}
    expected = [f"JWT_SECRET_KEY_FILE auth.jwt.secret: {WRAPPED.format(lines)}"]
    assert problems("", environ) == expected
    assert problems("debug: true", environ) == expected


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "it is empty"),
        ("\n", "it is empty"),
        (b"\xff\xfe" * 20, "it is not UTF-8"),
        ("x" * 65537, "it is larger than 64 KiB"),
        (None, "no such file or directory"),
    ],
)
def test_files_of_no_use(content: str | bytes | None, reason: str) -> None:
    """A file that cannot be read is a problem of its variable, also where another key has a secret."""
    path = "missing" if content is None else file(content)
    expected = [f"JWT_SECRET_KEY_FILE auth.jwt.secret: the file cannot be used: {reason}"]
    assert problems("", {"JWT_SECRET_KEY_FILE": path}) == expected
    assert problems(f"auth: {{jwt: {{secret: {SECRET}}}}}", {"JWT_SECRET_KEY_FILE": path}) == (
        expected
    )


def test_a_directory_is_no_file() -> None:
    """Nor is a device: to read it might never end."""
    for path in (".", "/dev/zero"):
        (problem,) = problems("", {"JWT_SECRET_KEY_FILE": path})
        assert problem.endswith("the file cannot be used: it is not a file")


@pytest.mark.parametrize("name", [name.removesuffix("_FILE") for name in NAMES])
def test_a_variable_and_its_file_together(directory: Path, name: str) -> None:
    """One of them is out of date, so the start is refused, wherever each is set; an empty one is not set."""
    environ = {name: SECRET, f"{name}_FILE": file(SECRET)}
    (problem,) = problems("", environ)
    assert f"auth.jwt.secret: {name} and {name}_FILE are both set; unset one of them" in problem
    assert load(None, {**environ, name: ""}).config.auth.jwt.signing_secret == SECRET.encode()
    assert load(None, {**environ, f"{name}_FILE": ""}).config.auth.jwt.secret is not None
    (directory / ".env").write_text(f"{name}={SECRET}\n")
    (problem,) = problems("", {f"{name}_FILE": "secret"})
    assert "are both set" in problem


def test_the_specific_name_wins_as_a_file() -> None:
    """SECRET_KEY is for another program where JWT_SECRET_KEY_FILE is set, and neither is read beside a public key."""
    environ = {"SECRET_KEY": "changeme", "JWT_SECRET_KEY_FILE": file(SECRET)}
    assert load(None, environ).config.auth.jwt.signing_secret == SECRET.encode()
    keys = "auth: {jwt: {jwks_url: 'https://id.example/keys'}}"
    assert loaded(keys, {"JWT_SECRET_KEY_FILE": "missing"}).config.auth.jwt.secret is None


@pytest.mark.parametrize("name", ["S", "PROPYLON_AUTH__INTROSPECTION__CLIENT_SECRET"])
def test_other_secrets_from_files(name: str) -> None:
    """Every variable that holds a secret may name a file: also one that the configuration refers to."""
    text = INTROSPECTION if name == "S" else INTROSPECTION.replace("'${S}'", "")
    found = loaded(text, {f"{name}_FILE": file("hidden\n")}).config.auth.introspection
    assert found.client_secret == SecretStr("hidden")
    (problem,) = problems(text, {f"{name}_FILE": file("two\nlines\n")})
    assert "holds 2 lines; write one" in problem
    (problem,) = problems(text, {f"{name}_FILE": file("hidden"), name: "x"})
    assert f"{name} and {name}_FILE are both set" in problem
    (problem,) = problems(text, {f"{name}_FILE": "missing"})
    assert "cannot be used: no such file" in problem


def test_a_configuration_that_is_json() -> None:
    """It is read by another reader, and references to files mean the same."""
    text = '{"auth": {"jwt": {"secret": "${S}"}}}'
    assert loaded(text, {"S_FILE": file(SECRET)}).config.auth.jwt.signing_secret == SECRET.encode()
    (problem,) = problems(text, {"S_FILE": file(SECRET), "S": SECRET})
    assert "S and S_FILE are both set" in problem


def test_the_database_from_a_file() -> None:
    """Its address may have a password in it."""
    url = "postgresql://u:p@host/name"
    environ = {"PROPYLON_AUTH__TOKENS__DATABASE_FILE": file(url + "\n")}
    assert load(None, environ).config.auth.tokens.database == SecretStr(url)


def test_only_what_is_secret_is_read_from_a_file() -> None:
    """Variables that end in _FILE are mostly for other programs."""
    (problem,) = problems("prefix: ${S}", {"S_FILE": file("/api\n")})
    assert problem.endswith("the environment variable S is not set and has no default")
    assert doubts(loaded("", {"SSL_CERT_FILE": "/etc/ssl/cert.pem", "PORT_FILE": "x"})) == []


def test_no_message_has_a_secret() -> None:
    """Whatever is wrong with the file, its text is in no message."""
    for content in (f"{SECRET}\nhalf", SECRET.encode() + b"\xff", "ab" * 20):
        for problem in problems("", {"JWT_SECRET_KEY_FILE": file(content)}):
            assert SECRET[:8] not in problem
            assert "abab" not in problem
