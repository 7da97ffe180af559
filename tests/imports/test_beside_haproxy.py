"""The same file in HAProxy itself and in the gateway: the same requests get the same, or the report had said so.

Where HAProxy is not installed, this is skipped.
"""

import shutil
import subprocess
from pathlib import Path

import pytest

from propylon.commands.imports.command import translate
from propylon.commands.imports.source import Source
from tests.imports.beside import Servers, ask, ours
from tests.imports.driving import gateway_of
from tests.support.gateway import free_port
from tests.support.waiting import wait

CFG = r"""
global
    nbthread 1
defaults
    mode http
    timeout connect 3s
    timeout client 30s
    timeout server 30s
frontend web
    bind 127.0.0.1:@port@
    acl is_shop hdr(host) -i shop.example.com
    http-request deny if { path_beg /admin/ } !{ src 10.0.0.0/8 }
    http-request deny deny_status 404 if { path /secret }
    http-request set-header X-Edge haproxy
    http-request redirect location https://new.example.com/ code 301 if { path_beg /old/ }
    use_backend reports if { path_beg /reports/ } is_shop
    use_backend posts if METH_POST { path_beg /things/ } is_shop
    default_backend app
backend app
    server one 127.0.0.1:@app@
backend reports
    http-request replace-path ^/reports/(.*)$ /\1
    server one 127.0.0.1:@reports@
backend posts
    server one 127.0.0.1:@posts@
"""
SHOP, OTHER = {"Host": "shop.example.com"}, {"Host": "other.example.com"}
REQUESTS = [
    *(("GET", path, SHOP) for path in ("/", "/a/b?c=d", "/reports/", "/reports/x/y?z=1", "/admin/x", "/secret", "/secret/x", "/old/x")),
    ("POST", "/things/7", SHOP), ("GET", "/reports/x", OTHER), ("GET", "/admin/x", OTHER), ("DELETE", "/a", OTHER),
]  # fmt: skip


def _ready(port: int) -> bool:
    try:
        return ask(port, "GET", "/", SHOP)[0] == 200
    except OSError:
        return False


def test_the_same_requests_get_the_same(tmp_path: Path) -> None:
    """Statuses, paths, hosts and headers; or the report had said so."""
    program = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
    if program is None:
        pytest.skip("HAProxy is not installed")
    servers, port = Servers(), free_port()
    text = CFG.replace("@port@", str(port))
    for name in ("app", "reports", "posts"):
        text = text.replace(f"@{name}@", str(servers.port(name)))
    file = tmp_path / "haproxy.cfg"
    file.write_text(text)
    found = translate("haproxy", [Source("haproxy.cfg", text)])
    process = subprocess.Popen(
        [program, "-db", "-f", str(file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait(lambda: _ready(port))
        with gateway_of(found.text, tmp_path) as gateway:
            for method, path, headers in REQUESTS:
                there = ask(port, method, path, headers)
                assert (path, ours(gateway, method, path, headers)) == (path, there)
            # Not the same, and said: a path with routes for some methods is 405 for others.
            assert ask(port, "GET", "/reports", SHOP) != ours(gateway, "GET", "/reports", SHOP)
            assert any("/reports itself" in one.text for one in found.report.findings)
    finally:
        process.kill()
        process.wait()
        servers.stop()
