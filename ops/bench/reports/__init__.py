"""How fast reports are written and sent, in how much memory; what the dashboard notices of it."""
