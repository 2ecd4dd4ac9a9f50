"""A mail server that delivers to nobody, with a mailbox to read: ``python -m troupe_demo.mail``."""
