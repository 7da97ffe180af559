"""The ISaaS API gateway."""
