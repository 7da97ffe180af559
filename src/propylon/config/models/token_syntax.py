"""Check the syntax of what concerns tokens: their type, the places that hold them, the headers that pass their claims. Pure.

Each check returns the value in the form that is used, or raises ValueError with a message for the operator.
"""

import re

from propylon.config.models.syntax import check_header_name, check_token

_TOKEN_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+/-]{0,126}")
# Headers that are read in another way, or removed before the token would be looked for.
_NO_CARRIERS = re.compile(
    r"authorization|cookie|set-cookie|host|origin|expect|proxy-.*|forwarded|x-forwarded.*|x-user-.*|x-request-id"
    r"|x-real-ip|x-original-url|x-rewrite-url|x-http-method-override|x-privacy-level|dnt|sec-.*|trace(?:parent|state)"
    r"|max-forwards|access-control-.*"
)


def check_token_type(text: str) -> str:
    """Check the `typ` of a token's header, a media type (RFC 7515, 4.1.9). Return it as it is compared."""
    if not _TOKEN_TYPE.fullmatch(text):
        msg = "must be the typ of a token's header, such as at+jwt"
        raise ValueError(msg)
    return text.lower().removeprefix("application/")


def check_carrier(text: str) -> str:
    """Check a place where tokens are looked for: header, cookie:NAME or header:NAME."""
    kind, mark, name = text.partition(":")
    if text == "header":
        return text
    if not mark or kind not in {"header", "cookie"}:
        msg = f'"{text}" is no place for a token; write header, cookie:NAME or header:NAME'
        raise ValueError(msg)
    if kind == "cookie":
        return check_token(name, "name of a cookie")
    check_header_name(name)
    if _NO_CARRIERS.fullmatch(name.lower().replace("_", "-")):
        word = {"authorization": "header", "cookie": "cookie:NAME"}.get(name.lower())
        advice = f"write {word}" if word else "choose another name"
        msg = f"{name} cannot carry a token: the gateway reads or removes it itself; {advice}"
        raise ValueError(msg)
    return text


# Headers that say something else than a claim could: about the connection, the request, or the caller as such.
_NO_CLAIMS = re.compile(
    r"host|x-request-id|x-forwarded.*|forwarded|x-real-ip|x-original-url|x-rewrite-url|x-http-method-override"
    r"|x-user-(?:id|email|roles|scopes|issuer)|trace(?:parent|state)|x-privacy-level|dnt|sec-.*|max-forwards"
    r"|authorization|cookie|proxy-.*|origin|expect|access-control-.*|content-.*|accept.*|range|if-.*|via|x-client-cert-.*"
)


# Headers of a client that say nothing there, or are a part of every question.
_NO_QUESTION = re.compile(
    r"host|cookie|authorization|x-forwarded-.*|x-original-(?:url|method)|x-user-.*|x-client-cert-.*|x-request-id|x-real-ip"
    r"|x-rewrite-url|x-http-method-override|forwarded|trace(?:parent|state)|content-.*|expect|proxy-.*|max-forwards"
    r"|x-propylon-.*"
)
# What the gateway itself says of a caller with a token; without one it says nothing there.
_OF_CALLERS = re.compile(r"x-user-(?:id|email|roles|scopes|issuer)")


def check_claim_header(text: str) -> str:
    """Check the name of a header that a claim is passed in."""
    _check_spelling(text)
    if _NO_CLAIMS.fullmatch(text.lower()):
        msg = f"{text} has a meaning of its own and cannot carry a claim; choose another name, such as X-Tenant"
        raise ValueError(msg)
    return text


def check_answer_header(text: str) -> str:
    """Check the name of a header in which the answer of `forward_auth` says something of the caller."""
    _check_spelling(text)
    low = text.lower()
    if low != "authorization" and not is_of_callers(low) and _NO_CLAIMS.fullmatch(low):
        msg = f"{text} has a meaning of its own and cannot be taken from an answer; choose another name, such as X-Auth-User"
        raise ValueError(msg)
    return text


def is_of_callers(name: str) -> bool:
    """Tell whether a header, in lower case, is one in which the gateway itself names a caller with a token."""
    return _OF_CALLERS.fullmatch(name) is not None


def check_question_header(text: str) -> str:
    """Check the name of a client's header that is part of a question of `forward_auth`."""
    check_header_name(text)
    if _NO_QUESTION.fullmatch(text.lower().replace("_", "-")):
        msg = f"{text} is part of every question, or no client's to say; take it out"
        raise ValueError(msg)
    return text


def _check_spelling(text: str) -> None:
    check_header_name(text)
    if "_" in text:
        msg = f"{text} has a _, and many frameworks take it for a -; write {text.replace('_', '-')}"
        raise ValueError(msg)
