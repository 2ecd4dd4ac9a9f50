"""A local BigQuery for Google's own clients.

The unmodified ``google-cloud-bigquery`` and ``google-cloud-bigquery-storage`` speak to it: REST and
the Storage Read API, over tables that are Parquet files, with GoogleSQL compiled to DuckDB. What it
cannot do right it refuses by name. See ``docs/adr/0005-bigquery-stand-in.md``.

``start`` runs it in this process, ``python -m troupe_demo.bigquery`` in one of its own;
``create_service_account`` makes the key file by which a client is pointed to it.
"""

from troupe_demo.bigquery.accounts import create_service_account
from troupe_demo.bigquery.faults import Asked, Fault
from troupe_demo.bigquery.server import StandIn, start

__all__ = ["Asked", "Fault", "StandIn", "create_service_account", "start"]
