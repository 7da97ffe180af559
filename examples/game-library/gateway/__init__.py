"""The gateway of the game library."""
