"""Know which directives are in effect at a place: those of the innermost block that has any of a kind."""

from __future__ import annotations

from dataclasses import dataclass

from propylon.commands.imports.nginx.syntax import Directive

__all__ = ["HARMLESS", "Scope"]

# What changes no answer, or is Propylon's own way: logs, buffers, connections, certificates of the listener.
HARMLESS = frozenset(
    [
        "access_log",
        "error_log",
        "log_not_found",
        "log_subrequest",
        "log_format",
        "error_page",
        "open_file_cache",
        "open_file_cache_valid",
        "open_file_cache_errors",
        "open_file_cache_min_uses",
        "sendfile",
        "sendfile_max_chunk",
        "tcp_nopush",
        "tcp_nodelay",
        "aio",
        "directio",
        "keepalive_timeout",
        "keepalive_requests",
        "keepalive_time",
        "reset_timedout_connection",
        "server_tokens",
        "types",
        "types_hash_max_size",
        "types_hash_bucket_size",
        "default_type",
        "charset",
        "server_names_hash_bucket_size",
        "server_names_hash_max_size",
        "variables_hash_max_size",
        "variables_hash_bucket_size",
        "map_hash_bucket_size",
        "map_hash_max_size",
        "proxy_http_version",
        "proxy_buffering",
        "proxy_buffers",
        "proxy_buffer_size",
        "proxy_busy_buffers_size",
        "proxy_max_temp_file_size",
        "proxy_temp_path",
        "proxy_temp_file_write_size",
        "proxy_request_buffering",
        "proxy_headers_hash_max_size",
        "proxy_headers_hash_bucket_size",
        "proxy_socket_keepalive",
        "proxy_ignore_client_abort",
        "proxy_send_timeout",
        "proxy_ssl_session_reuse",
        "proxy_ssl_protocols",
        "proxy_ssl_ciphers",
        "client_body_buffer_size",
        "client_body_temp_path",
        "client_body_timeout",
        "client_header_timeout",
        "client_header_buffer_size",
        "client_body_in_file_only",
        "large_client_header_buffers",
        "send_timeout",
        "lingering_close",
        "lingering_timeout",
        "lingering_time",
        "resolver",
        "resolver_timeout",
        "gzip_vary",
        "gzip_proxied",
        "gzip_disable",
        "gzip_buffers",
        "gzip_http_version",
        "gzip_static",
        "gzip_comp_level",
        "gzip_min_length",
        "gzip_types",
        "server_name_in_redirect",
        "port_in_redirect",
        "absolute_redirect",
        "merge_slashes",
        "ssl_protocols",
        "ssl_ciphers",
        "ssl_prefer_server_ciphers",
        "ssl_session_cache",
        "ssl_session_timeout",
        "ssl_session_tickets",
        "ssl_dhparam",
        "ssl_ecdh_curve",
        "ssl_stapling",
        "ssl_stapling_verify",
        "ssl_trusted_certificate",
        "ssl_buffer_size",
        "ssl_early_data",
        "ssl_certificate",
        "ssl_certificate_key",
        "http2",
        "http2_max_concurrent_streams",
        "root",
        "index",
        "expires",
        "etag",
        "if_modified_since",
        "limit_req_log_level",
        "limit_conn_log_level",
        "proxy_pass_request_body",
        "proxy_method",
        "limit_req_status",
        "limit_conn_status",
        "map",
        "geo",
        "limit_req_zone",
        "limit_conn_zone",
        "proxy_cache_path",
        "set",
        "real_ip_recursive",
        "listen",
        "server_name",
        "upstream",
        "server",
        "split_clients",
        "location",
        "internal",
        "map_hash_bucket_size",
        "proxy_intercept_errors",
        "fastcgi_temp_path",
        "scgi_temp_path",
        "uwsgi_temp_path",
        "underscores_in_headers",
        "stub_status",
        "auth_delay",
    ]
)


@dataclass(frozen=True, slots=True)
class Scope:
    """Blocks one inside the other, the outermost first."""

    levels: tuple[list[Directive], ...]

    def within(self, block: list[Directive]) -> Scope:
        """Return the scope of a block inside."""
        return Scope((*self.levels, block))

    def all(self, *names: str) -> list[Directive]:
        """Return the directives of these names that are in effect: those of one level, as nginx inherits them."""
        for level in reversed(self.levels):
            if found := self._of(level, names):
                return found
        return []

    def own(self, *names: str) -> list[Directive]:
        """Return those of the innermost block alone."""
        return self._of(self.levels[-1], names)

    def last(self, name: str) -> Directive | None:
        """Return the one that counts."""
        found = self.all(name)
        return found[-1] if found else None

    def text(self, name: str, default: str = "") -> str:
        """Return the first word of the one that counts."""
        found = self.last(name)
        return found.first if found else default

    def every(self, *names: str) -> list[Directive]:
        """Return those of all levels, the outermost first."""
        return [one for level in self.levels for one in self._of(level, names)]

    @staticmethod
    def _of(level: list[Directive], names: tuple[str, ...]) -> list[Directive]:
        found = [one for one in level if one.name in names]
        for one in found:
            one.taken = True
        return found
