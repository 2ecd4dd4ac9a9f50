"""Task lists in a report: what is to be done in the period, the first few of it in the mail."""

import io
from datetime import UTC, datetime, time, timedelta
from email.message import EmailMessage

import openpyxl

from tests.integration.reports.conftest import Office, yesterday
from troupe.actors.analytics.answers import Answers
from troupe.actors.analytics.following import follow_once
from troupe.actors.analytics.reports.content import Money, ReportReader, Subject
from troupe.actors.analytics.reports.periods import ReportPeriod
from troupe.actors.analytics.reports.task_lists import every_list
from troupe.common.dates import DateRange

MANY = 25


async def add_tasks(office: Office, branch: str = "b1", **changes: object) -> None:
    """Tasks of yesterday, each more urgent than the one before, as if they followed the data."""
    await follow_once(office.database, office.shop.tenant)
    noon = datetime.combine(yesterday(), time(12), UTC)
    values = {"status": "open", "snoozed_until": None, "day": 0, "count": MANY} | changes
    await office.as_admin(
        """\
        INSERT INTO analytics.tasks (
            tenant_id, kind, subject, began_at, happened_at, raised_at, is_customer, person_id,
            location_id, company, contact, email, phone, title, value, currency, facts, priority,
            reasons, status, snoozed_until)
        SELECT $1, 'cart-abandonment',
               sha256(convert_to(concat($3::text, $4::text, $5::timestamptz, $2::timestamptz, n),
                                 'UTF8')),
               $2, $2, $2, true, 'k' || n, $3, 'Company ' || n, 'Ada', 'ada@customer.example',
               '+49 40 1234', '=1+1', n, 'EUR', '{}', n, '[{"reason": "value", "points": 10}]',
               $4, $5
        FROM generate_series(1, $6) AS n""",
        office.shop.tenant,
        noon + timedelta(days=int(str(values["day"]))),
        branch,
        values["status"],
        values["snoozed_until"],
        values["count"],
    )


async def test_a_report_lists_what_is_to_be_done(office: Office) -> None:
    await add_tasks(office)
    await add_tasks(office, status="in_progress", count=1)
    await add_tasks(office, status="done")
    await add_tasks(office, snoozed_until=datetime.now(UTC) + timedelta(days=3), count=2)
    await add_tasks(office, branch="b2", count=1)
    await add_tasks(office, day=-1, count=1)
    reader = ReportReader(Answers(office.database), every_list())
    subject = Subject("b1", ReportPeriod.DAY, DateRange(yesterday(), yesterday()))
    content = await reader.read(office.shop.tenant, subject)
    assert content.missing == ()
    carts = next(table for table in content.tasks if table.kind == "cart-abandonment")
    assert carts.total == len(carts.rows) == MANY + 1
    first = dict(zip((column.name for column in carts.columns), carts.rows[0], strict=True))
    assert first["company"] == f"Company {MANY}"
    assert first["value"] == Money(MANY, "EUR")
    assert first["happened_at"] == datetime.combine(yesterday(), time(12))
    assert first["reach"] == "Ada, +49\u00a040\u00a01234"
    everything = await reader.read(
        office.shop.tenant, Subject(None, ReportPeriod.DAY, subject.days)
    )
    assert sum(table.total for table in everything.tasks) == MANY + 2


async def test_the_mail_has_the_first_rows_and_the_attachment_all(office: Office) -> None:
    await add_tasks(office)
    await office.settle(rows=4)
    await office.add("ada@branch.example")
    run = await office.send()
    async with office.running(office.dispatch(sources=every_list())):
        await office.becomes(run, "done")
    (mail,) = office.mail.rules.taken
    html = mail.message.get_body(("html",))
    assert isinstance(html, EmailMessage)
    text = html.get_content()
    assert f"4 of {MANY}; all of them are in the attachment." in text
    assert f"Company {MANY}<" in text
    assert f"Company {MANY - 4}<" not in text
    (attached,) = mail.message.iter_attachments()
    book = openpyxl.load_workbook(io.BytesIO(attached.get_payload(decode=True)))
    sheet = book["Carts that were left"]
    rows = list(sheet.iter_rows(min_row=2))
    assert len(rows) == MANY
    heads = [cell.value for cell in next(sheet.iter_rows(max_row=1))]
    first = dict(zip(heads, rows[0], strict=True))
    assert first["Value"].value == MANY
    assert first["Value"].number_format.endswith('"EUR"')
    assert first["What"].value == "=1+1"
    assert first["What"].data_type == "s"
    assert first["E-mail"].value == "ada@customer.example"
    assert first["Why"].value == "money at stake"
