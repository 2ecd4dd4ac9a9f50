"""Troupe: Google Analytics 4 for sales teams, served by supervised actor groups over PostgreSQL."""
