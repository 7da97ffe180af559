"""The tests of Tracklore's gateway."""
