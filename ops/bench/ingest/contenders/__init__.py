"""Processes that load the same recorded rows, each in its own way."""
