"""The data group: what is extracted from a tenant's sources, and what is derived from it."""
