"""Check configured keys with the code that will verify tokens, so that a bad key is a problem of the file."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["check_secret", "fitting_algorithms", "is_pem"]


def is_pem(text: str) -> bool:
    """Tell whether a text is a PEM key, and not the path of a file with one."""
    return text.lstrip().startswith("-----BEGIN")


def fitting_algorithms(public_key: str, algorithms: Sequence[str]) -> tuple[str, ...]:
    """Return those of the algorithms that fit a public key. Raises ValueError if the key is unusable."""
    # Imported here: loading the cryptography takes a while, and most commands need none of it.
    from propylon.proxy.authenticate.keys import UnusableKeys, from_pem  # noqa: PLC0415

    def fits(name: str) -> bool:
        try:
            from_pem(public_key, [name])
        except UnusableKeys:
            return False
        return True

    try:
        from_pem(public_key, algorithms)
    except UnusableKeys as error:
        msg = f"cannot be used: {error.reason}"
        raise ValueError(msg) from error
    return tuple(filter(fits, algorithms))


def check_secret(secret: str) -> None:
    """Raise ValueError for a secret that is a public key: everyone who has it could sign tokens."""
    from propylon.proxy.authenticate.keys import UnusableKeys, from_secret  # noqa: PLC0415

    try:
        # The length is checked elsewhere (`credentials`), for all configured algorithms at once.
        from_secret(secret.encode(), ["HS256"], allow_short=True)
    except UnusableKeys as error:
        msg = f"cannot be used: {error.reason}; keys are written under public_key"
        raise ValueError(msg) from error
