"""The dashboard: pages that the analytics group serves at ``/``."""
