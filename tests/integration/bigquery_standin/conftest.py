"""A stand-in with three days of a small shop, and the unmodified clients pointed to it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from google.cloud.bigquery_storage import BigQueryReadClient

from tests.integration.bigquery_standin.clients import (
    DATASET,
    PROJECT,
    bigquery_client,
    storage_client,
)
from tests.integration.bigquery_standin.shop import day_rows, write_table
from troupe_demo.bigquery import StandIn, create_service_account, start
from troupe_demo.ga4.schema import DAILY_SCHEMA, INTRADAY_SCHEMA


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[StandIn]:
    root = tmp_path / "bigquery"
    for day in ("20260101", "20260102"):
        write_table(root, PROJECT, DATASET, f"events_{day}", day_rows(day, 40), DAILY_SCHEMA)
    intraday = day_rows("20260103", 15)
    name = "events_intraday_20260103"
    write_table(root, PROJECT, DATASET, name, intraday, INTRADAY_SCHEMA)
    with start(root) as running:
        yield running


@pytest.fixture
def account(stand_in: StandIn) -> dict[str, str]:
    return create_service_account(stand_in.root, PROJECT, stand_in.token_uri)


@pytest.fixture
def client(stand_in: StandIn, account: dict[str, str]):
    with bigquery_client(stand_in, account) as client:
        yield client


@pytest.fixture
def storage(stand_in: StandIn) -> Iterator[BigQueryReadClient]:
    with storage_client(stand_in) as client:
        yield client
