"""Ask what verifies tokens whether it could use a key, before anything is started."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["check_secret", "fitting_algorithms", "is_pem"]


def is_pem(text: str) -> bool:
    """Tell a key from the path of a file that holds one."""
    return text.lstrip().startswith("-----BEGIN")


def fitting_algorithms(public_key: str, algorithms: Sequence[str]) -> tuple[str, ...]:
    """Return those of the algorithms that a public key fits; ValueError if that is none."""
    # Here, because a configuration without a key need not wait for the cryptography.
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
    """Raise ValueError for a secret that is a public key: everybody could sign who has read it."""
    from propylon.proxy.authenticate.keys import UnusableKeys, from_secret  # noqa: PLC0415

    try:
        # Whether it is long enough is another question, and answered for all algorithms at once.
        from_secret(secret.encode(), ["HS256"], allow_short=True)
    except UnusableKeys as error:
        msg = f"cannot be used: {error.reason}; keys are written under public_key"
        raise ValueError(msg) from error
