"""What the routes about running a tenant take and answer: members, settings, tests, erasure."""

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field, StringConstraints

from troupe.actors.auth.erasure import MAX_IDENTIFIER, MAX_IDENTIFIERS
from troupe.actors.auth.members import Role
from troupe.common.connections import ConnectionKind
from troupe.http.conventions import AnswerModel, BodyModel
from troupe.platform.jobs import Job, JobState

Identifier = Annotated[
    str, StringConstraints(min_length=1, max_length=MAX_IDENTIFIER, pattern=r"^[^\x00-\x1f\x7f]+$")
]


class InvitationBody(BodyModel):
    """A person who may come in before they have logged in for the first time."""

    provider_id: UUID
    """The tenant's identity provider that knows them."""
    subject: Identifier
    """What that provider calls them (`sub`); not an address, since addresses change hands."""
    role: Role
    """At most the caller's own."""
    email: Annotated[str, StringConstraints(max_length=320)] | None = None
    """For people to recognise them by, until they log in."""
    name: Annotated[str, StringConstraints(max_length=200)] = ""
    """Likewise."""


class RoleBody(BodyModel):
    """What a member shall be."""

    role: Role
    """At most the caller's own."""


class SettingsBody(BodyModel):
    """What to change; names and bounds are in the guide, what is left out stays."""

    settings: Annotated[dict[str, Any], Field(max_length=100)]
    """Only those that change."""


class AuditVerdictAnswer(AnswerModel):
    """Whether the audit log is as it was written."""

    whole: bool
    broken_at: int | None
    """Sequence of the first entry that was changed, removed or cut off."""


class TestStepAnswer(AnswerModel):
    """One step of a test."""

    name: str
    ok: bool
    message: str
    """For a person."""


class ConnectionTestAnswer(AnswerModel):
    """A test of a connection, as far as it is."""

    kind: ConnectionKind
    job_id: UUID
    state: JobState
    """`done` also when the connection does not work: then the test was successful in saying so."""
    works: bool | None
    """Null while it is not known."""
    message: str
    """One sentence for a person."""
    steps: list[TestStepAnswer]
    started_at: AwareDatetime | None
    finished_at: AwareDatetime | None

    @classmethod
    def of(cls, job: Job, kind: ConnectionKind) -> "ConnectionTestAnswer":
        """From its job."""
        result = job.result or {}
        if result:
            message = result["message"]
        elif job.error is not None:
            message = job.error.message
        else:
            message = job.progress.message or "Waits for its turn."
        return cls(
            kind=kind,
            job_id=job.id,
            state=job.state,
            works=result.get("works"),
            message=message,
            steps=[TestStepAnswer(**step) for step in result.get("steps", [])],
            started_at=job.started_at,
            finished_at=job.finished_at,
        )


class ExportBody(BodyModel):
    """What to export."""

    person: Identifier | None = None
    """An identifier of one person: visitor's id, customer's number, address. Null: everything."""


class ErasureBody(BodyModel):
    """What to erase: one person, or (`what`: `tenant`) everything."""

    what: Literal["person", "tenant"]
    identifiers: Annotated[list[Identifier], Field(max_length=MAX_IDENTIFIERS)] = Field(
        default_factory=list
    )
    """Of a person: visitors' ids, a customer's number, addresses, telephone numbers."""
    user_id: UUID | None = None
    """Of a member."""
    tenant_name: Annotated[str, StringConstraints(max_length=200)] | None = None
    """To erase a tenant: what it is called, so that nobody erases the wrong one."""


class ErasureAnswer(AnswerModel):
    """The job that does it."""

    job_id: UUID
    state: JobState
    """As it was when it was asked for; `GET /api/v1/jobs/{job_id}` of the data group follows it."""
