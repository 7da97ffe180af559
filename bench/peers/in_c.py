"""The gateways written in C: nginx and HAProxy."""

from peers.base import PREFIXES, Peer, Site, user_directive


class Nginx(Peer):
    # auth_jwt is a module of the commercial NGINX Plus.
    name = "nginx"
    program = "nginx"
    source = "apt-get install nginx"

    def command(self, site: Site) -> list[str]:
        config = site.directory / "nginx.conf"
        config.write_text(self.config(site))
        return [self.path(), "-p", str(site.directory), "-e", "stderr", "-c", str(config)]

    def config(self, site: Site) -> str:
        locations = "\n".join(f"location {p}/ {{ proxy_pass http://up; }}" for p in PREFIXES)
        temporary = "\n".join(
            f"{kind}_temp_path {site.directory}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        return f"""
daemon off;
worker_processes 1;
{user_directive()}
pid {site.directory}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
  {temporary}
  log_format record escape=json '{{"time":"$time_iso8601","request_id":"$rid",'
    '"client_ip":"$remote_addr","method":"$request_method","host":"$host","path":"$uri",'
    '"status":$status,"bytes_in":$request_length,"bytes_out":$body_bytes_sent,'
    '"duration_s":$request_time,"upstream_s":"$upstream_response_time"}}';
  access_log {site.access_log} record buffer=64k flush=1s;
  map $http_x_request_id $rid {{ "" $request_id; default $http_x_request_id; }}
  keepalive_requests 1000000000;
  upstream up {{
    server 127.0.0.1:{site.upstream_port};
    keepalive 256;
    keepalive_requests 1000000000;
  }}
  limit_req_zone $binary_remote_addr zone=callers:10m rate=1000000r/s;
  server {{
    listen 127.0.0.1:{site.port} backlog=4096;
    limit_req zone=callers burst=1000000 nodelay;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header X-Request-ID $rid;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header X-Forwarded-Proto $scheme;
    add_header X-Request-ID $rid;
    {locations}
  }}
  server {{
    listen 127.0.0.1:{site.admin_port};
    access_log off;
    location /status {{ stub_status; }}
  }}
}}
"""


class HAProxy(Peer):
    name = "HAProxy"
    program = "haproxy"
    source = "apt-get install haproxy"
    logs_to_stdout = True
    checks_tokens = True

    def command(self, site: Site) -> list[str]:
        config = site.directory / "haproxy.cfg"
        config.write_text(self.config(site))
        return [self.path(), "-db", "-f", str(config)]

    def config(self, site: Site) -> str:
        rules = "\n".join(f"  use_backend up if {{ path_beg {p}/ }}" for p in PREFIXES)
        return f"""
global
  nbthread 1
  maxconn 4096
  log stdout len 4096 format raw local0 info
defaults
  mode http
  log global
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  unique-id-format %[uuid()]
frontend edge
  bind 127.0.0.1:{site.port} backlog 4096
  unique-id-header X-Request-ID
  option forwardfor
  http-request set-header X-Forwarded-Proto http
  http-response set-header X-Request-ID %[unique-id]
{token_rules(site)}
  http-request track-sc0 src table callers
  http-request deny deny_status 429 if {{ sc_http_req_rate(0,callers) gt 100000000 }}
  log-format '{{"time":"%tr","request_id":"%ID","client_ip":"%ci","method":"%HM",\
"path":"%HP","status":%ST,"bytes_in":%U,"bytes_out":%B,"duration_ms":%Ta,"upstream_ms":%Tr,\
"route":"%b","instance":"%s","flags":"%ts"}}'
{rules}
backend callers
  stick-table type ipv6 size 100k expire 60s store http_req_rate(10s)
backend up
  http-reuse always
  server up 127.0.0.1:{site.upstream_port} pool-max-conn 256 check observe layer7 error-limit 50 on-error mark-down
frontend metrics
  bind 127.0.0.1:{site.admin_port}
  no log
  http-request use-service prometheus-exporter if {{ path /metrics }}
"""


def token_rules(site: Site) -> str:
    """As the manual's jwt_verify has it; a token without `exp` is refused, as elsewhere."""
    if site.secret is None:
        return ""
    return f"""  http-request set-var(txn.token) http_auth_bearer
  http-request set-var(txn.alg) var(txn.token),jwt_header_query('$.alg')
  http-request set-var(txn.exp) var(txn.token),jwt_payload_query('$.exp','int')
  http-request set-var(txn.now) date()
  http-request deny deny_status 401 unless {{ var(txn.alg) -m str HS256 }}
  http-request deny deny_status 401 unless {{ var(txn.token),jwt_verify(txn.alg,"{site.secret}") 1 }}
  http-request deny deny_status 401 unless {{ var(txn.exp),sub(txn.now) -m int gt 0 }}"""
