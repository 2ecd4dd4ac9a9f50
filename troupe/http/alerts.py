"""Alerts over HTTP: what somebody wants to be told of, and what has been told.

Who may look at figures may look at alerts; making them is an administrator's, since they write to
addresses outside.
"""

from datetime import datetime
from typing import Final, cast
from uuid import UUID

from troupe.actors.analytics.alerts import Alerts
from troupe.actors.analytics.trials import Trials
from troupe.common.units import SECONDS
from troupe.http import alert_models as models
from troupe.http.conventions import (
    ListAnswer,
    PageQuery,
    decode_cursor,
    encode_cursor,
    require_match,
)
from troupe.http.credentials import who_acts
from troupe.http.declaration import Answer
from troupe.http.principal import Principal, Role
from troupe.http.routes import Api

TAG: Final = "alerts"
TEST_DEADLINE: Final = 25 * SECONDS
"""Longer than all receivers together may take."""
_BY_NAME: Final = "alerts"
_ALARMS: Final = "alarms"


def declare(api: Api, alerts: Alerts, trials: Trials) -> None:
    """Declare the routes of alerts.

    Args:
        api: Of the application.
        alerts: To be read and written.
        trials: Sends tests.
    """
    _declare_looking(api, alerts)
    _declare_changing(api, alerts)

    @api.post(
        "/api/v1/alerts/<uuid:alert_id>/test",
        requires=Role.ADMIN,
        answers={200: models.AlertTestAnswer},
        problems=[429],
        deadline=TEST_DEADLINE,
        summary="Send a test to everybody whom an alert tells",
        tag=TAG,
    )
    async def test_alert(*, principal: Principal, alert_id: UUID) -> models.AlertTestAnswer:
        """It really writes and posts, as saved, also while the alert is switched off.

        Answers once everybody was tried, after 15 seconds at the latest; what did not work is not
        tried again. A webhook gets the type `alert.test`. So often an hour, then 429.
        """
        alert = await alerts.get(principal.tenant_id, alert_id)
        alarm = await trials.send(principal.tenant_id, alert, who_acts(principal))
        return models.AlertTestAnswer.of(alert.kind, alarm)


def _declare_looking(api: Api, alerts: Alerts) -> None:
    @api.get(
        "/api/v1/alerts",
        requires=Role.VIEWER,
        query=PageQuery,
        answers={200: ListAnswer[models.AlertAnswer]},
        summary="Alerts, by name",
        tag=TAG,
    )
    async def list_alerts(
        *, principal: Principal, query: PageQuery
    ) -> ListAnswer[models.AlertAnswer]:
        after = None
        if query.cursor:
            after = cast("tuple[str, UUID]", decode_cursor(query.cursor, _BY_NAME, (str, UUID)))
        found = await alerts.page(principal.tenant_id, after=after, limit=query.limit + 1)
        page = found[: query.limit]
        cursor = None
        if len(found) > len(page):
            cursor = encode_cursor(_BY_NAME, [page[-1].wish.name, page[-1].alert_id])
        return ListAnswer[models.AlertAnswer](
            data=[models.AlertAnswer.of(alert) for alert in page], next_cursor=cursor
        )

    @api.get(
        "/api/v1/alerts/<uuid:alert_id>",
        requires=Role.VIEWER,
        answers={200: models.AlertAnswer},
        etag=True,
        summary="One alert",
        tag=TAG,
    )
    async def get_alert(*, principal: Principal, alert_id: UUID) -> Answer:
        alert = await alerts.get(principal.tenant_id, alert_id)
        return Answer(models.AlertAnswer.of(alert), etag=models.tag_of(alert))

    @api.get(
        "/api/v1/alerts/<uuid:alert_id>/alarms",
        requires=Role.VIEWER,
        query=PageQuery,
        answers={200: ListAnswer[models.AlarmAnswer]},
        summary="What an alert has told, latest first",
        tag=TAG,
    )
    async def list_alarms(
        *, principal: Principal, alert_id: UUID, query: PageQuery
    ) -> ListAnswer[models.AlarmAnswer]:
        alert = await alerts.get(principal.tenant_id, alert_id)
        after = None
        if query.cursor:
            place = decode_cursor(query.cursor, _ALARMS, (datetime, UUID))
            after = cast("tuple[datetime, UUID]", place)
        found = await alerts.alarms(
            principal.tenant_id, alert_id, after=after, limit=query.limit + 1
        )
        page = found[: query.limit]
        cursor = None
        if len(found) > len(page):
            cursor = encode_cursor(_ALARMS, [page[-1].raised_at, page[-1].alarm_id])
        return ListAnswer[models.AlarmAnswer](
            data=[models.AlarmAnswer.of(alert.kind, alarm) for alarm in page], next_cursor=cursor
        )


def _declare_changing(api: Api, alerts: Alerts) -> None:
    @api.post(
        "/api/v1/alerts",
        requires=Role.ADMIN,
        body=models.NewAlertBody,
        answers={201: models.WrittenAlert},
        problems=[409],
        summary="Make an alert",
        tag=TAG,
    )
    async def create_alert(*, principal: Principal, body: models.NewAlertBody) -> Answer:
        """409 if another alert has the name, or there are too many.

        A repetition meets its own name, so nothing is made twice. Its answer holds a secret, which
        is why it is not kept for an idempotency key.
        """
        alert, secret = await alerts.add(
            principal.tenant_id, body.kind, body.wish(), who_acts(principal)
        )
        where = {"Location": f"/api/v1/alerts/{alert.alert_id}"}
        return Answer(
            models.WrittenAlert.with_secret(alert, secret), 201, where, models.tag_of(alert)
        )

    @api.patch(
        "/api/v1/alerts/<uuid:alert_id>",
        requires=Role.ADMIN,
        body=models.AlertBody,
        answers={200: models.WrittenAlert},
        problems=[409],
        etag=True,
        if_match=True,
        summary="Change an alert",
        tag=TAG,
    )
    async def change_alert(
        *, principal: Principal, alert_id: UUID, body: models.AlertBody
    ) -> Answer:
        """409 if another alert has the name."""
        present = await alerts.get(principal.tenant_id, alert_id)
        require_match(models.tag_of(present))
        alert, secret = await alerts.change(
            principal.tenant_id, present, body.wish(present), who_acts(principal)
        )
        return Answer(models.WrittenAlert.with_secret(alert, secret), etag=models.tag_of(alert))

    @api.delete(
        "/api/v1/alerts/<uuid:alert_id>",
        requires=Role.ADMIN,
        answers={204: None},
        summary="Delete an alert with all that it has told",
        tag=TAG,
    )
    async def delete_alert(*, principal: Principal, alert_id: UUID) -> Answer:
        await alerts.delete(principal.tenant_id, alert_id, who_acts(principal))
        return Answer(None, 204)
