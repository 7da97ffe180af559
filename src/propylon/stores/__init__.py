"""Shared facts behind the small ports that the stages declare."""
