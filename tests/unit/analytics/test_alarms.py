"""What an alarm's messages look like to whoever receives them."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import pytest

from troupe.actors.analytics.alarms import Message, letter, payload, sentence_of, signature
from troupe.actors.analytics.alerts import AlertKind, new_secret

DROP = {
    "day": "2026-10-20", "metric": "gross_revenue", "location_id": None, "value": "50",
    "usual": "100", "percent": "-50", "threshold_percent": Decimal(30),
}  # fmt: skip


def message(**changes: object) -> Message:
    fields: dict[str, object] = {
        "message_id": UUID(int=1), "channel": "email",
        "recipient": "ada@shop.example", "attempts": 1,
        "alarm_id": UUID(int=2), "alert_id": UUID(int=3), "name": "Less revenue",
        "kind": AlertKind.DROP, "subject": "x", "facts": DROP,
        "raised_at": datetime(2026, 10, 21, 5, tzinfo=UTC), "tenant_name": "Shop", "sealed": None,
    }  # fmt: skip
    return Message(**(fields | changes))  # type: ignore[arg-type]


def test_sentences() -> None:
    assert sentence_of(AlertKind.DROP, DROP) == (
        "gross_revenue was 50 on 2026-10-20, 50.0 % below the usual 100."
    )
    branch = DROP | {"location_id": "B1", "percent": "12.34"}
    assert "in branch B1" in sentence_of(AlertKind.SPIKE, branch)
    assert "above" in sentence_of(AlertKind.SPIKE, branch)
    failed = {"source_day": "2026-10-20", "state": "failed", "problem": None}
    assert sentence_of(AlertKind.FAILED_LOAD, failed).endswith("The reason is not known.")


@pytest.mark.parametrize("name", ["a\r\nBcc: eve@evil.example", "a\nb", "ä ö"])
def test_a_name_cannot_add_a_header_or_a_receiver(name: str) -> None:
    made = letter(message(name=name, tenant_name=name), "troupe@shop.example")
    head = made.as_bytes().partition(b"\n\n")[0]
    assert not [line for line in head.splitlines() if line.lower().startswith(b"bcc:")]
    assert made["To"] == "ada@shop.example"
    assert made["Auto-Submitted"] == "auto-generated"


def test_the_same_message_has_the_same_id() -> None:
    sender = "troupe@shop.example"
    assert (
        letter(message(attempts=1), sender)["Message-ID"]
        == (letter(message(attempts=2), sender)["Message-ID"])
    )


def test_a_receiver_can_verify_the_signature() -> None:
    """By the description of the Standard Webhooks, not by our function."""
    secret, body = new_secret(), payload(message())
    told = signature(secret, "msg_1", 1_700_000_000, body)
    key = base64.b64decode(secret.removeprefix("whsec_"))
    assert len(key) == 32
    wanted = hmac.new(key, b"msg_1.1700000000." + body, hashlib.sha256).digest()
    assert told == "v1," + base64.b64encode(wanted).decode()
    assert json.loads(body)["type"] == "alert.drop"
    assert json.loads(body)["data"]["facts"]["percent"] == "-50"
