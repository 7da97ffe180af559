"""The tests of the ISaaS gateway."""
