"""What the routes of alerts take and answer."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Final, Self
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from troupe.actors.analytics.alarms import is_trial, sentence_of
from troupe.actors.analytics.alerts import COMPARING, Alarm, Alert, AlertKind, Wish
from troupe.common.errors import InvalidInput
from troupe.http.analytics_models import MetricName
from troupe.http.conventions import AnswerModel, BodyModel, entity_tag

MAX_EMAILS: Final = 10
MAX_PERCENT: Final = 100_000
MAX_HOURS: Final = 24 * 90
_MAX_URL: Final = 2000
_EMAIL: Final = (
    r"^[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*@[A-Za-z0-9.-]+$"
)


def _one_line(text: str) -> str:
    if text != " ".join(text.split()):
        raise PydanticCustomError("not_one_line", "must be one line without space around it")
    return text


def _web_address(text: str) -> str:
    parts = urlsplit(text)
    plain = text.isascii() and text.isprintable() and " " not in text and parts.port != 0
    if not plain or parts.scheme not in {"https", "http"} or not parts.hostname or parts.username:
        raise PydanticCustomError("not_a_web_address", "must be an https address without a name")
    return text


Name = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_one_line)]
Email = Annotated[str, Field(min_length=3, max_length=320, pattern=_EMAIL)]
Emails = Annotated[tuple[Email, ...], Field(max_length=MAX_EMAILS)]
WebAddress = Annotated[str, Field(max_length=_MAX_URL), AfterValidator(_web_address)]
Threshold = Annotated[Decimal, Field(gt=0, le=MAX_PERCENT, max_digits=20)]
Least = Annotated[Decimal, Field(ge=0, le=10**12, max_digits=30)]
Branch = Annotated[str, Field(max_length=256)]


class NewAlertBody(BodyModel):
    """An alert to make."""

    name: Name
    """Unique within the tenant."""
    kind: AlertKind
    """`spike`, `drop`, `stale_data` or `failed_load`."""
    metric: MetricName | None = None
    """Of spikes and drops, which need one."""
    location_id: Branch | None = None
    """Of spikes and drops: only this branch (empty: sessions without one); null: all."""
    threshold: Threshold | None = None
    """Spikes and drops: percent above or below what is usual. Stale data: hours since the end of
    the last complete day. Not of failed loads."""
    least: Least = Decimal(0)
    """Spikes and drops: nothing is told while what is usual is less."""
    emails: Emails = ()
    """Written to over the tenant's mail server."""
    webhook_url: WebAddress | None = None
    """Posted to, signed."""
    enabled: bool = True

    def wish(self) -> Wish:
        """For the domain.

        Raises:
            InvalidInput: The fields do not fit the kind, or nobody would be told.
        """
        return checked(
            self.kind,
            Wish(
                self.name,
                self.metric,
                self.location_id,
                self.threshold,
                self.least,
                self.emails,
                self.webhook_url,
                self.enabled,
            ),
        )


class AlertBody(BodyModel):
    """What to change of an alert; what is not given stays. Its kind stays in any case."""

    name: Name | None = None
    metric: MetricName | None = None
    location_id: Branch | None = None
    """Null: all branches."""
    threshold: Threshold | None = None
    least: Least | None = None
    emails: Emails | None = None
    webhook_url: WebAddress | None = None
    """Null: nowhere. Another address comes with another secret."""
    enabled: bool | None = None

    def wish(self, present: Alert) -> Wish:
        """What the alert shall be; errors as for `NewAlertBody.wish`."""
        emptied = {"location_id", "webhook_url"}
        values: dict[str, Any] = {
            name: getattr(self, name)
            if name in self.model_fields_set
            and (name in emptied or getattr(self, name) is not None)
            else getattr(present.wish, name)
            for name in Wish.__slots__
        }
        return checked(present.kind, Wish(**values))


def checked(kind: AlertKind, wish: Wish) -> Wish:
    """The wish, if it fits the kind.

    Raises:
        InvalidInput: It does not; or nobody would be told.
    """
    wrong: list[tuple[str, str]] = []
    compares = kind in COMPARING
    if compares and wish.metric is None:
        wrong.append(("/metric", f"is needed of {kind}"))
    if not compares and wish.metric is not None:
        wrong.append(("/metric", f"is not known of {kind}"))
    if not compares and wish.location_id is not None:
        wrong.append(("/location_id", f"is not known of {kind}"))
    if kind is AlertKind.FAILED_LOAD:
        if wish.threshold is not None:
            wrong.append(("/threshold", f"is not known of {kind}"))
    elif wish.threshold is None:
        wrong.append(("/threshold", f"is needed of {kind}"))
    elif kind is AlertKind.STALE_DATA and wish.threshold > MAX_HOURS:
        wrong.append(("/threshold", f"must be at most {MAX_HOURS} hours"))
    elif kind is AlertKind.DROP and wish.threshold > 100:
        wrong.append(("/threshold", "must be at most 100 percent"))
    if not wish.emails and wish.webhook_url is None:
        wrong.append(("/emails", "somebody must be told: by e-mail or by webhook"))
    if wrong:
        raise InvalidInput("The alert is not valid.", wrong)
    return wish


class AlertAnswer(AnswerModel):
    """An alert."""

    id: UUID
    name: str
    kind: AlertKind
    metric: str | None
    location_id: str | None
    threshold: Decimal | None
    least: Decimal
    emails: list[str]
    webhook_url: str | None
    enabled: bool
    version: int
    created_at: datetime
    changed_at: datetime

    @classmethod
    def fields_of(cls, alert: Alert) -> Mapping[str, Any]:
        """From the domain's alert."""
        wish = {name: getattr(alert.wish, name) for name in Wish.__slots__}
        return {
            **wish,
            "emails": list(alert.wish.emails),
            "id": alert.alert_id,
            "kind": alert.kind,
            "version": alert.version,
            "created_at": alert.created_at,
            "changed_at": alert.changed_at,
        }

    @classmethod
    def of(cls, alert: Alert) -> Self:
        """From the domain's alert."""
        return cls(**cls.fields_of(alert))


class WrittenAlert(AlertAnswer):
    """An alert that was made or changed."""

    webhook_secret: str | None
    """Signs what is posted (Standard Webhooks). Told only when the address is new; keep it."""

    @classmethod
    def with_secret(cls, alert: Alert, secret: str | None) -> "WrittenAlert":
        """From the domain's alert and its new secret."""
        return cls(**cls.fields_of(alert), webhook_secret=secret)


class AlarmMessage(AnswerModel):
    """To whom an alarm is told, and what became of that."""

    channel: str
    recipient: str
    state: str
    """`waiting`, `sent` or `failed`."""
    attempts: int
    problem: str | None


class AlarmAnswer(AnswerModel):
    """What an alert has told."""

    id: UUID
    text: str
    """In a sentence."""
    raised_at: datetime
    resolved_at: datetime | None
    """Of a failed load: when it turned out to be loaded after all."""
    facts: dict[str, Any]
    test: bool
    """Whether somebody has tried the alert; then nothing had happened."""
    messages: list[AlarmMessage]

    @classmethod
    def of(cls, kind: AlertKind, alarm: Alarm) -> "AlarmAnswer":
        """From the domain's alarm."""
        return cls(
            id=alarm.alarm_id,
            text=sentence_of(kind, alarm.facts),
            raised_at=alarm.raised_at,
            resolved_at=alarm.resolved_at,
            facts=dict(alarm.facts),
            test=is_trial(alarm.facts),
            messages=[AlarmMessage(**message) for message in alarm.messages],
        )


class AlertTestAnswer(AnswerModel):
    """What became of a test."""

    works: bool
    """Whether it was taken everywhere."""
    message: str
    """In a sentence."""
    alarm: AlarmAnswer
    """As it stands among what the alert has told."""

    @classmethod
    def of(cls, kind: AlertKind, alarm: Alarm) -> "AlertTestAnswer":
        """From the domain's alarm."""
        told = AlarmAnswer.of(kind, alarm)
        missed = [one for one in told.messages if one.state != "sent"]
        return cls(works=not missed, message=_outcome(told.messages, missed), alarm=told)


def _outcome(messages: Sequence[AlarmMessage], missed: Sequence[AlarmMessage]) -> str:
    if not missed:
        if len(messages) == 1:
            return f"The test was taken for {messages[0].recipient}."
        return f"The test was taken for all {len(messages)} receivers."
    alone = len(messages) == 1
    how_many = "The receiver" if alone else f"{len(missed)} of {len(messages)} receivers"
    verb = "were" if len(missed) > 1 else "was"
    why = missed[0].problem or "The reason is not known."
    return f"{how_many} {verb} not reached. {missed[0].recipient}: {why}"


def tag_of(alert: Alert) -> str:
    """An alert's entity tag."""
    return entity_tag("alert", alert.alert_id, alert.version)
