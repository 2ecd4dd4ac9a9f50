"""Reports over HTTP: recipients, schedules, previews, sending, what became of each mail.

Viewers look, analysts preview and send to themselves and to branches, administrators decide who
gets mail by itself and how it looks. Who unsubscribes is nobody with a role: the link in the mail
is all they have, so that route is public, answers GET with a page and acts on POST alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, cast
from uuid import UUID

from quart import Response

from troupe.actors.analytics.reports import previewing, unsubscribe
from troupe.actors.analytics.reports.periods import period_before
from troupe.actors.analytics.reports.planning import (
    SendNow,
    cancel_run,
    send_now,
    settle_by_hand,
)
from troupe.actors.analytics.reports.previewing import CONTENT_TYPES, Part, Sample
from troupe.actors.analytics.reports.records import Recipient, ReportSchedule
from troupe.actors.analytics.reports.settings import ReportSettings
from troupe.actors.analytics.reports.store import QUERIES, Actor, ReportStore
from troupe.actors.analytics.reports.writing import Press, Written
from troupe.common.errors import InvalidInput
from troupe.common.ids import TenantId
from troupe.http import reports_models as models
from troupe.http.conventions import (
    ListAnswer,
    PageQuery,
    decode_cursor,
    encode_cursor,
    entity_tag,
    require_match,
)
from troupe.http.credentials import ResolvedPrincipal
from troupe.http.declaration import Answer, Media
from troupe.http.principal import Access, Principal, Role
from troupe.http.report_pages import UnsubscribePages
from troupe.http.routes import Api
from troupe.http.schedules_models import RunsAnswer
from troupe.platform.schedules import CronTimetable, upcoming

TAG: Final = "reports"
PART: Final = Media("*/*", "A part of the mail, with the type that it has there.")
PAGE: Final = Media("text/html; charset=utf-8", "A page.")
_SEALED: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"
"""A preview is a mail: nothing in it may run or load, whatever a tenant has put into it."""

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The present instant."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Desk:
    """What the routes work with.

    Attributes:
        store: Recipients, schedules, runs and deliveries.
        press: Writes mails.
        clock: The present instant.
    """

    store: ReportStore
    press: Press
    clock: Clock = utc_now


def declare(api: Api, desk: Desk) -> None:
    """Declare the routes under ``/api/v1/reports``."""
    _declare_settings(api, desk)
    _declare_recipients(api, desk)
    _declare_suppressions(api, desk)
    _declare_schedules(api, desk)
    _declare_previews(api, desk)
    _declare_sending(api, desk)
    _declare_deliveries(api, desk)
    _declare_decisions(api, desk)
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
        require_match(_tag("settings", look.version))
        settings = ReportSettings(**body.model_dump())
        version = await store.put_settings(
            principal.tenant_id, settings, look.version, _actor(principal)
        )
        return _settings_answer(settings, version)


def _settings_answer(settings: ReportSettings, version: int) -> Answer:
    answer = models.SettingsAnswer(**settings.model_dump())
    return Answer(answer, etag=_tag("settings", version))


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
        order = f"reports/recipients {query.location}"
        place = decode_cursor(query.cursor, order, (str, str)) if query.cursor else None
        found, following, total = await store.recipients(
            principal.tenant_id,
            after=None if place is None else (str(place[0]), str(place[1])),
            limit=query.limit,
            location=query.location,
        )
        return ListAnswer[models.RecipientAnswer](
            data=[models.RecipientAnswer.of(one) for one in found],
            next_cursor=encode_cursor(order, following) if following else None,
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
        made = await store.create_recipient(tenant, Recipient(**values), _actor(principal))
        where = {"Location": f"/api/v1/reports/recipients/{made.id}"}
        answer = models.RecipientAnswer.of(made)
        return Answer(answer, 201, where, _recipient_tag(made))

    @api.get(
        "/api/v1/reports/recipients/<uuid:recipient_id>",
        requires=Role.ANALYST,
        answers={200: models.RecipientAnswer},
        etag=True,
        summary="One recipient",
        tag=TAG,
    )
    async def get_recipient(*, principal: Principal, recipient_id: UUID) -> Answer:
        return _recipient_answer(await store.recipient(principal.tenant_id, recipient_id))

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
        present = await store.recipient(tenant, recipient_id)
        require_match(_recipient_tag(present))
        given = {name: getattr(body, name) for name in body.model_fields_set}
        wanted = replace(present, **_without_nulls(given, except_for="location_id"))
        return _recipient_answer(await store.change_recipient(tenant, wanted, _actor(principal)))

    @api.delete(
        "/api/v1/reports/recipients/<uuid:recipient_id>",
        requires=Role.ADMIN,
        answers={204: None},
        summary="Remove a recipient",
        tag=TAG,
    )
    async def delete_recipient(*, principal: Principal, recipient_id: UUID) -> Answer:
        """What became of their mails stays known."""
        await store.delete_recipient(principal.tenant_id, recipient_id, _actor(principal))
        return Answer(None, 204)


def _recipient_tag(recipient: Recipient) -> str:
    return _tag(recipient.id, recipient.version, recipient.suppressed_at, recipient.hard_bounces)


def _recipient_answer(recipient: Recipient) -> Answer:
    return Answer(models.RecipientAnswer.of(recipient), etag=_recipient_tag(recipient))


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
        order = "reports/suppressions"
        place = decode_cursor(query.cursor, order, (str,)) if query.cursor else None
        found, following = await store.suppressions(
            principal.tenant_id, after=None if place is None else str(place[0]), limit=query.limit
        )
        return ListAnswer[models.SuppressionAnswer](
            data=[models.SuppressionAnswer.of(one) for one in found],
            next_cursor=encode_cursor(order, (following,)) if following else None,
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
        await store.suppress(principal.tenant_id, body.address, _actor(principal))
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
        await store.lift(principal.tenant_id, address, _actor(principal))
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
        order = "reports/schedules"
        place = decode_cursor(query.cursor, order, (str,)) if query.cursor else None
        found, following, total = await store.schedules(
            principal.tenant_id, after=None if place is None else str(place[0]), limit=query.limit
        )
        return ListAnswer[models.ScheduleAnswer](
            data=[models.ScheduleAnswer.of(one) for one in found],
            next_cursor=encode_cursor(order, (following,)) if following else None,
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
        made = await store.create_schedule(
            principal.tenant_id,
            ReportSchedule(**_renamed(body.model_dump())),
            _actor(principal),
            now=desk.clock(),
        )
        where = {"Location": f"/api/v1/reports/schedules/{made.id}"}
        answer = models.ScheduleAnswer.of(made)
        return Answer(answer, 201, where, _tag(made.id, made.version))

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
        return _schedule_answer(await store.schedule(principal.tenant_id, report_id))

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
        schedule = await store.schedule(principal.tenant_id, report_id)
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
        present = await store.schedule(tenant, report_id)
        require_match(_tag(present.id, present.version))
        given = _renamed({name: getattr(body, name) for name in body.model_fields_set})
        wanted = replace(present, **_without_nulls(given, except_for="locations"))
        changed = await store.change_schedule(tenant, wanted, _actor(principal), now=desk.clock())
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
        await store.delete_schedule(principal.tenant_id, report_id, _actor(principal))
        return Answer(None, 204)


def _schedule_answer(schedule: ReportSchedule) -> Answer:
    return Answer(models.ScheduleAnswer.of(schedule), etag=_tag(schedule.id, schedule.version))


def _renamed(values: Mapping[str, Any]) -> dict[str, Any]:
    """The API's names with units as the domain's names."""
    names = {"grace_seconds": "grace", "patience_seconds": "patience"}
    return {names.get(name, name): value for name, value in values.items()}


# --- previews ---------------------------------------------------------------------------------


def _declare_previews(api: Api, desk: Desk) -> None:
    @api.get(
        "/api/v1/reports/preview",
        requires=Role.ANALYST,
        query=models.PreviewQuery,
        answers={200: PART},
        summary="A report as it would be sent now",
        tag=TAG,
    )
    async def preview_report(*, principal: Principal, query: models.PreviewQuery) -> Response:
        """Each part is, to the byte, what is sent while the data stays the same."""
        if query.recipient is not None and query.location is not None:
            raise InvalidInput(
                "The preview is not clear.", [("?location", "a recipient has a branch of theirs")]
            )
        sample = Sample(
            query.period, query.day, query.location, query.recipient, query.language, query.notice
        )
        written = await previewing.preview(
            desk.store, desk.press, principal.tenant_id, sample, now=desk.clock()
        )
        return _part(written, query.part)


def _part(written: Written, part: Part) -> Response:
    body = previewing.part_of(written, part)
    headers = {"Cache-Control": "private, no-store", "Content-Security-Policy": _SEALED}
    names = {Part.MAIL: "report.eml", Part.WORKBOOK: written.rendered.workbook_name}
    if part in names:
        headers["Content-Disposition"] = f'attachment; filename="{names[part]}"'
    return Response(body, 200, headers, content_type=CONTENT_TYPES[part])


# --- sending ----------------------------------------------------------------------------------


def _declare_sending(api: Api, desk: Desk) -> None:
    store = desk.store

    @api.post(
        "/api/v1/reports/send",
        requires=Role.ANALYST,
        body=models.SendBody,
        answers={202: models.RunAnswer},
        problems=[429],
        creates=True,
        summary="Send a report at once: to branches, to all, or to yourself as a test",
        tag=TAG,
    )
    async def send_report(*, principal: Principal, body: models.SendBody) -> Answer:
        """Nobody who is suppressed gets it. Follow the run, or cancel it."""
        tenant = principal.tenant_id
        wanted = await _wanted(desk, principal, body)
        run = await send_now(store.database, tenant, wanted, _actor(principal), now=desk.clock())
        answer = models.RunAnswer.of(run, await store.counts(tenant, run.id))
        return Answer(answer, 202, {"Location": f"/api/v1/reports/runs/{run.id}"})

    @api.get(
        "/api/v1/reports/runs",
        requires=Role.VIEWER,
        query=PageQuery,
        answers={200: ListAnswer[models.RunAnswer]},
        summary="Occasions on which reports were sent, newest first",
        tag=TAG,
    )
    async def list_report_runs(
        *, principal: Principal, query: PageQuery
    ) -> ListAnswer[models.RunAnswer]:
        order = "reports/runs"
        found, following = await store.runs(
            principal.tenant_id, before=_place(query.cursor, order), limit=query.limit
        )
        return ListAnswer[models.RunAnswer](
            data=[models.RunAnswer.of(run, counts) for run, counts in found],
            next_cursor=encode_cursor(order, (following,)) if following else None,
        )

    @api.get(
        "/api/v1/reports/runs/<uuid:run_id>",
        requires=Role.VIEWER,
        answers={200: models.RunAnswer},
        summary="One occasion: how far it is",
        tag=TAG,
    )
    async def get_report_run(*, principal: Principal, run_id: UUID) -> models.RunAnswer:
        run = await store.run(principal.tenant_id, run_id)
        return models.RunAnswer.of(run, await store.counts(principal.tenant_id, run_id))

    @api.post(
        "/api/v1/reports/runs/<uuid:run_id>/cancel",
        requires=Role.ANALYST,
        answers={200: models.RunAnswer},
        problems=[409],
        summary="Send nothing more of a run",
        tag=TAG,
    )
    async def cancel_report_run(*, principal: Principal, run_id: UUID) -> models.RunAnswer:
        """Mails that have left stay sent. 409 if it has finished."""
        tenant = principal.tenant_id
        run = await cancel_run(store.database, tenant, run_id, _actor(principal))
        return models.RunAnswer.of(run, await store.counts(tenant, run_id))


async def _wanted(desk: Desk, principal: Principal, body: models.SendBody) -> SendNow:
    days = None
    if body.day is not None:
        look = await desk.store.look(principal.tenant_id)
        days = period_before(body.day, body.period, look.week_start)
    if body.to != "myself":
        if (body.to == "locations") != (body.locations is not None):
            raise InvalidInput(
                "It is not clear who shall get it.",
                [("/locations", 'belongs to "locations", and to nothing else')],
            )
        return SendNow(body.period, days, body.locations, requested_by=principal.name)
    if body.locations is not None and len(body.locations) > 1:
        raise InvalidInput("A test is about one branch.", [("/locations", "at most one")])
    address = await _own_address(desk.store, principal)
    return SendNow(
        body.period,
        days,
        test_address=address,
        test_name=principal.name,
        test_location=body.locations[0] if body.locations else None,
        language=body.language,
        requested_by=principal.name,
    )


async def _own_address(store: ReportStore, principal: Principal) -> str:
    """The address of the person who asks, as their identity provider has told it."""
    row = await store.database.fetch_row(
        QUERIES["member_address"],
        principal.subject_id,
        tenant=principal.tenant_id,
        read_only=True,
    )
    if row is None or not row["email"]:
        raise InvalidInput(
            "Your own address is not known here.",
            [("/to", "your identity provider has told us no address of yours")],
        )
    return str(row["email"])


# --- what became of mails ---------------------------------------------------------------------


def _declare_deliveries(api: Api, desk: Desk) -> None:
    store = desk.store

    @api.get(
        "/api/v1/reports/deliveries",
        requires=Role.ANALYST,
        query=models.DeliveriesQuery,
        answers={200: ListAnswer[models.DeliveryAnswer]},
        summary="Mails and what became of them, newest first",
        tag=TAG,
    )
    async def list_deliveries(
        *, principal: Principal, query: models.DeliveriesQuery
    ) -> ListAnswer[models.DeliveryAnswer]:
        order = f"reports/deliveries {query.run} {query.state}"
        found, following = await store.deliveries(
            principal.tenant_id,
            before=_place(query.cursor, order),
            limit=query.limit,
            run_id=query.run,
            state=query.state,
        )
        return ListAnswer[models.DeliveryAnswer](
            data=[models.DeliveryAnswer.of(one) for one in found],
            next_cursor=encode_cursor(order, (following,)) if following else None,
        )

    @api.get(
        "/api/v1/reports/deliveries/<uuid:delivery_id>",
        requires=Role.ANALYST,
        answers={200: models.DeliveryDetail},
        summary="One mail, with every step of its way",
        tag=TAG,
    )
    async def get_delivery(*, principal: Principal, delivery_id: UUID) -> models.DeliveryDetail:
        return await _detail(store, principal.tenant_id, delivery_id)

    @api.get(
        "/api/v1/reports/deliveries/<uuid:delivery_id>/message",
        requires=Role.ADMIN,
        query=models.MessageQuery,
        answers={200: PART},
        summary="The mail itself, written again",
        tag=TAG,
    )
    async def get_message(
        *, principal: Principal, delivery_id: UUID, query: models.MessageQuery
    ) -> Response:
        """The bytes that were sent, as long as the data has not changed since."""
        written = await previewing.of_delivery(store, desk.press, principal.tenant_id, delivery_id)
        return _part(written, query.part)


def _declare_decisions(api: Api, desk: Desk) -> None:
    store = desk.store

    @api.post(
        "/api/v1/reports/deliveries/<uuid:delivery_id>/send-again",
        requires=Role.ADMIN,
        answers={200: models.DeliveryDetail},
        problems=[409],
        summary="Send a mail again that may have arrived, or that was given up",
        tag=TAG,
    )
    async def send_again(*, principal: Principal, delivery_id: UUID) -> models.DeliveryDetail:
        """It may then arrive twice; that is why a person has to say so."""
        tenant = principal.tenant_id
        await settle_by_hand(store.database, tenant, delivery_id, _actor(principal), again=True)
        return await _detail(store, tenant, delivery_id)

    @api.post(
        "/api/v1/reports/deliveries/<uuid:delivery_id>/take-as-sent",
        requires=Role.ADMIN,
        answers={200: models.DeliveryDetail},
        problems=[409],
        summary="Say that an ambiguous mail has arrived",
        tag=TAG,
    )
    async def take_as_sent(*, principal: Principal, delivery_id: UUID) -> models.DeliveryDetail:
        """Nothing is sent."""
        tenant = principal.tenant_id
        await settle_by_hand(store.database, tenant, delivery_id, _actor(principal), again=False)
        return await _detail(store, tenant, delivery_id)


async def _detail(store: ReportStore, tenant: TenantId, delivery_id: UUID) -> models.DeliveryDetail:
    delivery = await store.delivery(tenant, delivery_id)
    steps = await store.history(tenant, delivery_id)
    return models.DeliveryDetail.with_history(delivery, steps)


# --- unsubscribing ----------------------------------------------------------------------------


def _declare_unsubscribing(api: Api, desk: Desk) -> None:
    pages, database = UnsubscribePages(), desk.store.database
    rule = f"{unsubscribe.PATH}<string:token>"

    @api.get(
        rule,
        requires=Access.PUBLIC,
        answers={200: PAGE},
        problems=[404],
        summary="Ask whether to unsubscribe; changes nothing",
        tag=TAG,
        endpoint="ask_unsubscribe",
    )
    async def ask(*, token: str) -> Response:
        """Mail scanners follow every link."""
        subscription = await unsubscribe.subscription_of(database, token)
        return pages.ask(subscription)

    @api.post(
        rule,
        requires=Access.PUBLIC,
        answers={200: PAGE},
        problems=[404],
        summary="Unsubscribe, in one step (RFC 8058)",
        tag=TAG,
        endpoint="do_unsubscribe",
    )
    async def do(*, token: str) -> Response:
        """Whatever the body is: mail programs send `List-Unsubscribe=One-Click`."""
        subscription = await unsubscribe.subscription_of(database, token)
        await unsubscribe.unsubscribe(database, subscription)
        return pages.done(subscription)


# --- common -----------------------------------------------------------------------------------


def _tag(*parts: object) -> str:
    return entity_tag("report", *parts)


def _place(cursor: str | None, order: str) -> UUID | None:
    return None if not cursor else cast("UUID", decode_cursor(cursor, order, (UUID,))[0])


def _without_nulls(values: Mapping[str, Any], *, except_for: str) -> dict[str, Any]:
    """What was given; null says nothing but where it has a meaning."""
    return {
        name: value for name, value in values.items() if value is not None or name == except_for
    }


def _actor(principal: Principal) -> Actor:
    """Who is acting, for the audit log."""
    if principal.kind == "session":
        return "user", principal.subject_id
    return "token", cast("ResolvedPrincipal", principal).credential_id
