"""Where Redis is: the section `redis`, its URL in all forms, and the variables that say it."""

from pathlib import Path

import pytest

from propylon.config.models.redis_url import RedisUrl, parse_redis_url
from propylon.config.reading.load import load
from tests.config.texts import doubts, loaded, problems

URLS = {
    "redis://r": RedisUrl("server", (("r", 6379),)),
    "redis://R.Example:7000/3": RedisUrl("server", (("r.example", 7000),), database=3),
    "redis://r/?db=4": RedisUrl("server", (("r", 6379),), database=4),
    "redis://[::1]:6380": RedisUrl("server", (("::1", 6380),)),
    "redis://:p%40ss@r": RedisUrl("server", (("r", 6379),), password="p@ss"),
    "redis://ann:p:w@r": RedisUrl("server", (("r", 6379),), user="ann", password="p:w"),
    "rediss://r": RedisUrl("server", (("r", 6379),), tls=True),
    "rediss://r?ssl_cert_reqs=none&ssl_check_hostname=False": RedisUrl(
        "server", (("r", 6379),), tls=True, verify=False, check_hostname=False
    ),
    "rediss://r?ssl_ca_certs=/ca.pem&ssl_certfile=/c.pem&ssl_keyfile=/k.pem": RedisUrl(
        "server", (("r", 6379),), tls=True, ca="/ca.pem", certificate="/c.pem", key="/k.pem"
    ),
    "unix:///run/redis.sock": RedisUrl("socket", socket="/run/redis.sock"),
    "unix://ann:pw@/run/redis.sock?db=2": RedisUrl(
        "socket", socket="/run/redis.sock", user="ann", password="pw", database=2
    ),
    "redis+sentinel://u:p@a,b:26380/1?master=main": RedisUrl(
        "sentinel",
        (("a", 26379), ("b", 26380)),
        user="u",
        password="p",
        database=1,
        master="main",
    ),
    "rediss+sentinel://a?master=m&sentinel_username=s&sentinel_password=q": RedisUrl(
        "sentinel",
        (("a", 26379),),
        tls=True,
        master="m",
        sentinel_user="s",
        sentinel_password="q",
    ),
    "redis+cluster://a:7001,b:7002": RedisUrl("cluster", (("a", 7001), ("b", 7002))),
    "rediss+cluster://a/0": RedisUrl("cluster", (("a", 6379),), tls=True),
}


@pytest.mark.parametrize("text", URLS)
def test_every_form_of_the_url(text: str) -> None:
    """Each form names its hosts, its login and its database."""
    assert parse_redis_url(text) == URLS[text]


WRONG = {
    "http://r": "must be a URL such as redis://host:6379/0",
    "r:6379": "must be a URL such as",
    "redis://": "has a host that is none",
    "redis://r:0": "has a host that is none",
    "redis://r:70000": "has a host that is none",
    "redis://:s3cret/x@r": "has a host that is none",
    "redis://:s3#cret@r": "must be a URL such as",
    "redis://a b": "must be a URL such as",
    "redis://a,b": "names several hosts; write redis+sentinel:// or redis+cluster://",
    "redis://r/x": "must end in the number of a database",
    "redis://r/1?db=1": "names the database twice",
    "redis://r?socket_timeout=3": "has an unknown or repeated parameter after the ?; known for this kind of URL: db",
    "redis://r?db=1&db=2": "has an unknown or repeated parameter",
    "redis://r?ssl_cert_reqs=none": "has an unknown or repeated parameter",
    "rediss://r?ssl_cert_reqs=optional": "must have ssl_cert_reqs=required",
    "rediss://r?ssl_check_hostname=2": "must have ssl_check_hostname=true",
    "unix://r/run/redis.sock": "must name the file of the socket after three slashes",
    "unix:///": "must name the file of the socket after three slashes",
    "redis+sentinel://a": "must say which master the Sentinels watch: ?master=NAME",
    "redis+sentinel://a,?master=m": "has a host that is none",
    "redis+cluster://a/1": "must not name a database: a Cluster has only number 0",
    "redis+cluster://a?db=0": "has an unknown or repeated parameter after the ?; known for this kind of URL: none",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_url_that_cannot_be_read(text: str) -> None:
    """The operator gets the line and what to write, and no part of the URL: it may be a piece of the password."""
    (problem,) = problems(f"redis: '{text}'")
    assert problem.startswith(f"propylon.yaml:1 redis.url: {WRONG[text]}")
    assert "cret" not in problem.replace("secret", "")


def test_short_and_long_form() -> None:
    """`redis: URL` is short for `redis: {url: URL}`."""
    short = loaded("redis: redis://r/1").config.redis
    assert short == loaded("redis: {url: redis://r/1}").config.redis
    assert short.address == RedisUrl("server", (("r", 6379),), database=1)
    assert (short.namespace, short.timeout) == ("propylon", 0.05)


def test_login_beside_the_url() -> None:
    """A user and a password of their own keys win over those in the URL, and are shown nowhere."""
    found = loaded("redis: {url: redis://a:b@r, user: ann, password: s3cret, timeout: 1s}").config
    assert found.redis.address == RedisUrl("server", (("r", 6379),), user="ann", password="s3cret")
    assert "s3cret" not in repr(found)
    assert "s3cret" not in repr(found.redis.address)


@pytest.mark.parametrize("written", ["${REDIS_URL:-}", "", "''", "' '", "~", "{}"])
def test_no_redis_is_the_machine_alone(written: str) -> None:
    """The line of the starter file asks for nothing as long as the variable is not set."""
    found = loaded(f"redis: {written}")
    assert (doubts(found), found.config.redis.address) == ([], None)


def test_variables_say_where_it_is() -> None:
    """REDIS_URL wins over REDIS_HOST, and the long name over both; without a file, too."""
    for environ, host in (
        ({"REDIS_HOST": "h"}, ("h", 6379)),
        ({"REDIS_HOST": "h", "REDIS_PORT": "7000"}, ("h", 7000)),
        ({"REDIS_HOST": "::1", "REDIS_PORT": "7000"}, ("::1", 7000)),
        ({"REDIS_HOST": "h", "REDIS_URL": "redis://u"}, ("u", 6379)),
        ({"REDIS_URL": "redis://u", "PROPYLON_REDIS__URL": "redis://p"}, ("p", 6379)),
    ):
        address = load(None, environ).config.redis.address
        assert address is not None
        assert address.hosts == (host,)
    address = loaded("redis: redis://file", {"REDIS_URL": "redis://u"}).config.redis.address
    assert address == RedisUrl("server", (("u", 6379),))


def test_what_kubernetes_sets_is_no_port() -> None:
    """Beside a service called redis, every pod has REDIS_PORT=tcp://…, which no operator wrote."""
    kubernetes = {"REDIS_PORT": "tcp://10.0.0.1:6379", "REDIS_PASSWORD": "for another program"}
    assert load(None, kubernetes).config.redis.address is None
    address = load(None, {**kubernetes, "REDIS_HOST": "h"}).config.redis.address
    assert address is not None
    assert (address.hosts, address.password) == ((("h", 6379),), "for another program")


def test_secrets_from_files() -> None:
    """The URL and the password may stand in files that variables name."""
    Path("url").write_text("redis://:s3cret@r\n")
    Path("password").write_text("s3cret\n")
    expected = RedisUrl("server", (("r", 6379),), password="s3cret")
    for text, environ in (
        ("", {"REDIS_URL_FILE": "url"}),
        ("", {"PROPYLON_REDIS__URL_FILE": "url"}),
        ("redis: ${MY_URL}", {"MY_URL_FILE": "url"}),
        ("redis: redis://r", {"PROPYLON_REDIS__PASSWORD_FILE": "password"}),
        ("redis: {url: redis://r, password: '${P}'}", {"P_FILE": "password"}),
        ("", {"REDIS_HOST": "r", "REDIS_PASSWORD_FILE": "password"}),
    ):
        assert loaded(text, environ).config.redis.address == expected


PROBLEMS = {
    "redis: 5": "redis: must be a mapping of keys to values, not a number",
    "redis: {urll: redis://r}": 'redis.urll: unknown key; did you mean "url"?',
    "redis: {password: s3cret}": "redis.password: needs url beside it",
    "redis: {url: redis://r, namespace: 'a{b}'}": "redis.namespace: must be 1 to 64 of A-Z a-z 0-9 _ . : / -",
    "redis: {url: redis://r, namespace: ''}": "redis.namespace: must be 1 to 64 of",
    "redis: {url: redis://r, timeout: 1ms}": "redis.timeout: must be at least 0.005 s",
    "redis: {url: redis://r, timeout: 1m}": "redis.timeout: must be at most 5 s",
}


@pytest.mark.parametrize("text", PROBLEMS)
def test_a_section_that_cannot_be_used(text: str) -> None:
    """Each mistake is said with its line."""
    (problem,) = problems(text)
    assert problem.startswith(f"propylon.yaml:1 {PROBLEMS[text]}")
