"""What may be written of who runs the gateway: `admin`, `docs`, `metrics`, `registry.allow`, `log.audit`."""

from pathlib import Path

import pytest

from tests.config.texts import loaded, problems

EMPTY = "is empty; leave the key out for all addresses, or list networks: [10.0.0.0/8]"
PORTS = "is no port: write one from 1 to 65535, or a range such as 8000-8099"


def test_what_holds_where_nothing_is_written() -> None:
    """The scope admin, from anywhere, on the public listener; documents for all; this machine's metrics."""
    config = loaded("{}").config
    assert (config.admin.scope, config.admin.role, config.admin.issuer) == ("admin", None, None)
    assert (config.admin.allow, config.admin.listen, config.metrics.listen) == (None, None, None)
    assert (config.docs.access, config.metrics.allow) == ("public", None)
    assert set(config.admin.scopes.model_dump().values()) == {None}


def test_a_key_without_a_value_is_not_written() -> None:
    """As everywhere in the file, and as the design has it."""
    config = loaded("admin: {scope: admin, role: , issuer: , allow: , listen: }").config
    assert config.admin == loaded("{}").config.admin


def test_everything_can_be_written() -> None:
    """Each key, in each form."""
    config = loaded(
        "admin: {scope: root, role: operator, issuer: 'https://id.example', allow: 10.0.0.0/8,"
        " listen: '[::1]:8001', scopes: {registry: a, tokens: b, introspect: c, metrics: d, cache: f, explain: g}}\n"
        "metrics: {allow: [10.0.0.0/8, '::1'], listen: 'LOCALHOST:9100'}\n"
    ).config
    assert config.admin.allow == ("10.0.0.0/8",)
    assert config.admin.listen == "[::1]:8001"
    assert config.metrics.listen == "localhost:9100"
    assert config.metrics.allow == ("10.0.0.0/8", "::1/128")


@pytest.mark.parametrize(
    ("written", "access"),
    [
        ("off", "off"),
        ("false", "off"),
        ("'off'", "off"),
        ("true", "public"),
        ("admin", "admin"),
        ("public", "public"),
        ("{access: off}", "off"),
        ("{access: 'off'}", "off"),
        ("{access: admin}", "admin"),
        ("{}", "public"),
    ],
)
def test_documents_for_short(written: str, access: str) -> None:
    """YAML 1.1 reads `off` as false: both are understood."""
    assert loaded(f"docs: {written}").config.docs.access == access


def test_from_the_environment() -> None:
    """Each key has its variable."""
    environ = {"PROPYLON_ADMIN__LISTEN": "127.0.0.1:8001", "PROPYLON_DOCS__ACCESS": "off"}
    config = loaded("{}", environ).config
    assert (config.admin.listen, config.docs.access) == ("127.0.0.1:8001", "off")


ONE_PROBLEM = {
    "admin: {allow: []}": f"admin.allow: {EMPTY}",
    "admin: {allow: ''}": f"admin.allow: {EMPTY}",
    "metrics: {allow: []}": f"metrics.allow: {EMPTY}",
    "admin: {allow: [10.0.0.1/8]}": 'admin.allow[0]: "10.0.0.1/8" has bits set beyond its prefix;'
    " did you mean 10.0.0.0/8?",
    "admin: {allow: [a.example]}": 'admin.allow[0]: "a.example" is no network: write 10.0.0.0/8, or'
    " one address",
    "admin: {scope: 'a b'}": "admin.scope: must be one scope for each item: write [a, b]",
    "admin: {role: 'a,b'}": "admin.role: must be the name of a role, without a comma, control"
    " characters or space at an end",
    "admin: {issuer: ''}": "admin.issuer: must not be empty",
    "admin: {listen: 127.0.0.1}": 'admin.listen: "127.0.0.1" must be a host and a port, such as'
    " 127.0.0.1:8001",
    "admin: {listen: ':8001'}": 'admin.listen: ":8001" must be a host and a port, such as'
    " 127.0.0.1:8001",
    "admin: {listen: '127.0.0.1:0'}": 'admin.listen: "0" is no port: a number from 1 to 65535',
    "admin: {listen: 'a b:80'}": 'admin.listen: "a b" is no host name',
    "admin: {listen: 8001}": "admin.listen: must be text, not a number; put it in quotes",
    "admin: {listen: '127.0.0.1:8000'}": "admin.listen: 127.0.0.1:8000 is where the gateway listens"
    " already (server.port); write another port",
    "metrics: {listen: '0.0.0.0:8000'}": "metrics.listen: 0.0.0.0:8000 is where the gateway listens"
    " already (server.port); write another port",
    "admin: {scopes: {registry: ''}}": "admin.scopes.registry: must be a scope of visible ASCII"
    " characters, without a space, a comma, a quote, a backslash",
    "admin: {scopes: {regsitry: a}}": 'admin.scopes.regsitry: unknown key; did you mean "registry"?',
    "docs: none": "docs.access: must be one of public, admin, off",
    "docs: {filter: admin}": "docs.filter: must be one of none, caller",
    "registry: {allow: ['10.0.0.0/8:0']}": f'registry.allow[0]: "0" {PORTS}',
    "registry: {allow: ['10.0.0.0/8:9-8']}": f'registry.allow[0]: "9-8" {PORTS}',
    "registry: {allow: ['a.example:']}": f'registry.allow[0]: "" {PORTS}',
    "registry: {allow: ['*:http']}": f'registry.allow[0]: "http" {PORTS}',
    "registry: {allow: {orders: ['10.0.0.0/8:70000']}}": 'registry.allow.orders[0]: "70000" '
    + PORTS,
    "registry: {allow: {orders: 10.0.0.0/8}}": "registry.allow.orders: must be a list, not text;"
    " put it in [ ]",
    "registry: {allow: {'': [10.0.0.0/8]}}": "registry.allow: must be a list for all services, or a"
    " mapping of services to lists",
    "registry: {allow: {'a b': ['*']}}": "registry.allow.a b: must be a name of letters, digits, and"
    " any of . _ - after the first",
    "registry: {allow: ['169.254.0.0/16:80']}": "registry.allow[0]: 169.254.0.0/16 is link-local, and"
    " such addresses are never registered",
    "log: {audit: {file: nowhere/audit.log}}": "log.audit.file: there is no directory nowhere; make"
    " it, or write another path",
    "log: {audit: {file: .}}": "log.audit.file: . is a directory; write the path of a file in it,"
    " such as ./propylon.log",
    "log: {audit: {key: short}}": "log.audit.key: must have at least 16 characters; make one: openssl"
    " rand -hex 32",
}


@pytest.mark.parametrize(("text", "expected"), ONE_PROBLEM.items())
def test_each_problem_says_what_to_write(text: str, expected: str) -> None:
    """One mistake is one problem, at its key."""
    assert problems(text) == [f"propylon.yaml:1 {expected}"]


def test_a_listener_beside_another_port() -> None:
    """The address of the public listener counts as it is written, also in the environment."""
    text = "server: {host: 0.0.0.0, port: 9000}\nadmin: {listen: '127.0.0.1:8000'}"
    assert loaded(text).config.admin.listen == "127.0.0.1:8000"
    taken = text.replace("8000", "9000")
    assert problems(taken)[0].startswith("propylon.yaml:2 admin.listen: 127.0.0.1:9000 is where")


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("10.0.0.0/8:8000-8099", "10.0.0.0/8:8000-8099"),
        ("10.0.0.7:80", "10.0.0.7/32:80"),
        ("*.Internal:8000", "*.internal:8000"),
        ("[fd00::/8]:8000", "[fd00::/8]:8000"),
        ("fd00::/8:8000", "[fd00::/8]:8000"),
        ("[fd00::1]:80-80", "[fd00::1/128]:80"),
        ("fd00::1:80", "fd00::1:80/128"),
        ("fd00::/8", "fd00::/8"),
    ],
)
def test_ports_of_a_rule(written: str, kept: str) -> None:
    """They stand behind a network, an address in brackets, or a host; `fd00::1:80` is an address."""
    assert loaded(f"registry: {{allow: ['{written}']}}").config.registry.allow == {"": (kept,)}
    by_service = loaded(f"registry: {{allow: {{orders: ['{written}']}}}}").config.registry.allow
    assert by_service == {"orders": (kept,)}


def test_the_audit_log_goes_to_a_file(tmp_path: Path) -> None:
    """In a directory that exists."""
    text = f"log: {{audit: {{file: {tmp_path}/audit.log, key: {'k' * 16}}}}}"
    assert loaded(text).config.log.audit.file == f"{tmp_path}/audit.log"
