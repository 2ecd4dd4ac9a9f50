"""Sending reports over HTTP: previews, sending now, what became of each mail, deciding."""

from typing import Final
from uuid import UUID

from quart import Response

from troupe.actors.analytics.reports import previewing
from troupe.actors.analytics.reports.periods import period_before
from troupe.actors.analytics.reports.planning import (
    SendNow,
    cancel_run,
    send_now,
    settle_by_hand,
)
from troupe.actors.analytics.reports.previewing import CONTENT_TYPES, Part, Sample
from troupe.actors.analytics.reports.statements import QUERIES
from troupe.actors.analytics.reports.store import ReportStore
from troupe.actors.analytics.reports.writing import Written
from troupe.common.errors import InvalidInput
from troupe.common.ids import TenantId
from troupe.http import reports_models as models
from troupe.http.conventions import ListAnswer, PageQuery
from troupe.http.declaration import Answer, Media
from troupe.http.principal import Principal, Role
from troupe.http.report_desk import TAG, Desk, Walk, actor_of
from troupe.http.routes import Api

PART: Final = Media("*/*", "A part of the mail, with the type that it has there.")
_SEALED: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox; frame-ancestors 'self'"
)
"""A preview is a mail: nothing in it may run or load, whatever a tenant has put into it. The
dashboard shows it in a frame."""


def declare(api: Api, desk: Desk) -> None:
    """Declare the routes of previews, runs and deliveries."""
    _declare_previews(api, desk)
    _declare_sending(api, desk)
    _declare_deliveries(api, desk)
    _declare_decisions(api, desk)


# --- previews ---------------------------------------------------------------------------------


def _declare_previews(api: Api, desk: Desk) -> None:
    @api.get(
        "/api/v1/reports/preview",
        requires=Role.ANALYST,
        query=models.PreviewQuery,
        answers={200: PART},
        problems=[404],
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
    headers = {
        "Cache-Control": "private, no-store",
        "Content-Security-Policy": _SEALED,
        "X-Frame-Options": "SAMEORIGIN",
    }
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
        run = await send_now(store.database, tenant, wanted, actor_of(principal), now=desk.clock())
        answer = models.RunAnswer.of(run, await store.runs.counts(tenant, run.id))
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
        walk = Walk("reports/runs", UUID)
        found, following = await store.runs.page(
            principal.tenant_id, before=walk.place(query.cursor), limit=query.limit
        )
        return ListAnswer[models.RunAnswer](
            data=[models.RunAnswer.of(run, counts) for run, counts in found],
            next_cursor=walk.cursor(following),
        )

    @api.get(
        "/api/v1/reports/runs/<uuid:run_id>",
        requires=Role.VIEWER,
        answers={200: models.RunAnswer},
        summary="One occasion: how far it is",
        tag=TAG,
    )
    async def get_report_run(*, principal: Principal, run_id: UUID) -> models.RunAnswer:
        run = await store.runs.one(principal.tenant_id, run_id)
        return models.RunAnswer.of(run, await store.runs.counts(principal.tenant_id, run_id))

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
        run = await cancel_run(store.database, tenant, run_id, actor_of(principal))
        return models.RunAnswer.of(run, await store.runs.counts(tenant, run_id))


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
        walk = Walk(f"reports/deliveries {query.run} {query.state}", UUID)
        found, following = await store.deliveries.page(
            principal.tenant_id,
            before=walk.place(query.cursor),
            limit=query.limit,
            run_id=query.run,
            state=query.state,
        )
        return ListAnswer[models.DeliveryAnswer](
            data=[models.DeliveryAnswer.of(one) for one in found],
            next_cursor=walk.cursor(following),
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

    async def decided(
        principal: Principal, delivery_id: UUID, *, again: bool
    ) -> models.DeliveryDetail:
        tenant = principal.tenant_id
        await settle_by_hand(store.database, tenant, delivery_id, actor_of(principal), again=again)
        return await _detail(store, tenant, delivery_id)

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
        return await decided(principal, delivery_id, again=True)

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
        return await decided(principal, delivery_id, again=False)


async def _detail(store: ReportStore, tenant: TenantId, delivery_id: UUID) -> models.DeliveryDetail:
    delivery = await store.deliveries.one(tenant, delivery_id)
    steps = await store.deliveries.history(tenant, delivery_id)
    return models.DeliveryDetail.with_history(delivery, steps)
