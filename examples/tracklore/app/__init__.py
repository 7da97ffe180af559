"""Tracklore's gateway service."""
