"""Check the patterns of `include`. Pure."""

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

from propylon.config.models.base import Word, as_list

__all__ = ["Include", "check_pattern"]


def check_pattern(text: str) -> str:
    """Return the pattern of files that are included. Raises ValueError for one that would go through all directories."""
    if "**" in text:
        msg = "** is not read: write a pattern for each directory, such as conf.d/*.yaml or teams/*/routes.yaml"
        raise ValueError(msg)
    return text


Include = Annotated[
    tuple[Annotated[Word, AfterValidator(check_pattern)], ...],
    BeforeValidator(as_list, json_schema_input_type=str | list[str]),
]
"""Files, by their names or by patterns."""
