"""Schedules over HTTP: make, change, pause and delete them, look ahead and back.

A tenant's people schedule what a group offers (`SchedulableKind`) and nothing else, not more often
than every five minutes, and only so many: a schedule works at night, unasked, at the expense of
everybody who shares the installation. Analysts may start jobs; what goes on by itself is an
administrator's to decide.

An entity tag names what people wrote and what keeps it from working; the next run, which changes by
itself, is only in the list and in ``/next``.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Final
from uuid import UUID

from troupe.common.database import Database
from troupe.common.errors import InvalidInput, NotFound
from troupe.common.ids import TenantId
from troupe.common.sql import load
from troupe.http import schedules_models as models
from troupe.http.conventions import ListAnswer, PageQuery, entity_tag, require_match
from troupe.http.credentials import who_acts
from troupe.http.declaration import Answer
from troupe.http.principal import Principal, Role
from troupe.http.routes import Api
from troupe.platform.schedules import (
    CronTimetable,
    NewSchedule,
    SchedulableKinds,
    Schedule,
    ScheduleChange,
    ScheduleStore,
    check_interval,
    read_timetable,
    schedulable,
    upcoming,
)

TAG: Final = "schedules"
_ZONE: Final = load(__package__, "schedules.sql")["reporting_zone"]

Clock = Callable[[], datetime]


def declare(
    api: Api, database: Database, *, kinds: SchedulableKinds, most: int, clock: Clock
) -> None:
    """Declare the routes of schedules.

    Args:
        api: Of the application.
        database: The group's pool.
        kinds: What may be scheduled.
        most: Schedules that a tenant may have.
        clock: The present instant.
    """
    _declare_looking(api, database, ScheduleStore(database), kinds, clock)
    _declare_changing(api, database, kinds, most, clock)


def _declare_looking(
    api: Api, database: Database, store: ScheduleStore, kinds: SchedulableKinds, clock: Clock
) -> None:
    @api.get(
        "/api/v1/schedules",
        requires=Role.VIEWER,
        query=PageQuery,
        answers={200: ListAnswer[models.ListedSchedule]},
        summary="Schedules, by name",
        tag=TAG,
    )
    async def list_schedules(
        *, principal: Principal, query: PageQuery
    ) -> ListAnswer[models.ListedSchedule]:
        page = await store.list(principal.tenant_id, cursor=query.cursor, limit=query.limit)
        now = clock()
        return ListAnswer[models.ListedSchedule](
            data=[models.ListedSchedule.with_next(one, _next_run(one, now)) for one in page.data],
            next_cursor=page.next_cursor,
            total=page.total,
        )

    @api.get(
        "/api/v1/schedules/kinds",
        requires=Role.VIEWER,
        answers={200: models.KindsAnswer},
        summary="What may be scheduled",
        tag=TAG,
    )
    async def list_kinds() -> models.KindsAnswer:
        return models.KindsAnswer(
            data=[
                models.KindAnswer(
                    kind=name, summary=kind.summary, arguments=kind.arguments.model_json_schema()
                )
                for name, kind in sorted(kinds.items())
            ]
        )

    @api.get(
        "/api/v1/schedules/preview",
        requires=Role.VIEWER,
        query=models.PreviewQuery,
        answers={200: models.RunsAnswer},
        summary="When a line would be due",
        tag=TAG,
    )
    async def preview(*, principal: Principal, query: models.PreviewQuery) -> models.RunsAnswer:
        zone = query.zone or await _reporting_zone(database, principal.tenant_id)
        try:
            timetable = CronTimetable(query.cron, zone)
            runs = upcoming(timetable, query.after or clock(), query.count)
        except InvalidInput as error:
            pointers = [(pointer.replace("/", "?", 1), text) for pointer, text in error.errors]
            raise InvalidInput(str(error), pointers) from None
        return models.RunsAnswer(data=runs, zone=zone)

    @api.get(
        "/api/v1/schedules/<uuid:schedule_id>",
        requires=Role.VIEWER,
        answers={200: models.ScheduleAnswer},
        etag=True,
        summary="One schedule",
        tag=TAG,
    )
    async def get_schedule(*, principal: Principal, schedule_id: UUID) -> Answer:
        return _answer(await store.get(principal.tenant_id, schedule_id))

    @api.get(
        "/api/v1/schedules/<uuid:schedule_id>/next",
        requires=Role.VIEWER,
        query=models.NextQuery,
        answers={200: models.RunsAnswer},
        summary="When a schedule runs next",
        tag=TAG,
    )
    async def next_runs(
        *, principal: Principal, schedule_id: UUID, query: models.NextQuery
    ) -> models.RunsAnswer:
        schedule = await store.get(principal.tenant_id, schedule_id)
        runs = await store.upcoming(principal.tenant_id, schedule_id, query.count)
        return models.RunsAnswer(data=runs, zone=schedule.zone)

    @api.get(
        "/api/v1/schedules/<uuid:schedule_id>/slots",
        requires=Role.VIEWER,
        query=PageQuery,
        answers={200: ListAnswer[models.SlotAnswer]},
        summary="What became of a schedule's slots, latest first",
        tag=TAG,
    )
    async def list_slots(
        *, principal: Principal, schedule_id: UUID, query: PageQuery
    ) -> ListAnswer[models.SlotAnswer]:
        page = await store.slots(
            principal.tenant_id, schedule_id, cursor=query.cursor, limit=query.limit
        )
        return ListAnswer[models.SlotAnswer](
            data=[models.SlotAnswer.of(slot) for slot in page.data],
            next_cursor=page.next_cursor,
            total=page.total,
        )


def _declare_changing(
    api: Api,
    database: Database,
    kinds: SchedulableKinds,
    most: int,
    clock: Clock,
) -> None:
    def store_of(principal: Principal) -> ScheduleStore:
        return ScheduleStore(database, who_acts(principal))

    @api.post(
        "/api/v1/schedules",
        requires=Role.ADMIN,
        body=models.NewScheduleBody,
        answers={201: models.ScheduleAnswer},
        problems=[409],
        creates=True,
        summary="Make a schedule",
        tag=TAG,
    )
    async def create_schedule(*, principal: Principal, body: models.NewScheduleBody) -> Answer:
        """Its first slot is the first one after this moment. 409 if there are too many."""
        tenant = principal.tenant_id
        kind = schedulable(kinds, body.kind)
        zone = body.zone or await _reporting_zone(database, tenant)
        new = NewSchedule(
            name=body.name,
            group=kind.group,
            kind=kind.kind,
            arguments=kind.checked(body.arguments),
            cron=body.cron,
            zone=zone,
            policy=body.policy,
            grace=body.grace_seconds,
            catch_up_limit=body.catch_up_limit,
            enabled=body.enabled,
        )
        check_interval(new.cron, new.zone, clock())
        schedule = await store_of(principal).create(tenant, new, most=most)
        where = {"Location": f"/api/v1/schedules/{schedule.id}"}
        return Answer(models.ScheduleAnswer.of(schedule), 201, where, tag_of(schedule))

    @api.patch(
        "/api/v1/schedules/<uuid:schedule_id>",
        requires=Role.ADMIN,
        body=models.ScheduleBody,
        answers={200: models.ScheduleAnswer},
        problems=[409],
        etag=True,
        if_match=True,
        summary="Change a schedule",
        tag=TAG,
    )
    async def change_schedule(
        *, principal: Principal, schedule_id: UUID, body: models.ScheduleBody
    ) -> Answer:
        """Another line or zone, and switching it on, count from this moment."""
        tenant = principal.tenant_id
        store = store_of(principal)
        present = await store.get(tenant, schedule_id)
        require_match(tag_of(present))
        arguments = None
        if body.arguments is not None:
            arguments = schedulable(kinds, present.kind).checked(body.arguments)
        if body.cron is not None or body.zone is not None:
            check_interval(body.cron or present.cron, body.zone or present.zone, clock())
        change = ScheduleChange(
            name=body.name,
            arguments=arguments,
            cron=body.cron,
            zone=body.zone,
            policy=body.policy,
            grace=body.grace_seconds,
            catch_up_limit=body.catch_up_limit,
            enabled=body.enabled,
        )
        return _answer(await store.change(tenant, schedule_id, change, version=present.version))

    @api.post(
        "/api/v1/schedules/<uuid:schedule_id>/pause",
        requires=Role.ADMIN,
        answers={200: models.ScheduleAnswer},
        summary="Let a schedule rest",
        tag=TAG,
    )
    async def pause_schedule(*, principal: Principal, schedule_id: UUID) -> Answer:
        """Jobs that it has made stay. Pausing again does no harm."""
        return _answer(await store_of(principal).disable(principal.tenant_id, schedule_id))

    @api.post(
        "/api/v1/schedules/<uuid:schedule_id>/resume",
        requires=Role.ADMIN,
        answers={200: models.ScheduleAnswer},
        summary="Let a schedule run again, from this moment",
        tag=TAG,
    )
    async def resume_schedule(*, principal: Principal, schedule_id: UUID) -> Answer:
        """Slots while it rested never happen."""
        return _answer(await store_of(principal).enable(principal.tenant_id, schedule_id))

    @api.delete(
        "/api/v1/schedules/<uuid:schedule_id>",
        requires=Role.ADMIN,
        answers={204: None},
        summary="Delete a schedule and the history of its slots",
        tag=TAG,
    )
    async def delete_schedule(*, principal: Principal, schedule_id: UUID) -> Answer:
        """Jobs that it has made stay."""
        await store_of(principal).delete(principal.tenant_id, schedule_id)
        return Answer(None, 204)


def tag_of(schedule: Schedule) -> str:
    """A schedule's entity tag."""
    return entity_tag("schedule", schedule.id, schedule.version, schedule.problem)


def _answer(schedule: Schedule) -> Answer:
    return Answer(models.ScheduleAnswer.of(schedule), etag=tag_of(schedule))


def _next_run(schedule: Schedule, now: datetime) -> datetime | None:
    if not schedule.enabled:
        return None
    try:
        timetable = read_timetable(schedule.cron, schedule.zone)
    except InvalidInput:
        return None  # its problem says why
    return next(iter(upcoming(timetable, now, 1)), None)


async def _reporting_zone(database: Database, tenant: TenantId) -> str:
    zone = await database.fetch_value(_ZONE, tenant, tenant=tenant, read_only=True)
    if zone is None:
        raise NotFound("There is no such tenant.")
    return str(zone)
