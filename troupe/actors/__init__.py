"""The actor groups: one package each, and none imports another."""
