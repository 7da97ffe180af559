"""The keys about listeners and certificates: what is accepted, and what is refused with which words."""

import pytest

from propylon.config.models.listeners import Descriptor, Systemd, Tcp, UnixPath, parse_address
from propylon.config.reading.problems import ConfigError
from tests.config.texts import loaded

NO_FILES = "tls: {certificate: a.pem, key: a.key}"


def problems(text: str, environ: dict[str, str] | None = None, **overrides: object) -> list[str]:
    """What is wrong with a file, without the file's name."""
    try:
        loaded(text, environ or {}, **overrides)
    except ConfigError as error:
        return [str(problem).removeprefix("propylon.yaml:") for problem in error.problems]
    return []


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("127.0.0.1:8000", Tcp("127.0.0.1", 8000)),
        ("[::]:443", Tcp("::", 443)),
        ("[::1]:0", Tcp("::1", 0)),
        ("LOCALHOST:80", Tcp("localhost", 80)),
        ("unix:/run/p.sock", UnixPath("/run/p.sock")),
        ("fd:3", Descriptor(3)),
        ("systemd", Systemd()),
    ],
)
def test_addresses(text: str, parsed: object) -> None:
    """Each form of an address, and that it is written back as it was read."""
    assert parse_address(text) == parsed
    assert parse_address(str(parsed)) == parsed


def test_a_list_of_listeners() -> None:
    """An address alone, or a mapping with options; keys of the list count, and not those of host and port."""
    listen = "[127.0.0.1:80, {address: '[::]:443', tls: true}, {address: 'unix:/a', mode: 666}]"
    config = loaded(f"server: {{listen: {listen}}}\n{NO_FILES}", {}).config
    assert config.server.listen is not None
    first, second, third = config.server.listen
    assert (first.address, first.tls, first.proxy_protocol, first.redirect) == (
        "127.0.0.1:80",
        None,
        False,
        None,
    )
    assert (second.parsed, second.tls) == (Tcp("::", 443), True)
    assert third.mode == "666"
    assert config.server.ports == {80, 443}


def test_from_the_environment() -> None:
    """The variable holds the list."""
    environ = {"PROPYLON_SERVER__LISTEN": "['127.0.0.1:80', 'unix:/run/p.sock']"}
    listen = loaded("{}", environ).config.server.listen
    assert listen is not None
    assert [one.address for one in listen] == ["127.0.0.1:80", "unix:/run/p.sock"]


FORMS = "write 127.0.0.1:8000, [::]:443, unix:/run/propylon.sock, fd:3 or systemd"
ITEM = "1 server.listen[0]: "
ONE_PROBLEM = {
    "server: {listen: []}": "1 server.listen: is empty; leave the key out to listen at host and port",
    "server: {listen: 127.0.0.1:80}": "1 server.listen: must be a list, not text; put it in [ ]",
    "server: {listen: [8000]}": f'{ITEM}"8000" is no address to listen on: {FORMS}',
    "server: {listen: ['8000']}": f'{ITEM}"8000" is no address to listen on: {FORMS}',
    "server: {listen: [':8000']}": f'{ITEM}":8000" is no address to listen on: {FORMS}',
    "server: {listen: ['::1:80']}": f'{ITEM}"::1:80" is no address to listen on: {FORMS}',
    "server: {listen: ['a b:80']}": f'{ITEM}"a b" is no host name',
    "server: {listen: ['[::g]:80']}": f'{ITEM}"[::g]" is no IPv6 address',
    "server: {listen: ['a:65536']}": f'{ITEM}"65536" is no port: a number from 0 to 65535',
    "server: {listen: ['fd:2']}": f'{ITEM}"fd:2" must name an inherited socket by its number, from'
    " fd:3 on",
    "server: {listen: ['fd:x']}": f'{ITEM}"fd:x" must name an inherited socket by its number, from'
    " fd:3 on",
    "server: {listen: ['unix:p.sock']}": f'{ITEM}"unix:p.sock" needs the absolute path of a socket,'
    " such as unix:/run/propylon.sock",
    f"server: {{listen: ['unix:/{'x' * 103}']}}": f"{ITEM}the path of a Unix socket has at most 103"
    " bytes; write a shorter one",
    "server: {listen: [{tls: false}]}": "1 server.listen[0].address: is missing",
    "server: {listen: [{address: 'a:x'}]}": '1 server.listen[0].address: "x" is no port: a number'
    " from 0 to 65535",
    "server: {listen: [{address: 'a:1', tsl: true}]}": "1 server.listen[0].tsl: unknown key; did you"
    ' mean "tls"?',
    "server: {listen: [{address: 'a:1', redirect: http}]}": "1 server.listen[0].redirect: must be one"
    ' of https; did you mean "https"?',
    "server: {listen: [{address: 'a:1', mode: '0660'}]}": "1 server.listen[0].mode: is for Unix"
    " sockets only",
    "server: {listen: [{address: 'unix:/a', mode: 999}]}": "1 server.listen[0].mode: must be an octal"
    " mode, such as 0660",
    "server: {listen: ['a:1', 'a:1']}": "1 server.listen[1]: a:1 stands twice",
    "server: {listen: [systemd, 'fd:3']}": "1 server.listen[1]: fd:3 may be one of those of systemd;"
    " write either",
    "server: {listen: ['a:1'], port: 80}": "1 server.port: server.listen replaces host and port: leave"
    " one of them out (port is set)",
    "server: {listen: ['a:1'], host: b}": "1 server.host: server.listen replaces host and port: leave"
    " one of them out (host is set)",
    "server: {listen: [{address: 'a:1', tls: true}]}": "1 server.listen[0].tls: needs a certificate:"
    " set tls.certificate and tls.key",
    f"server: {{listen: ['a:1']}}\n{NO_FILES}": "1 server.listen: no listener says whether it uses the"
    " certificate of tls; write {address: ..., tls: true}, or tls: false",
    "server: {listen: [{address: 'a:1', proxy_protocol: true}]}": "1 server.listen[0].proxy_protocol:"
    " no peer is trusted to send the header; write the proxies' networks into server.trusted_proxies",
    "server: {listen: [{address: 'unix:/a', proxy_protocol: true}], trusted_proxies: [10.0.0.1]}": (
        "1 server.listen[0].proxy_protocol: no peer is trusted to send the header; write unix into"
        " server.trusted_proxies"
    ),
    "server: {listen: ['127.0.0.1:80']}\nadmin: {listen: '127.0.0.1:80'}": "2 admin.listen:"
    " 127.0.0.1:80 is where the gateway listens already (server.listen); write another port",
    "server: {listen: ['[::]:80']}\nmetrics: {listen: '127.0.0.1:80'}": "2 metrics.listen:"
    " 127.0.0.1:80 is where the gateway listens already (server.listen); write another port",
    "tls: {certificate: a}": "1 tls.key: certificate and key go together: key is missing",
    "tls: {certificates: [{certificate: a}]}": "1 tls.certificates[0].key: is missing",
    "tls: {min_version: 1.1}": "1 tls.min_version: TLS 1.1 is broken, and not spoken (RFC 8996);"
    " write 1.2 or 1.3",
    "tls: {ciphers: NOTHING}": "1 tls.ciphers: names no cipher that OpenSSL knows; `openssl ciphers`"
    " lists them",
    "tls: {clients: {ca: a}}": "1 tls.clients: needs a certificate of the gateway's own: set"
    " certificate and key",
    f"{NO_FILES[:-1]}, clients: {{}}}}": "1 tls.clients.ca: is missing",
    "server: {trusted_proxies: [unix:/a]}": '1 server.trusted_proxies[0]: "unix:/a" is no network:'
    " write 10.0.0.0/8, or one address",
}


@pytest.mark.parametrize("text", ONE_PROBLEM)
def test_one_problem(text: str) -> None:
    """Each mistake is one problem, with its place and what to write instead."""
    assert problems(text) == [ONE_PROBLEM[text]]


def test_a_redirect_has_no_tls() -> None:
    """A listener that redirects to https is for clients without it."""
    entry = "{address: 'a:1', tls: true, redirect: https}"
    text = f"server: {{listen: [{entry}]}}\n{NO_FILES}"
    said = "1 server.listen[0].redirect: is for clients without TLS; leave out `tls: true`"
    assert problems(text) == [said]


def test_a_port_from_elsewhere_beside_the_list() -> None:
    """A variable of the gateway's own and --port are named as what they are."""
    text = "server: {listen: ['127.0.0.1:80']}"
    said = " server.port: server.listen replaces host and port: leave one of them out (port is set)"
    name = "PROPYLON_SERVER__PORT"
    assert problems(text, {name: "81"}) == [f"{name}{said}"]
    assert problems(text, {}, **{"server.port": 81}) == [f"command line{said}"]


def test_the_list_may_name_the_port_of_the_platform() -> None:
    """PORT is set by the platform in any case: the list may use it, and need not."""
    config = loaded("server: {listen: ['0.0.0.0:${PORT}']}", {"PORT": "81"}).config
    assert config.server.ports == {81}
    environ = {"PORT": "81", "PROPYLON_SERVER__LISTEN": "['127.0.0.1:82']"}
    assert loaded("{}", environ).config.server.ports == {82}
    assert loaded("{}", {"PORT": "81"}).config.server.ports == {81}


@pytest.mark.parametrize(
    "listen",
    [
        "[{address: 'a:1', tls: true}, 'b:2']",
        "[{address: 'a:1', tls: false}]",
        "[{address: 'a:1', redirect: https}, {address: 'a:2', tls: true}]",
        "[{address: '127.0.0.1:0', tls: true}, '127.0.0.1:0']",
        "['0.0.0.0:80', {address: '[::]:80', tls: true}]",
    ],
)
def test_what_goes_together(listen: str) -> None:
    """Listeners with and without TLS side by side, once one of them says so."""
    assert problems(f"server: {{listen: {listen}}}\n{NO_FILES}") == []


def test_the_sections_defaults() -> None:
    """Versions, and what is asked of clients, where nothing is written."""
    config = loaded(f"{NO_FILES[:-1]}, clients: {{ca: b}}}}", {}).config
    assert config.tls.min_version == "1.2"
    assert config.tls.ciphers is None
    assert config.tls.clients is not None
    assert config.tls.clients.required
    assert [pair.key for pair in config.tls.pairs] == ["a.key"]


def test_unix_peers_may_be_trusted() -> None:
    """`unix` stands among the networks, also as nginx writes it."""
    config = loaded("server: {trusted_proxies: [unix, 'unix:', 10.0.0.0/8]}", {}).config
    assert config.server.trusted_proxies == ("unix", "unix", "10.0.0.0/8")
