"""Published and generated test vectors, in the format of Project Wycheproof.

`rfc_examples.json` holds what the RFCs publish; `vectors/generate.py` writes the others. Wycheproof's own
`json_web_signature_test.json` and `json_web_key_test.json` can be laid beside them: they are run as well.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from propylon.proxy.authenticate.algorithms import ALGORITHMS, UnusableKeys
from propylon.proxy.authenticate.jws import BadToken, parse
from propylon.proxy.authenticate.keys import from_jwks

FILES = sorted((Path(__file__).parent / "vectors").glob("*.json"))


def is_accepted(group: dict[str, Any], jws: str) -> bool:
    """Whether the token is verified with the keys of its group."""
    published = group.get("public") or group["private"]
    document = published if "keys" in published else {"keys": [published]}
    try:
        from_jwks(json.dumps(document).encode(), ALGORITHMS).verify(parse(jws.encode()))
    except (BadToken, UnusableKeys):
        return False
    return True


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_vectors(path: Path) -> None:
    """What is said to be valid is taken, what is said to be invalid is refused, in every file."""
    vectors = json.loads(path.read_text())
    verdicts = [
        (test["tcId"], group["comment"], test["comment"], test["result"], verdict)
        for group in vectors["testGroups"]
        for test in group["tests"]
        for verdict in ["valid" if is_accepted(group, test["jws"]) else "invalid"]
    ]
    assert len(verdicts) == vectors["numberOfTests"]
    assert [entry for entry in verdicts if entry[3] != entry[4]] == []


def test_vectors_are_there() -> None:
    """Each file has both kinds, for a suite of refusals alone would be passed by a closed door."""
    assert len(FILES) >= 3
    for path in FILES:
        groups = json.loads(path.read_text())["testGroups"]
        assert {test["result"] for group in groups for test in group["tests"]} == {
            "valid",
            "invalid",
        }
