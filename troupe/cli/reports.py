"""Commands about reports: look at one as it would be sent, and send one."""

import json
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from uuid import UUID

import click
import trio

from troupe.actors.analytics.answers import Answers
from troupe.actors.analytics.reports import previewing
from troupe.actors.analytics.reports.content import ReportReader
from troupe.actors.analytics.reports.periods import ReportPeriod, period_before
from troupe.actors.analytics.reports.planning import SendNow, send_now
from troupe.actors.analytics.reports.previewing import Part, Sample
from troupe.actors.analytics.reports.records import Run
from troupe.actors.analytics.reports.store import ReportStore
from troupe.actors.analytics.reports.task_lists import every_list
from troupe.actors.analytics.reports.workshop import ThreadWriter
from troupe.actors.analytics.reports.writing import Press
from troupe.cli.boundary import reported
from troupe.cli.context import Settings, as_json, database_of
from troupe.cli.operators import find_tenant
from troupe.common.config import Configuration
from troupe.common.database import Database
from troupe.common.errors import InvalidInput
from troupe.control import NotRunning
from troupe.platform.threads import Threads
from troupe.supervisor import read_run_file

THREADS = 1

_tenant = click.argument("tenant")
_period = click.option(
    "--period",
    type=click.Choice([period.value for period in ReportPeriod]),
    default=ReportPeriod.DAY.value,
    show_default=True,
    help="What the report sums up.",
)
_day = click.option(
    "--day",
    type=click.DateTime(["%Y-%m-%d"]),
    help="The period is the last whole one before this day; today by default.",
)
_language = click.option(
    "--language", type=click.Choice(["en", "de"]), default="en", show_default=True
)


def press_of(configuration: Configuration, database: Database) -> Press:
    """What writes mails, with the addresses that the running installation would put into them."""
    origin = configuration.auth.dashboard_url
    if not origin:
        try:
            origin = read_run_file(configuration.state_directory).urls["analytics"]
        except (NotRunning, KeyError):
            origin = f"http://127.0.0.1:{configuration.groups.analytics.port}"
    return Press(
        ReportReader(Answers(database), every_list()), ThreadWriter(Threads(THREADS)), origin
    )


def _date(given: datetime | None) -> date | None:
    return None if given is None else given.date()


@click.group()
def report() -> None:
    """Look at branch reports and send them."""


@report.command()
@_tenant
@_period
@_day
@click.option("--branch", help="Only this branch; without it the whole company.")
@click.option("--recipient", type=click.UUID, help="As this recipient would get it.")
@_language
@click.option("--notice", is_flag=True, help="The notice that figures are late.")
@click.option(
    "--part",
    type=click.Choice([part.value for part in Part]),
    default=Part.TEXT.value,
    show_default=True,
    help="What of the mail; 'mail' is all of it.",
)
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="A file instead of a screen."
)
@click.pass_obj
@reported
def preview(
    settings: Settings,
    tenant: str,
    *,
    period: str,
    day: datetime | None,
    branch: str | None,
    recipient: UUID | None,
    language: str,
    notice: bool,
    part: str,
    output: Path | None,
) -> None:
    """Show a report as it would be sent, to the byte."""
    sample = Sample(ReportPeriod(period), _date(day), branch, recipient, language, notice)

    async def work() -> bytes:
        configuration = settings.load()
        async with database_of(configuration) as database:
            found = await find_tenant(database, tenant)
            written = await previewing.preview(
                ReportStore(database),
                press_of(configuration, database),
                found.tenant_id,
                sample,
                now=datetime.now(UTC),
            )
            return previewing.part_of(written, Part(part))

    shown = trio.run(work)
    if output is not None:
        output.write_bytes(shown)
        return
    if sys.stdout.isatty() and part in {Part.CHART.value, Part.WORKBOOK.value}:
        raise InvalidInput("This is nothing for a terminal: name a file with --output.")
    sys.stdout.buffer.write(shown)
    sys.stdout.buffer.flush()


@report.command()
@_tenant
@_period
@_day
@click.option("--branch", "branches", multiple=True, help="To recipients of this branch.")
@click.option("--all", "everybody", is_flag=True, help="To all recipients.")
@click.option("--to", "address", help="Only to this address, as a test.")
@_language
@as_json
@click.pass_obj
@reported
def send(
    settings: Settings,
    tenant: str,
    *,
    period: str,
    day: datetime | None,
    branches: tuple[str, ...],
    everybody: bool,
    address: str | None,
    language: str,
    json_output: bool,
) -> None:
    """Send a report at once; the running installation does it."""
    ways = [bool(branches) and address is None, everybody, address is not None]
    if sum(ways) != 1 or (address is not None and len(branches) > 1):
        raise InvalidInput("Say to whom: --branch, --all, or --to with one address.")

    async def work() -> Run:
        async with database_of(settings.load()) as database:
            found = await find_tenant(database, tenant)
            length, before = ReportPeriod(period), _date(day)
            look = await ReportStore(database).look(found.tenant_id)
            wanted = SendNow(
                length,
                None if before is None else period_before(before, length, look.week_start),
                branches if branches and address is None else None,
                test_address=address,
                test_location=branches[0] if branches and address is not None else None,
                language=language,
                requested_by="operator",
            )
            return await send_now(
                database, found.tenant_id, wanted, ("operator", None), now=datetime.now(UTC)
            )

    run = trio.run(work)
    if json_output:
        click.echo(json.dumps({"run": str(run.id), "state": run.state}))
    else:
        click.echo(f"run {run.id}: GET /api/v1/reports/runs/{run.id} says how far it is")


def add_to(root: click.Group) -> None:
    """Add the commands to the root command."""
    root.add_command(report)
