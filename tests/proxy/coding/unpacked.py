"""Unpack with the libraries' own readers, and a stage with a service behind it."""

import gzip
import zlib
from collections.abc import Callable
from typing import Any

import brotli

try:
    from compression import zstd
except ImportError:
    from backports import zstd

UNPACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.decompress,
    "br": brotli.decompress,
    "zstd": zstd.decompress,
}
PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "br": brotli.compress,
    "zstd": zstd.compress,
}


def reader(coding: str) -> Callable[[bytes], bytes]:
    """What reads pieces of a body as they come."""
    if coding == "gzip":
        return zlib.decompressobj(31).decompress
    made: Any = brotli.Decompressor() if coding == "br" else zstd.ZstdDecompressor()
    return made.process if coding == "br" else made.decompress
