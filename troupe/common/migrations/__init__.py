"""Numbered, forward-only migrations; `troupe.common.migrate` runs them."""
