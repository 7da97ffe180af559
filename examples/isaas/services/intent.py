"""Tell what a text asks for, from examples that users have given: `uvicorn services.intent:app --port 8002`.

The service counts words (naive Bayes): it knows only what it was taught.
"""

import math
import re
from collections import Counter, defaultdict

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, Field

from services.store import Store

__all__ = ["app"]

store = Store(
    "intent",
    """
    CREATE TABLE IF NOT EXISTS examples (
        id INTEGER PRIMARY KEY, intent TEXT NOT NULL, text TEXT NOT NULL, UNIQUE (intent, text)
    );
    """,
)
app = FastAPI(title="Intent service")


class Text(BaseModel):
    """A text of a user."""

    text: str = Field(min_length=1, max_length=2000)


class Example(Text):
    """A text, and what it asks for."""

    intent: str = Field(min_length=1, max_length=100)


class Analysis(BaseModel):
    """What a text asks for, and how sure that is: 1 is certain."""

    intent: str
    confidence: float


@app.post("/examples", status_code=201)
def teach(new: Example) -> Example:
    """Learn from an example. The same one again changes nothing."""
    with store.open() as database:
        database.execute(
            "INSERT OR IGNORE INTO examples (intent, text) VALUES (?, ?)", (new.intent, new.text)
        )
    return new


@app.get("/examples")
def examples() -> list[Example]:
    """List what the service has learned from."""
    with store.open() as database:
        rows = database.execute("SELECT intent, text FROM examples ORDER BY id").fetchall()
    return [Example(intent=row["intent"], text=row["text"]) for row in rows]


@app.post("/analyze")
def analyze(question: Text) -> Analysis:
    """Tell what a text asks for."""
    known = examples()
    if not known:
        raise HTTPException(409, "Teach the service first: POST /examples")
    scores = _scores(_words(question.text), known)
    best = max(scores, key=lambda intent: scores[intent])
    # Softmax over the logarithms gives the share of the best one.
    total = sum(math.exp(score - scores[best]) for score in scores.values())
    return Analysis(intent=best, confidence=round(1 / total, 3))


@app.get("/health")
def health() -> dict[str, str]:
    """Tell whether the database can be read."""
    with store.open() as database:
        database.execute("SELECT count(*) FROM examples")
    return {"status": "healthy"}


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _scores(words: list[str], known: list[Example]) -> dict[str, float]:
    """Return the logarithm of each intent's probability, less what all have in common."""
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    for example in known:
        seen[example.intent].update(_words(example.text))
    vocabulary = len(set().union(*seen.values()))
    often = Counter(example.intent for example in known)
    return {
        intent: math.log(often[intent])
        + sum(math.log((counts[word] + 1) / (counts.total() + vocabulary + 1)) for word in words)
        for intent, counts in seen.items()
    }
