"""Replace the path of a public key in the configuration by the text of the file."""

from pathlib import Path as FilePath
from typing import Any

from propylon.config.models.keys import is_pem
from propylon.config.reading.document import Document
from propylon.config.reading.problems import Path

__all__ = ["read_key_file"]

_PUBLIC_KEY: Path = ("auth", "jwt", "public_key")
# Bytes. A chain of certificates has a few kilobytes.
_MAX_FILE = 64 * 1024


def read_key_file(document: Document, folder: FilePath) -> None:
    """Read the public key if its path is configured; relative paths start at `folder`."""
    tree: Any = document.value
    for part in _PUBLIC_KEY[:-1]:
        tree = tree.get(part) if isinstance(tree, dict) else None
    written = tree.get(_PUBLIC_KEY[-1]) if isinstance(tree, dict) else None
    if not isinstance(written, str) or not written.strip() or is_pem(written):
        return
    try:
        tree[_PUBLIC_KEY[-1]] = _text(folder / written.strip())
    except (OSError, ValueError) as error:
        # The message does not repeat what was written: it may be a key in another form, even a private one.
        document.fail(
            _PUBLIC_KEY, f"is neither PEM nor the path of a file with PEM: {_reason(error)}"
        )


def _text(path: FilePath) -> str:
    # Reading a device or a pipe might never end.
    if path.exists() and not path.is_file():
        msg = "it is not a file"
        raise ValueError(msg)
    with path.open("rb") as file:
        content = file.read(_MAX_FILE + 1)
    text = content.decode("ascii", "replace")
    if len(content) > _MAX_FILE or not is_pem(text):
        msg = "the file does not begin with -----BEGIN"
        raise ValueError(msg)
    return text


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, OSError):
        return (error.strerror or "it cannot be read").lower()
    return str(error)
