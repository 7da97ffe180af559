"""Say which version this is. Pure."""

__version__ = "0.1.0"
