"""The same file in nginx itself and in the gateway: the same requests get the same, or the report had said so.

Where nginx is not installed, this is skipped.
"""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from propylon.commands.imports.command import translate
from propylon.commands.imports.source import Source
from tests.imports.beside import Servers, ask, ours
from tests.imports.driving import gateway_of
from tests.support.gateway import free_port
from tests.support.waiting import wait

CONF = """\
daemon off; master_process off; pid @folder@/pid; error_log stderr crit;
events { worker_connections 64; }
http {
    access_log off;
    client_body_temp_path @folder@/body; proxy_temp_path @folder@/proxy;
    fastcgi_temp_path @folder@/f; uwsgi_temp_path @folder@/u; scgi_temp_path @folder@/s;
    upstream app { server 127.0.0.1:@app@; }
    upstream reports { server 127.0.0.1:@reports@; }
    server {
        listen 127.0.0.1:@port@;
        server_name shop.example.com;
        location / { proxy_set_header Host $host; proxy_set_header X-Edge nginx; proxy_pass http://app; }
        location /reports/ { proxy_pass http://reports/; }
        location /v1/ { proxy_pass http://reports/v2/; }
        location = /exact { proxy_pass http://reports/other; }
        location ~ ^/users/[^/]+/secret$ { deny all; proxy_pass http://app; }
        location /only/ { allow 10.0.0.0/8; deny all; proxy_pass http://app; }
        location /mine/ { allow 127.0.0.1; deny all; proxy_pass http://app; }
        location /gone { return 410; }
        location /old/ { return 301 https://new.example.com/; }
        location /rewritten/ { rewrite ^/rewritten/(.*)$ /to/$1 break; proxy_pass http://app; }
    }
}
"""
SHOP = {"Host": "shop.example.com"}
REQUESTS = [
    ("GET", path)
    for path in (
        "/", "/a/b?c=d", "/reports/", "/reports/x/y?z=1", "/v1/orders/7", "/exact", "/exact?x=1", "/exact/x",
        "/users/7/secret", "/users/7", "/only/x", "/mine/x", "/gone", "/gone/x", "/old/x", "/rewritten/x?y=1",
    )
] + [("POST", "/reports/x"), ("DELETE", "/a")]  # fmt: skip
# What the report says is not the same.
DIFFERENT = {"/gonex": "whole segments", "/reports": "is taken, too"}


@contextmanager
def running_nginx(folder: Path, text: str, port: int) -> Iterator[None]:
    """Run nginx itself with a file."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        pytest.skip("nginx is not installed")
    file = folder / "nginx.conf"
    file.write_text(text)
    process = subprocess.Popen(
        [program, "-p", str(folder), "-c", str(file)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait(lambda: _ready(port))
        yield
    finally:
        process.kill()
        process.wait()


def _ready(port: int) -> bool:
    try:
        return ask(port, "GET", "/", SHOP)[0] == 200
    except OSError:
        return False


def test_the_same_requests_get_the_same(tmp_path: Path) -> None:
    """Statuses, paths, hosts and headers; or the report had said so."""
    servers, port = Servers(), free_port()
    folder = tmp_path / "nginx"
    folder.mkdir()
    text = CONF.replace("@folder@", str(folder)).replace("@port@", str(port))
    for name in ("app", "reports"):
        text = text.replace(f"@{name}@", str(servers.port(name)))
    found = translate("nginx", [Source("nginx.conf", text)])
    try:
        with running_nginx(folder, text, port), gateway_of(found.text, tmp_path) as gateway:
            for method, path in REQUESTS:
                there = ask(port, method, path, SHOP)
                assert (path, ours(gateway, method, path, SHOP)) == (path, there)
            said = [one.text for one in found.report.findings]
            for path, words in DIFFERENT.items():
                assert ask(port, "GET", path, SHOP) != ours(gateway, "GET", path, SHOP), path
                assert any(words in text for text in said)
    finally:
        servers.stop()
