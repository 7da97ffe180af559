"""Replace the paths of keys, certificates and files of users in the configuration by the texts of the files.

So a file that has changed is a configuration that has changed, and a reload finds it like any other change.
"""

from collections.abc import Callable, Iterator
from pathlib import Path as FilePath

from propylon.config.models.keys import is_pem
from propylon.config.reading.credentials import jwt_entries
from propylon.config.reading.document import Document
from propylon.config.reading.problems import Path

__all__ = ["read_key_file", "read_tls_files", "read_user_files"]

# Bytes. A chain of certificates has a few kilobytes.
_MAX_FILE = 64 * 1024
# All certificate authorities of a system have a quarter of a megabyte.
_MAX_BUNDLE = 1024 * 1024
_TLS_FILES = ("ca", "certificate", "key")


def read_key_file(document: Document, folder: FilePath) -> None:
    """Read the public key if its path is configured; relative paths start at `folder`."""
    for path, entry in jwt_entries(document.value):
        written = entry.get("public_key")
        if isinstance(written, str) and written.strip() and not is_pem(written):
            _read(document, (*path, "public_key"), entry, folder / written.strip(), _key)


def read_tls_files(document: Document, folder: FilePath) -> None:
    """Read the certificates and keys for TLS to services whose paths are configured; relative paths start at `folder`."""
    for place, tls in _tls_sections(document.value):
        for key in _TLS_FILES:
            written = tls.get(key)
            if isinstance(written, str) and written.strip() and not is_pem(written):
                _read(document, (*place, key), tls, folder / written.strip(), _bundle)


def read_user_files(document: Document, folder: FilePath) -> None:
    """Read the files of `basic_auth`; relative paths start at `folder`."""
    for place, section in _basic_sections(document.value):
        written = section.get("file")
        if isinstance(written, str) and written.strip():
            try:
                section["file"] = _text(folder / written.strip(), _MAX_BUNDLE, "utf-8")
            except (OSError, ValueError) as error:
                document.fail((*place, "file"), f"cannot be read: {_reason(error)}")


def _basic_sections(value: object) -> Iterator[tuple[Path, dict[str, object]]]:
    """Yield `basic_auth` of each route and of `defaults` as it was written, with its place."""
    whole = value if isinstance(value, dict) else {}
    routes = whole.get("routes")
    listed = routes if isinstance(routes, list) else []
    homes: list[tuple[Path, object]] = [(("defaults",), whole.get("defaults"))]
    homes += [(("routes", at), route) for at, route in enumerate(listed)]
    for place, home in homes:
        section = home.get("basic_auth") if isinstance(home, dict) else None
        if isinstance(section, dict):
            yield (*place, "basic_auth"), section


def _tls_sections(value: object) -> Iterator[tuple[Path, dict[str, object]]]:
    """Yield `tls` of each service as it was written, with its place."""
    services = value.get("services") if isinstance(value, dict) else None
    if not isinstance(services, dict):
        return
    for name, service in services.items():
        tls = service.get("tls") if isinstance(service, dict) else None
        if isinstance(tls, dict):
            yield ("services", name, "tls"), tls


def _read(
    document: Document,
    place: Path,
    entry: dict[str, object],
    path: FilePath,
    read: Callable[[FilePath], str],
) -> None:
    try:
        entry[str(place[-1])] = read(path)
    except (OSError, ValueError) as error:
        # The message does not repeat what was written: it may be a key in another form, even a private one.
        document.fail(place, f"is neither PEM nor the path of a file with PEM: {_reason(error)}")


def _key(path: FilePath) -> str:
    text = _text(path, _MAX_FILE)
    if not is_pem(text):
        msg = "the file does not begin with -----BEGIN"
        raise ValueError(msg)
    return text


def _bundle(path: FilePath) -> str:
    # Anything may stand around the certificates: their names, or what `openssl x509 -text` writes.
    return _text(path, _MAX_BUNDLE)


def _text(path: FilePath, limit: int, encoding: str = "ascii") -> str:
    # Reading a device or a pipe might never end.
    if path.exists() and not path.is_file():
        msg = "it is not a file"
        raise ValueError(msg)
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        msg = f"the file is larger than {limit // 1024} KiB"
        raise ValueError(msg)
    return content.decode(encoding, "replace")


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, OSError):
        return (error.strerror or "it cannot be read").lower()
    return str(error)
