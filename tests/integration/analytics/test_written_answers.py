"""Answers are written without their models, and are what the models would write."""

import json
from typing import Any

import pytest

from tests.integration.analytics.office import EVENTS, Office
from tests.integration.analytics.test_exports import MANY, OCTOBER
from troupe.http import exact_json, inquiries, performance
from troupe.http.answering import Inquiry


@pytest.mark.parametrize("compare", ["previous", "none"])
@pytest.mark.parametrize(
    "inquiry",
    [
        inquiries.STATS, inquiries.CHART, inquiries.LOCATIONS, inquiries.COMPLETE, inquiries.FUNNEL,
        inquiries.CHANNELS, inquiries.DEVICES, inquiries.COUNTRIES, inquiries.TOP_PRODUCTS,
        inquiries.TOP_PAGES, inquiries.TOP_TERMS, performance.PAGES, performance.BRANCHES,
    ],
    ids=lambda one: one.name,
)  # fmt: skip
async def test_nothing_is_missing_and_nothing_is_there_that_is_not_declared(
    office: Office, inquiry: Inquiry[Any, Any], compare: str
) -> None:
    await office.load([*EVENTS, *MANY])
    figures = ["sessions", "net_revenue", "bounce_rate"]
    query = {"metric": figures} if inquiry is inquiries.CHART else {}
    reply = await office.desk.ask(
        office.tenant, "GET", f"/{inquiry.name}",
        query_string={**OCTOBER, "compare": compare, **query},
    )  # fmt: skip
    assert reply.status == 200, reply.raw
    found = json.loads(reply.raw)
    model = inquiry.model.model_validate_json(reply.raw)
    assert found == json.loads(exact_json.dumps(model))
    rows = {"data", "metrics", "points", "steps"} & found.keys()
    assert rows
    assert all(found[name] for name in rows)
