"""HTTP: one Quart application per group, and the conventions they share."""
