"""Name what a foreign ASGI server decides, and why the portable edge is not asked for it.

An excused case still runs on the portable edge, for its safety half: nothing smuggled or ambiguous
reaches the upstream.
"""

EXCUSED = {
    "parse-errors": "uvicorn answers what it cannot parse itself: a 400 in plain text, or a close",
    "interim": "ASGI has no message for 1xx answers",
    "expect": "uvicorn sends 100 Continue by itself, when the app first reads the body",
    "unknown-expectation": "uvicorn ignores an expectation that it does not know",
    "linger": "uvicorn closes at once after an early refusal, so a reset may overtake the answer",
    "pipelining": "uvicorn answers pipelined requests after its own rules, and reads on by itself",
    "header-time": "uvicorn has no time limit for a head",
    "idle-time": "uvicorn's own --timeout-keep-alive applies between requests",
    "half-close": "uvicorn takes the client's end of input for its departure",
    "head-size": "uvicorn reads a head of any size before the app sees it",
    "framing": "uvicorn decodes the body: what the app gets has no framing left to refuse",
    "upgrade": "uvicorn decides on upgrades before the app is asked, and drops the body",
    "spelling": "uvicorn hands names over in lower case",
    "trailers": "ASGI servers that can send trailers are rare; uvicorn cannot",
    "request-trailers": "uvicorn adds a request's trailers to its headers, if they come soon enough",
    "empty-query": "ASGI does not tell an empty query from none",
    "status": "uvicorn knows no status above 599",
    "absolute-form": "uvicorn drops the authority of an absolute target: Host alone counts",
    "exit-status": "uvicorn ends by the signal that stopped it",
}


def excused(edge: str, name: str) -> bool:
    """Whether a case is excused on this edge."""
    assert name in EXCUSED, f"{name} is not in the table"
    return edge == "portable"
