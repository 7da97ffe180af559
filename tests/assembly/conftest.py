"""An empty directory for each case: configurations are read in it."""

from tests.config.conftest import directory

__all__ = ["directory"]
