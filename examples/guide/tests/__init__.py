"""The tests of the guide's gateway."""
