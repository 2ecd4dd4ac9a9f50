"""Fixtures for all tests; those with input and output start only when a test asks for them."""

import signal

pytest_plugins = ["tests.support.postgres"]

# Started in the background by a shell, we and our children would ignore ^C, which some tests send.
signal.signal(signal.SIGINT, signal.default_int_handler)
