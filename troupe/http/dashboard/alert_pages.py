"""The pages of alerts: what somebody wants to be told of, and what has been told."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from troupe.actors.analytics.alerts import COMPARING, MOST_ALERTS, Alert, AlertKind, Alerts
from troupe.actors.analytics.answers import Answers
from troupe.actors.analytics.metrics import METRICS, Unit
from troupe.http.alert_models import AlarmAnswer, tag_of
from troupe.http.conventions import MAX_LIMIT, QueryModel
from troupe.http.dashboard import formats
from troupe.http.dashboard.frame import PAGE, Frame
from troupe.http.dashboard.settings_pages import SECTION, tabs_for
from troupe.http.declaration import Answer
from troupe.http.principal import Principal, Role
from troupe.http.routes import Api

ALARMS_SHOWN: Final = 50

KIND_WORDS: Final[Mapping[AlertKind, tuple[str, str]]] = {
    AlertKind.DROP: ("Drop", "A figure is well below what is usual on that weekday."),
    AlertKind.SPIKE: ("Spike", "A figure is well above what is usual on that weekday."),
    AlertKind.STALE_DATA: ("Late data", "The last complete day ended too long ago."),
    AlertKind.FAILED_LOAD: ("Failed load", "A day has rows that could not be loaded."),
}


class NewAlertQuery(QueryModel):
    """What kind of alert to fill in."""

    kind: AlertKind = AlertKind.DROP
    """Its kind, which stays."""


def sentence(alert: Alert, branches: Mapping[str, str]) -> str:
    """What an alert tells, in a sentence."""
    wish, percent = alert.wish, _number(alert.wish.threshold)
    if alert.kind is AlertKind.FAILED_LOAD:
        return "A day could not be loaded."
    if alert.kind is AlertKind.STALE_DATA:
        return f"The last complete day ended more than {percent} hours ago."
    metric = METRICS.get(wish.metric or "")
    title = metric.title if metric else wish.metric
    how = "above" if alert.kind is AlertKind.SPIKE else "below"
    where = ""
    if wish.location_id is not None:
        where = f" in {branches.get(wish.location_id, wish.location_id) or 'no known branch'}"
    least = f", where {_number(wish.least)} or more is usual" if wish.least else ""
    return f"{title}{where} is {percent}% {how} what is usual{least}."


def _number(value: Decimal | None) -> str:
    if value is None:
        return ""
    whole = value.quantize(Decimal(1)) if value == value.to_integral_value() else value.normalize()
    return formats.figure(whole, Unit.COUNT, "")


def declare(api: Api, frame: Frame, answers: Answers, alerts: Alerts) -> None:
    """Declare the pages.

    Args:
        api: Of the analytics group's application.
        frame: Renders them.
        answers: Knows the branches.
        alerts: To be read.
    """

    async def branches_of(principal: Principal) -> Mapping[str, str]:
        page = await answers.locations(principal.tenant_id, after=None, limit=MAX_LIMIT)
        return {one.location_id: one.name for one in page.locations}

    async def render(
        principal: Principal, template: str, *, alert: Alert | None, kind: AlertKind, **more: Any
    ) -> Answer:
        return await frame.page(
            template,
            section=SECTION,
            principal=principal,
            tabs=tabs_for(principal.role),
            kinds=KIND_WORDS,
            kind=kind,
            compares=kind in COMPARING,
            alert=alert,
            etag=None if alert is None else tag_of(alert),
            metrics=[(one.name, one.title) for one in METRICS.values()],
            may_change=principal.role >= Role.ADMIN,
            **more,
        )

    @api.get(
        "/settings/alerts",
        requires=Role.VIEWER,
        answers={200: PAGE},
        summary="The page of alerts",
    )
    async def alerts_page(*, principal: Principal) -> Answer:
        branches = await branches_of(principal)
        found = await alerts.page(principal.tenant_id, after=None, limit=MOST_ALERTS)
        told = []
        for alert in found:
            last = await alerts.alarms(principal.tenant_id, alert.alert_id, after=None, limit=1)
            alarm = AlarmAnswer.of(alert.kind, last[0]) if last else None
            told.append((alert, sentence(alert, branches), alarm))
        return await render(
            principal, "alerts.html", alert=None, kind=AlertKind.DROP, alerts=told, most=MOST_ALERTS
        )

    @api.get(
        "/settings/alerts/new",
        requires=Role.ADMIN,
        query=NewAlertQuery,
        answers={200: PAGE},
        summary="The page on which an alert is made",
    )
    async def new_alert_page(*, principal: Principal, query: NewAlertQuery) -> Answer:
        branches = await branches_of(principal)
        return await render(
            principal, "alert.html", alert=None, kind=query.kind, branches=branches, alarms=[]
        )

    @api.get(
        "/settings/alerts/<uuid:alert_id>",
        requires=Role.VIEWER,
        answers={200: PAGE},
        summary="The page of one alert, with what it has told",
    )
    async def alert_page(*, principal: Principal, alert_id: UUID) -> Answer:
        alert = await alerts.get(principal.tenant_id, alert_id)
        branches = await branches_of(principal)
        found = await alerts.alarms(principal.tenant_id, alert_id, after=None, limit=ALARMS_SHOWN)
        return await render(
            principal,
            "alert.html",
            alert=alert,
            kind=alert.kind,
            branches=branches,
            alarms=[AlarmAnswer.of(alert.kind, alarm) for alarm in found],
            sentence=sentence(alert, branches),
        )
