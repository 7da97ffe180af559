"""Section 10, containerization: what the files say. The image is built and started by hand, as README.md tells."""

from pathlib import Path

HERE = Path(__file__).parents[1]


def test_the_dockerfile() -> None:
    """Several stages, a user who is not root, a health check that is in the image, a server for production."""
    lines = (HERE / "Dockerfile").read_text().splitlines()
    assert sum(line.startswith("FROM ") for line in lines) >= 2
    assert "USER 65532:65532" in lines
    text = "\n".join(lines)
    assert '["propylon", "health"' in text
    assert '"--workers", "2"' in text
    assert text.index("COPY requirements.txt") < text.index("COPY app")
