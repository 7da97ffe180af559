"""Write nginx's variables in our words."""

from __future__ import annotations

import re

__all__ = ["expanded", "hash_key", "template"]

_VARIABLE = re.compile(r"\$(?:\{(?P<braced>\w+)\}|(?P<plain>\w+))")
_OURS = {
    "remote_addr": "{client_ip}",
    "realip_remote_addr": "{client_ip}",
    "host": "{host}",
    "http_host": "{host}",
    "scheme": "{scheme}",
    "request_method": "{method}",
    "request_id": "{request_id}",
    "remote_user": "{user}",
    "uri": "{path}",
}
_KINDS = {"http_": "header", "arg_": "query", "cookie_": "cookie"}


def expanded(text: str, values: dict[str, str]) -> str:
    """Put in what `set` says; other variables stay."""

    def value(match: re.Match[str]) -> str:
        return values.get(match["braced"] or match["plain"], match[0])

    return _VARIABLE.sub(value, text)


def template(text: str) -> str | None:
    """Return a value of a header as a template; None if a variable has no counterpart."""
    made, at = "", 0
    for match in _VARIABLE.finditer(text):
        ours = _ours(match["braced"] or match["plain"])
        if not ours:
            return None
        made += _plain(text[at : match.start()]) + ours
        at = match.end()
    return made + _plain(text[at:])


def _ours(name: str) -> str:
    if name in _OURS:
        return _OURS[name]
    if name.startswith("http_"):
        return f"{{header.{_header(name)}}}"
    if name.startswith("arg_"):
        return f"{{query.{name.removeprefix('arg_')}}}"
    return ""


def _header(name: str) -> str:
    return "-".join(part.capitalize() for part in name.removeprefix("http_").split("_"))


def _plain(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def hash_key(text: str) -> str:
    """Return what `balance: {hash: …}` and the key of a limit say for a single variable; empty if nothing does."""
    match = _VARIABLE.fullmatch(text)
    name = (match["braced"] or match["plain"]) if match else ""
    if name in ("remote_addr", "binary_remote_addr"):
        return "ip"
    if name.startswith("http_"):
        return f"header:{_header(name)}"
    for begin in ("arg_", "cookie_"):
        if name.startswith(begin):
            return f"{_KINDS[begin]}:{name.removeprefix(begin)}"
    return ""
