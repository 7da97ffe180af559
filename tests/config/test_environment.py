"""The plain names of the environment that speak of tokens and origins."""

from pathlib import Path

import pytest

from propylon.config.reading.load import Loaded, load
from propylon.config.reading.problems import ConfigError
from tests.config.texts import SECRET, doubts, loaded, problems

OTHER = SECRET[::-1]


def secret_of(read: Loaded) -> str | None:
    """Return the secret that was understood."""
    secret = read.config.auth.jwt.signing_secret
    return None if secret is None else secret.decode()


def test_the_specific_name_wins() -> None:
    """JWT_SECRET_KEY over SECRET_KEY over the file, wherever either stands, and an empty one is none."""
    text = f"auth: {{jwt: {{secret: {OTHER}x}}}}"
    assert secret_of(loaded(text, {"SECRET_KEY": SECRET})) == SECRET
    assert secret_of(loaded(text, {"SECRET_KEY": OTHER, "JWT_SECRET_KEY": SECRET})) == SECRET
    assert secret_of(loaded(text, {"SECRET_KEY": OTHER, "JWT_SECRET_KEY": ""})) == OTHER
    assert secret_of(loaded(text, {"SECRET_KEY": "", "JWT_SECRET_KEY": ""})) == OTHER + "x"
    environ = {"JWT_SECRET_KEY": OTHER, "PROPYLON_AUTH__JWT__SECRET": SECRET}
    assert secret_of(loaded(text, environ)) == SECRET


def test_the_specific_name_wins_from_a_file_of_variables(directory: Path) -> None:
    """A SECRET_KEY of the process is for another program where .env has a JWT_SECRET_KEY."""
    (directory / ".env").write_text(f"JWT_SECRET_KEY={SECRET}\n")
    assert secret_of(load(None, {"SECRET_KEY": OTHER})) == SECRET
    assert secret_of(load(None, {"JWT_SECRET_KEY": OTHER})) == OTHER


@pytest.mark.parametrize("name", ["SECRET_KEY", "JWT_SECRET_KEY"])
def test_a_secret_is_for_another_program_where_there_is_a_public_key(name: str) -> None:
    """Whoever verifies with published keys may have such a variable, and it is not looked at."""
    text = "auth: {jwt: {jwks_url: 'https://id.example/keys'}}"
    assert secret_of(loaded(text, {name: "changeme"})) is None
    environ = {name: "changeme", "PROPYLON_AUTH__JWT__JWKS_URL": "https://id.example/keys"}
    assert secret_of(loaded("", environ)) is None
    empty = "auth: {jwt: {jwks_url: '${KEYS:-}'}}"
    assert secret_of(loaded(empty, {name: SECRET})) == SECRET


def test_two_keys_that_are_written_are_a_problem_all_the_same() -> None:
    """Only the plain names give way."""
    text = "auth: {jwt: {jwks_url: 'https://id.example/keys'}}"
    (problem,) = problems(text, {"PROPYLON_AUTH__JWT__SECRET": SECRET})
    assert problem.startswith("propylon.yaml:1 auth.jwt.jwks_url: only one of")


def test_minutes() -> None:
    """ACCESS_TOKEN_EXPIRE_MINUTES counts minutes."""
    assert loaded("", {"ACCESS_TOKEN_EXPIRE_MINUTES": "45"}).config.auth.tokens.expires == 2700.0
    (problem,) = problems("", {"ACCESS_TOKEN_EXPIRE_MINUTES": "soon"})
    assert problem.startswith("ACCESS_TOKEN_EXPIRE_MINUTES auth.tokens.expires: must be a duration")


@pytest.mark.parametrize(
    "written",
    [
        "https://a.example,http://localhost:3000",
        " https://a.example , http://localhost:3000, ",
        '["https://a.example", "http://localhost:3000"]',
    ],
)
def test_origins_are_separated_by_commas_or_a_list(written: str) -> None:
    """CORS_ORIGINS is read as people write it."""
    origins = loaded("", {"CORS_ORIGINS": written}).config.cors.origins
    assert origins == ("https://a.example", "http://localhost:3000")


def test_origins_that_are_none() -> None:
    """What is wrong in CORS_ORIGINS is said of it, and an empty one says nothing."""
    (problem,) = problems("", {"CORS_ORIGINS": "https://a.example,b.example"})
    assert problem.startswith("CORS_ORIGINS cors.origins[1]: must be an origin")
    assert loaded("cors: {origins: '*'}", {"CORS_ORIGINS": ""}).config.cors.origins == ("*",)


def test_what_kubernetes_sets_is_no_doubt() -> None:
    """Beside a service called redis there is a REDIS_PORT, which nobody wrote."""
    environ = {"REDIS_PORT": "tcp://10.0.0.1:6379", "REDIS_SERVICE_HOST": "10.0.0.1"}
    assert doubts(load(None, environ)) == []


def test_a_problem_names_the_variable_that_its_value_came_from(tmp_path: Path) -> None:
    """The file is right then, and the variable has to be changed; a default is the file's own."""
    file = tmp_path / "propylon.yaml"
    file.write_text('services:\n  a: {url: "${A_URL:-nothing}"}\n  b: {url: "${B_URL:-nothing}"}\n')
    with pytest.raises(ConfigError) as refused:
        load(file, {"A_URL": "a:8000"})
    assert str(refused.value).replace(str(file), "") == (
        ":2 services.a.url: must be a URL that starts with http:// or https:// (the value is that of A_URL)\n"
        ":3 services.b.url: must be a URL that starts with http:// or https://"
    )
