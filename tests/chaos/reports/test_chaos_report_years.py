"""Two years of mornings in five zones, every one of them planned in the database."""

from tests.integration.reports.conftest import Office
from tests.integration.reports.test_report_life import morning_after_morning


async def test_two_years_are_one_mail_for_each_local_day(office: Office) -> None:
    await morning_after_morning(office, lambda _slot: True)
