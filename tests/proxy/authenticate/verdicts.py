"""What the tests of keys ask: is this token verified, and if not, why?"""

from collections.abc import Callable

import pytest

from propylon.proxy.authenticate.algorithms import UnusableKeys
from propylon.proxy.authenticate.jws import BadToken, parse
from propylon.proxy.authenticate.keys import KeySet
from tests.support.jose import Sign, claims, token


def signed(sign: Sign, **header: object) -> bytes:
    """A token with this header."""
    return token(header, claims(), sign)


def verify(keys: KeySet, sent: bytes) -> None:
    """Have the set verify a token."""
    keys.verify(parse(sent))


def refused(keys: KeySet, sent: bytes) -> BadToken:
    """The error with which the set refuses a token."""
    with pytest.raises(BadToken) as caught:
        verify(keys, sent)
    return caught.value


def unusable(make: Callable[..., KeySet], *arguments: object) -> str:
    """The reason why no set can be made of this."""
    with pytest.raises(UnusableKeys) as caught:
        make(*arguments)
    return caught.value.reason
