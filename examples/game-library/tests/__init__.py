"""The tests of the game library's gateway."""
