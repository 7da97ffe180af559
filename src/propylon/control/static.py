"""Serve the files of the package that pages load. They are kept packed: the wheel has a third of the size."""

from __future__ import annotations

import gzip
from importlib.resources import files

from fastapi import Response

from propylon.errors import NotFound

__all__ = ["asset"]

_ASSETS = "assets"
_TYPES = {
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "txt": "text/plain; charset=utf-8",
}
# A year: the name of a file changes with the version of the gateway (`?v=`).
_FOR_EVER = "public, max-age=31536000, immutable"


def asset(name: str, *, packed: bool) -> Response:
    """Return a file of the package, packed if the client can unpack it. Raises NotFound."""
    kind = _TYPES.get(name.rpartition(".")[2])
    folder = files("propylon.control") / _ASSETS
    known = kind is not None and name in {one.name.removesuffix(".gz") for one in folder.iterdir()}
    if not known:
        msg = "There is no such file"
        raise NotFound(msg)
    headers = {
        "Cache-Control": _FOR_EVER,
        "Vary": "Accept-Encoding",
        "X-Content-Type-Options": "nosniff",
    }
    archive = folder / f"{name}.gz"
    if not archive.is_file():
        body = (folder / name).read_bytes()
    elif packed:
        headers["Content-Encoding"] = "gzip"
        body = archive.read_bytes()
    else:
        body = gzip.decompress(archive.read_bytes())
    return Response(body, media_type=kind, headers=headers)
