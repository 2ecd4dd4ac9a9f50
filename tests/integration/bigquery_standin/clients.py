"""Google's clients, pointed to a stand-in the way the product does it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import grpc
from google.api_core.client_options import ClientOptions
from google.cloud import bigquery
from google.cloud.bigquery_storage import BigQueryReadClient
from google.cloud.bigquery_storage_v1.services.big_query_read.transports import (
    BigQueryReadGrpcTransport,
)
from google.oauth2 import service_account

from troupe_demo.bigquery import StandIn

PROJECT = "tool-shop"
DATASET = "analytics_1"
SCOPES = ("https://www.googleapis.com/auth/bigquery",)


def credentials(account: Mapping[str, Any]) -> service_account.Credentials:
    return service_account.Credentials.from_service_account_info(account, scopes=SCOPES)


@contextmanager
def bigquery_client(
    stand_in: StandIn, account: Mapping[str, Any], project: str | None = None
) -> Iterator[bigquery.Client]:
    """The client, with a key file whose ``token_uri`` is the stand-in's."""
    client = bigquery.Client(
        project=project or account["project_id"],
        credentials=credentials(account),
        client_options=ClientOptions(api_endpoint=stand_in.url),
    )
    try:
        yield client
    finally:
        client.close()


@contextmanager
def storage_client(stand_in: StandIn) -> Iterator[BigQueryReadClient]:
    """The storage client over an insecure channel; it ignores BIGQUERY_EMULATOR_HOST."""
    channel = grpc.insecure_channel(stand_in.grpc)
    try:
        yield BigQueryReadClient(transport=BigQueryReadGrpcTransport(channel=channel))
    finally:
        channel.close()
