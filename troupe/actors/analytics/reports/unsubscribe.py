"""Links of RFC 8058: one POST and no questions asked.

A link names the tenant and the recipient and proves with the recipient's secret that it was in one
of their mails. It ends nothing by being looked at: mail scanners follow every link, so GET shows a
page with a button, and POST suppresses. What is suppressed is the address, for all reports of the
tenant: somebody who wants no more mail does not want to say so once for each branch.
"""

import base64
import binascii
import hmac
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from troupe.common.database import Database
from troupe.common.errors import NotFound
from troupe.common.ids import TenantId
from troupe.common.sql import load

PATH: Final = "/api/v1/reports/unsubscribe"
"""The token is in the query: paths are written into logs."""

_QUERIES = load(__package__, "reports.sql")
_BYTES: Final = 48


@dataclass(frozen=True, slots=True)
class Subscription:
    """What a link is about.

    Attributes:
        tenant: Whose reports.
        tenant_name: For people.
        recipient: Who gets them.
        address: Their address.
        language: Theirs.
    """

    tenant: TenantId
    tenant_name: str
    recipient: UUID
    address: str
    language: str


def token_of(tenant: UUID, recipient: UUID, secret: bytes) -> str:
    """What a link proves itself with."""
    return base64.urlsafe_b64encode(tenant.bytes + recipient.bytes + secret).decode()


def link_of(origin: str, tenant: UUID, recipient: UUID, secret: bytes) -> str:
    """A link, below the dashboard's address."""
    return f"{origin}{PATH}?token={token_of(tenant, recipient, secret)}"


async def subscription_of(database: Database, token: str) -> Subscription:
    """Whom a link was sent to.

    Raises:
        NotFound: Nobody, or the recipient is gone.
        DatabaseError: The database failed.
    """
    try:
        raw = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise _unknown() from None
    if len(raw) != _BYTES:
        raise _unknown()
    tenant, recipient = TenantId(UUID(bytes=raw[:16])), UUID(bytes=raw[16:32])
    row = await database.fetch_row(
        _QUERIES["unsubscribe_secret"], tenant, recipient, tenant=tenant, read_only=True
    )
    if row is None or not hmac.compare_digest(row["secret"], raw[32:]):
        raise _unknown()
    return Subscription(tenant, row["tenant_name"], recipient, row["address"], row["language"])


async def unsubscribe(database: Database, subscription: Subscription) -> None:
    """Suppress the address; again does no harm."""
    await database.execute(
        _QUERIES["suppress"],
        subscription.tenant,
        subscription.address.lower(),
        "unsubscribed",
        tenant=subscription.tenant,
    )


def _unknown() -> NotFound:
    return NotFound("The link is not known; the recipient may have been removed already.")
