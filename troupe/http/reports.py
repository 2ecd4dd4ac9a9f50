"""Reports over HTTP: recipients, schedules, previews, sending, what became of each mail.

Viewers look, analysts preview and send to themselves and to branches, administrators decide who
gets mail by itself and how it looks. Who unsubscribes is nobody with a role: the link in the mail
is all they have, so that route is public, answers GET with a page and acts on POST alone.
"""

from typing import Final
from uuid import UUID

from quart import Response

from troupe.actors.analytics.reports import unsubscribe
from troupe.actors.analytics.reports.records import Recipient, ReportSchedule
from troupe.actors.analytics.reports.settings import ReportSettings
from troupe.http import report_sending
from troupe.http import reports_models as models
from troupe.http.conventions import (
    ListAnswer,
    PageQuery,
    require_match,
)
from troupe.http.declaration import Answer, Media
from troupe.http.principal import Access, Principal, Role
from troupe.http.report_desk import TAG, Desk, Walk, actor_of, amended, tag_of
from troupe.http.report_pages import UnsubscribePages
from troupe.http.routes import Api
from troupe.http.schedules_models import RunsAnswer
from troupe.platform.schedules import CronTimetable, upcoming

_NAMES: Final = {"grace_seconds": "grace", "patience_seconds": "patience"}
"""What the API calls with its unit, and the domain without."""
PAGE: Final = Media("text/html; charset=utf-8", "A page.")


def declare(api: Api, desk: Desk) -> None:
    """Declare the routes under ``/api/v1/reports``."""
    _declare_settings(api, desk)
    _declare_recipients(api, desk)
    _declare_suppressions(api, desk)
    _declare_schedules(api, desk)
    report_sending.declare(api, desk)
    _declare_unsubscribing(api, desk)


# --- looks ------------------------------------------------------------------------------------


def _declare_settings(api: Api, desk: Desk) -> None:
    store = desk.store

    @api.get(
        "/api/v1/reports/settings",
        requires=Role.VIEWER,
        answers={200: models.SettingsAnswer},
        etag=True,
        summary="How reports look and leave",
        tag=TAG,
    )
    async def get_report_settings(*, principal: Principal) -> Answer:
        look = await store.look(principal.tenant_id)
        return _settings_answer(look.settings, look.version)

    @api.put(
        "/api/v1/reports/settings",
        requires=Role.ADMIN,
        body=models.SettingsBody,
        answers={200: models.SettingsAnswer},
        etag=True,
        if_match=True,
        summary="Change how reports look and leave",
        tag=TAG,
    )
    async def put_report_settings(*, principal: Principal, body: models.SettingsBody) -> Answer:
        """Logo, colour, greeting, sections and pace; what is not given takes its default."""
        look = await store.look(principal.tenant_id)
        require_match(tag_of("settings", look.version))
        settings = ReportSettings(**body.model_dump())
        version = await store.put_settings(
            principal.tenant_id, settings, look.version, actor_of(principal)
        )
        return _settings_answer(settings, version)


def _settings_answer(settings: ReportSettings, version: int) -> Answer:
    answer = models.SettingsAnswer(**settings.model_dump())
    return Answer(answer, etag=tag_of("settings", version))


# --- recipients -------------------------------------------------------------------------------


def _declare_recipients(api: Api, desk: Desk) -> None:
    store = desk.store

    @api.get(
        "/api/v1/reports/recipients",
        requires=Role.ANALYST,
        query=models.RecipientsQuery,
        answers={200: ListAnswer[models.RecipientAnswer]},
        summary="Who gets reports, by branch and address",
        tag=TAG,
    )
    async def list_recipients(
        *, principal: Principal, query: models.RecipientsQuery
    ) -> ListAnswer[models.RecipientAnswer]:
        walk = Walk(f"reports/recipients {query.location}", str, str)
        found, following, total = await store.recipients.page(
            principal.tenant_id,
            after=walk.place(query.cursor),
            limit=query.limit,
            location=query.location,
        )
        return ListAnswer[models.RecipientAnswer](
            data=[models.RecipientAnswer.of(one) for one in found],
            next_cursor=walk.cursor(following),
            total=total,
        )

    @api.post(
        "/api/v1/reports/recipients",
        requires=Role.ADMIN,
        body=models.NewRecipientBody,
        answers={201: models.RecipientAnswer},
        problems=[409],
        creates=True,
        summary="Add a recipient",
        tag=TAG,
    )
    async def create_recipient(*, principal: Principal, body: models.NewRecipientBody) -> Answer:
        """409 if the address is listed for the branch already."""
        tenant = principal.tenant_id
        values = body.model_dump()
        values["time_zone"] = body.time_zone or (await store.look(tenant)).time_zone
        made = await store.recipients.add(tenant, Recipient(**values), actor_of(principal))
        where = {"Location": f"/api/v1/reports/recipients/{made.id}"}
        answer = models.RecipientAnswer.of(made)
        return Answer(answer, 201, where, recipient_tag(made))

    @api.get(
        "/api/v1/reports/recipients/<uuid:recipient_id>",
        requires=Role.ANALYST,
        answers={200: models.RecipientAnswer},
        etag=True,
        summary="One recipient",
        tag=TAG,
    )
    async def get_recipient(*, principal: Principal, recipient_id: UUID) -> Answer:
        return _recipient_answer(await store.recipients.one(principal.tenant_id, recipient_id))

    @api.patch(
        "/api/v1/reports/recipients/<uuid:recipient_id>",
        requires=Role.ADMIN,
        body=models.RecipientBody,
        answers={200: models.RecipientAnswer},
        problems=[409],
        etag=True,
        if_match=True,
        summary="Change a recipient, or switch them off",
        tag=TAG,
    )
    async def change_recipient(
        *, principal: Principal, recipient_id: UUID, body: models.RecipientBody
    ) -> Answer:
        """What is not given stays; `location_id: null` makes it the whole company."""
        tenant = principal.tenant_id
        present = await store.recipients.one(tenant, recipient_id)
        require_match(recipient_tag(present))
        wanted = amended(present, body, nullable="location_id")
        return _recipient_answer(await store.recipients.change(tenant, wanted, actor_of(principal)))

    @api.delete(
        "/api/v1/reports/recipients/<uuid:recipient_id>",
        requires=Role.ADMIN,
        answers={204: None},
        summary="Remove a recipient",
        tag=TAG,
    )
    async def delete_recipient(*, principal: Principal, recipient_id: UUID) -> Answer:
        """What became of their mails stays known."""
        await store.recipients.remove(principal.tenant_id, recipient_id, actor_of(principal))
        return Answer(None, 204)


def recipient_tag(recipient: Recipient) -> str:
    """The entity tag of a recipient."""
    return tag_of(recipient.id, recipient.version, recipient.suppressed_at, recipient.hard_bounces)


def _recipient_answer(recipient: Recipient) -> Answer:
    return Answer(models.RecipientAnswer.of(recipient), etag=recipient_tag(recipient))


def _declare_suppressions(api: Api, desk: Desk) -> None:
    store = desk.store

    @api.get(
        "/api/v1/reports/suppressions",
        requires=Role.ANALYST,
        query=PageQuery,
        answers={200: ListAnswer[models.SuppressionAnswer]},
        summary="Addresses that get no mail",
        tag=TAG,
    )
    async def list_suppressions(
        *, principal: Principal, query: PageQuery
    ) -> ListAnswer[models.SuppressionAnswer]:
        walk = Walk("reports/suppressions", str)
        found, following = await store.suppressions.page(
            principal.tenant_id, after=walk.place(query.cursor), limit=query.limit
        )
        return ListAnswer[models.SuppressionAnswer](
            data=[models.SuppressionAnswer.of(one) for one in found],
            next_cursor=walk.cursor(following),
        )

    @api.post(
        "/api/v1/reports/suppressions",
        requires=Role.ADMIN,
        body=models.SuppressionBody,
        answers={204: None},
        creates=True,
        summary="Let an address get no more mail",
        tag=TAG,
    )
    async def suppress_address(*, principal: Principal, body: models.SuppressionBody) -> Answer:
        """For all branches. Again does no harm."""
        await store.suppressions.add(principal.tenant_id, body.address, actor_of(principal))
        return Answer(None, 204)

    @api.delete(
        "/api/v1/reports/suppressions/<string:address>",
        requires=Role.ADMIN,
        answers={204: None},
        summary="Let an address get mail again",
        tag=TAG,
    )
    async def lift_suppression(*, principal: Principal, address: str) -> Answer:
        """Its bounces are forgotten. Ask whoever has unsubscribed before you do this."""
        await store.suppressions.lift(principal.tenant_id, address, actor_of(principal))
        return Answer(None, 204)


# --- schedules --------------------------------------------------------------------------------


def _declare_schedules(api: Api, desk: Desk) -> None:
    store = desk.store

    @api.get(
        "/api/v1/reports/schedules",
        requires=Role.VIEWER,
        query=PageQuery,
        answers={200: ListAnswer[models.ScheduleAnswer]},
        summary="Schedules of reports, by name",
        tag=TAG,
        endpoint="list_report_schedules",
    )
    async def list_schedules(
        *, principal: Principal, query: PageQuery
    ) -> ListAnswer[models.ScheduleAnswer]:
        walk = Walk("reports/schedules", str)
        found, following, total = await store.schedules.page(
            principal.tenant_id, after=walk.place(query.cursor), limit=query.limit
        )
        return ListAnswer[models.ScheduleAnswer](
            data=[models.ScheduleAnswer.of(one) for one in found],
            next_cursor=walk.cursor(following),
            total=total,
        )

    @api.post(
        "/api/v1/reports/schedules",
        requires=Role.ADMIN,
        body=models.NewScheduleBody,
        answers={201: models.ScheduleAnswer},
        problems=[409],
        creates=True,
        summary="Make a schedule of reports",
        tag=TAG,
        endpoint="create_report_schedule",
    )
    async def create_schedule(*, principal: Principal, body: models.NewScheduleBody) -> Answer:
        """It is due once on each local day (or as its line says) of each recipient."""
        made = await store.schedules.add(
            principal.tenant_id,
            ReportSchedule(
                **{_NAMES.get(name, name): value for name, value in body.model_dump().items()}
            ),
            actor_of(principal),
            now=desk.clock(),
        )
        where = {"Location": f"/api/v1/reports/schedules/{made.id}"}
        answer = models.ScheduleAnswer.of(made)
        return Answer(answer, 201, where, tag_of(made.id, made.version))

    @api.get(
        "/api/v1/reports/schedules/<uuid:report_id>",
        requires=Role.VIEWER,
        answers={200: models.ScheduleAnswer},
        etag=True,
        summary="One schedule of reports",
        tag=TAG,
        endpoint="get_report_schedule",
    )
    async def get_schedule(*, principal: Principal, report_id: UUID) -> Answer:
        return _schedule_answer(await store.schedules.one(principal.tenant_id, report_id))

    @api.get(
        "/api/v1/reports/schedules/<uuid:report_id>/next",
        requires=Role.VIEWER,
        query=models.NextQuery,
        answers={200: RunsAnswer},
        summary="When reports are due next, on the clock of one zone",
        tag=TAG,
        endpoint="next_report_runs",
    )
    async def next_runs(
        *, principal: Principal, report_id: UUID, query: models.NextQuery
    ) -> RunsAnswer:
        schedule = await store.schedules.one(principal.tenant_id, report_id)
        zone = query.zone or (await store.look(principal.tenant_id)).time_zone
        timetable = CronTimetable(schedule.cron, zone)
        runs = upcoming(timetable, desk.clock(), query.count) if schedule.enabled else []
        return RunsAnswer(data=runs, zone=zone)

    @api.patch(
        "/api/v1/reports/schedules/<uuid:report_id>",
        requires=Role.ADMIN,
        body=models.ScheduleBody,
        answers={200: models.ScheduleAnswer},
        problems=[409],
        etag=True,
        if_match=True,
        summary="Change a schedule of reports, or let it rest",
        tag=TAG,
        endpoint="change_report_schedule",
    )
    async def change_schedule(
        *, principal: Principal, report_id: UUID, body: models.ScheduleBody
    ) -> Answer:
        """Another line, and switching it on, count from this moment."""
        tenant = principal.tenant_id
        present = await store.schedules.one(tenant, report_id)
        require_match(tag_of(present.id, present.version))
        wanted = amended(present, body, nullable="locations", names=_NAMES)
        changed = await store.schedules.change(
            tenant, wanted, actor_of(principal), now=desk.clock()
        )
        return _schedule_answer(changed)

    @api.delete(
        "/api/v1/reports/schedules/<uuid:report_id>",
        requires=Role.ADMIN,
        answers={204: None},
        summary="Remove a schedule of reports",
        tag=TAG,
        endpoint="delete_report_schedule",
    )
    async def delete_schedule(*, principal: Principal, report_id: UUID) -> Answer:
        """Runs that it has made go on; cancel them to stop them."""
        await store.schedules.remove(principal.tenant_id, report_id, actor_of(principal))
        return Answer(None, 204)


def _schedule_answer(schedule: ReportSchedule) -> Answer:
    return Answer(models.ScheduleAnswer.of(schedule), etag=tag_of(schedule.id, schedule.version))


# --- unsubscribing ----------------------------------------------------------------------------


def _declare_unsubscribing(api: Api, desk: Desk) -> None:
    pages, database = UnsubscribePages(), desk.store.database

    @api.get(
        unsubscribe.PATH,
        requires=Access.PUBLIC,
        query=models.UnsubscribeQuery,
        answers={200: PAGE},
        problems=[404],
        summary="Ask whether to unsubscribe; changes nothing",
        tag=TAG,
        endpoint="ask_unsubscribe",
    )
    async def ask(*, query: models.UnsubscribeQuery) -> Response:
        """Mail scanners follow every link."""
        subscription = await unsubscribe.subscription_of(database, query.token)
        return pages.ask(subscription)

    @api.post(
        unsubscribe.PATH,
        requires=Access.PUBLIC,
        query=models.UnsubscribeQuery,
        answers={200: PAGE},
        problems=[404],
        summary="Unsubscribe, in one step (RFC 8058)",
        tag=TAG,
        endpoint="do_unsubscribe",
    )
    async def do(*, query: models.UnsubscribeQuery) -> Response:
        """Whatever the body is: mail programs send `List-Unsubscribe=One-Click`."""
        subscription = await unsubscribe.subscription_of(database, query.token)
        await unsubscribe.unsubscribe(database, subscription)
        return pages.done(subscription)
