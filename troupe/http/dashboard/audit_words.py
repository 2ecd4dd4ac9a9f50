"""The audit log in sentences: who did what.

An action without words is shown as it is stored, so that nothing that happened is hidden because
nobody has found words for it yet; a test sees that every action of the log has some.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from troupe.actors.auth.audit import AuditEntry

_ACTORS: Final = {"operator": "The operator", "system": "Troupe", "token": "A token"}
FORMER: Final = "somebody who has left"

ACTIONS: Final[Mapping[str, str]] = {
    "tenant.created": "made this tenant",
    "tenant.changed": "changed the settings: {fields}",
    "tenant.deactivated": "closed this tenant",
    "tenant.activated": "opened this tenant again",
    "tenant.erased": "asked to delete this tenant",
    "tenant.exported": "took all data along",
    "person.erased": "had a person forgotten",
    "person.exported": "took a person's data along",
    "keys.rotated": "changed the key that seals secrets",
    "member.added": "let {person} in as {role}",
    "member.changed": "made {person} {role} (before: {before})",
    "member.removed": "ended the membership of {person}",
    "member.erased": "had a member forgotten",
    "member.joined": "joined as {role}",
    "invitation.made": "invited somebody as {role}",
    "invitation.taken_back": "took an invitation as {role} back",
    "invitation.accepted": "accepted an invitation as {role}",
    "provider.put": "set up logins through {issuer}",
    "provider.tested": "tested logins through {issuer}",
    "provider.deleted": "took away logins through {issuer}",
    "session.started": "logged in",
    "session.refused": "refused somebody who tried to log in: {reason}",
    "session.ended": "logged out",
    "token.created": "made the token {name} ({role})",
    "token.revoked": "ended a token",
    "connection.put": "changed the {target} connection{and_secret}",
    "connection.dropped": "forgot the {target} connection",
    "connection.tested": "tested the {target} connection",
    "connection.host_key_pinned": "trusted the {target} server's key {fingerprint}",
    "schedule.created": "made a schedule of the job {kind} ({cron}, {zone})",
    "schedule.changed": "changed a schedule of the job {kind}: {fields}",
    "schedule.deleted": "removed a schedule of the job {kind} ({cron}, {zone})",
    "alert.created": "made an alert ({kind})",
    "alert.changed": "changed an alert ({kind}): {fields}",
    "alert.deleted": "deleted an alert ({kind})",
    "alert.tested": "sent a test of an alert",
    "report.settings_put": "changed how reports look",
    "report.recipient_added": "added a recipient of reports",
    "report.recipient_changed": "changed a recipient of reports",
    "report.recipient_removed": "removed a recipient of reports",
    "report.schedule_made": "made the schedule of reports {name}",
    "report.schedule_changed": "changed the schedule of reports {name}",
    "report.schedule_removed": "removed the schedule of reports {name}",
    "report.suppressed": "let {target} get no more mail",
    "report.suppression_lifted": "let {target} get mail again",
    "report.sent_now": "sent a report",
    "report.run_cancelled": "stopped a report that was being sent",
    "report.sent_again": "sent a mail again",
    "report.taken_as_sent": "took a mail as sent",
}
"""What somebody did, after who did it."""


@dataclass(frozen=True, slots=True)
class Told:
    """One entry for a person.

    Attributes:
        who: Who did it.
        what: What they did, in a few words.
        action: As it is stored.
        hash: Begin of the entry's hash, to compare.
    """

    sequence: int
    at: datetime
    who: str
    what: str
    action: str
    hash: str


def tell(entry: AuditEntry, people: Mapping[UUID, str], tokens: Mapping[UUID, str]) -> Told:
    """An entry in words.

    Args:
        entry: Of the log.
        people: Members by identifier.
        tokens: Names of tokens by identifier.
    """
    return Told(
        entry.sequence,
        entry.at,
        _who(entry, people, tokens),
        _what(entry, people),
        entry.action,
        entry.hash.hex()[:12],
    )


def _who(entry: AuditEntry, people: Mapping[UUID, str], tokens: Mapping[UUID, str]) -> str:
    if entry.actor_id is not None and entry.actor_kind == "user":
        return people.get(entry.actor_id, FORMER.capitalize())
    if entry.actor_id is not None and entry.actor_id in tokens:
        return f"The token {tokens[entry.actor_id]}"
    return _ACTORS.get(entry.actor_kind, entry.actor_kind)


def _what(entry: AuditEntry, people: Mapping[UUID, str]) -> str:
    words = ACTIONS.get(entry.action)
    if words is None:
        return f"{entry.action} {entry.target}".strip()
    return words.format_map(_Facts(_facts(entry, people)))


def _facts(entry: AuditEntry, people: Mapping[UUID, str]) -> dict[str, Any]:
    facts = {name: value for name, value in entry.detail.items() if value is not None}
    fields = facts.get("fields")
    if isinstance(fields, list):
        told = [str(field).removeprefix("settings.").replace("_", " ") for field in fields]
        facts["fields"] = ", ".join(told)
    facts["person"] = _person(entry.target, people)
    facts["target"] = entry.target
    facts["and_secret"] = ", with another secret" if facts.get("secret_changed") else ""
    return facts


def _person(target: str, people: Mapping[UUID, str]) -> str:
    try:
        return people.get(UUID(target), FORMER)
    except ValueError:
        return FORMER


class _Facts(dict[str, Any]):
    """What an entry does not say stays out of its sentence."""

    def __missing__(self, name: str) -> str:
        return "…"
