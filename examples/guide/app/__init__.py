"""The API gateway of the step by step guide."""
