"""What endpoints depend on."""
