"""The office of tests/integration/reports."""

from tests.integration.reports.conftest import mail, office

__all__ = ["mail", "office"]
