"""Read what a Dockerfile says, as far as it can be judged without building it."""

import re
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Stage:
    """One stage: its base, and its instructions in order."""

    base: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def all(self, word: str) -> list[str]:
        """What stands behind every instruction of that name."""
        return [rest for name, rest in self.steps if name == word]


def read_dockerfile(file: Path) -> list[Stage]:
    """The stages of a Dockerfile, in order."""
    text = re.sub(r"(?m)^\s*#.*\n", "", file.read_text())
    stages: list[Stage] = []
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        word, _, rest = line.strip().partition(" ")
        if word.upper() == "FROM":
            stages.append(Stage(rest.split()[0]))
        elif word and stages:
            stages[-1].steps.append((word.upper(), rest.strip()))
    return stages


def unpinned(requirements: Path) -> list[str]:
    """The requirements of a file that do not say one version, but for Propylon from the checkout."""
    lines = re.sub(r"\\\n", " ", requirements.read_text()).splitlines()
    wanted = [
        line.partition(" #")[0].strip() for line in lines if not line.lstrip().startswith("#")
    ]
    return [
        line
        for line in wanted
        if line and "==" not in line and not line.startswith(("-", ".", "propylon @"))
    ]
