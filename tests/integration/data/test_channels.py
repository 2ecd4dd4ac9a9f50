"""The rules of the default channel group, as a table of what Google publishes."""

import asyncio

import asyncpg
import pytest

from tests.support.postgres import TestDatabase

RULES = [
    (None, None, None, "Direct"),
    ("", "", "", "Direct"),
    ("(direct)", "(none)", None, "Direct"),
    ("(direct)", "(not set)", "Summer", "Direct"),
    ("google", "cpc", "x Cross-Network y", "Cross-network"),
    ("amazon.de", "cpc", None, "Paid Shopping"),
    ("google", "cpc", "My Shop Campaign", "Paid Shopping"),
    ("google", "cpc", "eshop", "Paid Shopping"),  # the published pattern: an e or no letter
    ("google", "cpc", "workshop", "Paid Search"),
    ("google", "cpc", "shopping", "Paid Shopping"),
    ("google", "cpc", "Brand", "Paid Search"),
    ("GOOGLE", "CPC", None, "Paid Search"),
    ("bing", "ppc", None, "Paid Search"),
    ("facebook", "paid-social", None, "Paid Social"),
    ("l.facebook.com", "retargeting", None, "Paid Social"),
    ("youtube.com", "cpv", None, "Paid Video"),
    ("youtube", "cpc", None, "Paid Video"),
    ("somewhere.example", "banner", None, "Display"),
    # "cpm" is a display medium, but the paid rules stand before it where the source is known.
    ("somewhere.example", "cpm", None, "Display"),
    ("google", "cpm", None, "Paid Search"),
    ("somewhere.example", "cpc", None, "Paid Other"),
    ("somewhere.example", "paid", None, "Paid Other"),
    ("idealo.de", "referral", None, "Organic Shopping"),
    ("somewhere.example", "referral", "spring shopping", "Organic Shopping"),
    ("instagram", "story", None, "Organic Social"),
    ("somewhere.example", "social network", None, "Organic Social"),
    ("t.co", "referral", None, "Organic Social"),
    ("vimeo.com", "referral", None, "Organic Video"),
    ("somewhere.example", "product-video", None, "Organic Video"),
    ("google", "organic", None, "Organic Search"),
    ("de.search.yahoo.com", "referral", None, "Organic Search"),
    ("somewhere.example", "organic", None, "Organic Search"),
    ("docs.google.com", "referral", None, "Referral"),
    ("somewhere.example", "referral", None, "Referral"),
    ("somewhere.example", "link", None, "Referral"),
    ("newsletter", "email", None, "Email"),
    ("e-mail", "x", None, "Email"),
    ("partner", "affiliate", None, "Affiliates"),
    ("spotify", "audio", None, "Audio"),
    ("sms", "x", None, "SMS"),
    ("x-system", "sms", None, "SMS"),
    ("app", "web-push", None, "Mobile Push Notifications"),
    ("app", "mobile-message", None, "Mobile Push Notifications"),
    ("firebase", "x", None, "Mobile Push Notifications"),
    ("somewhere.example", "whatever", None, "Unassigned"),
    (None, None, "Summer", "Unassigned"),
]


@pytest.fixture(scope="module")
def groups(module_database: TestDatabase) -> dict[tuple[str | None, ...], str]:
    async def ask() -> list[asyncpg.Record]:
        connection = await asyncpg.connect(module_database.runtime_url)
        try:
            return await connection.fetch(
                "SELECT s, m, c, data.default_channel_group(s, m, c) AS found"
                " FROM unnest($1::text[], $2::text[], $3::text[]) AS t (s, m, c)",
                *map(list, zip(*(rule[:3] for rule in RULES), strict=True)),
            )
        finally:
            await connection.close()

    return {(row["s"], row["m"], row["c"]): row["found"] for row in asyncio.run(ask())}


@pytest.mark.parametrize(("source", "medium", "campaign", "expected"), RULES)
def test_the_first_rule_that_matches_wins(
    groups: dict[tuple[str | None, ...], str],
    source: str | None,
    medium: str | None,
    campaign: str | None,
    expected: str,
) -> None:
    assert groups[source, medium, campaign] == expected
