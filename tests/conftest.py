"""Fixtures for all tests; those with input and output start only when a test asks for them."""

pytest_plugins = ["tests.support.postgres"]
