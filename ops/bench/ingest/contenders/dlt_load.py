"""``python -m ops.bench.ingest.contenders.dlt_load ORDER``: dlt, in a process of the peers' own.

Knows dlt, what comes with it, and the standard library only. The clock runs during `Pipeline.run`
and while the tables of derived.sql are made of its rows: libraries are loaded before, as for
everybody.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ops.bench.ingest.contenders.peak import peak_bytes

DERIVED = Path(__file__).with_name("derived.sql")


def derive(url: str, zone: str, currency: str) -> dict[str, int]:
    """Make what dashboards read of the rows that are there; how many there are of each."""
    import psycopg2  # noqa: PLC0415 - as below

    connection = psycopg2.connect(url)
    try:
        with connection, connection.cursor() as cursor:
            sql = DERIVED.read_text().replace("{zone}", zone).replace("{currency}", currency)
            cursor.execute(sql)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT (SELECT sum(events) FROM peer.daily_rollup),"
                " (SELECT count(*) FROM peer.sessions),"
                " (SELECT count(*) FROM peer.purchases WHERE counted)"
            )
            events, sessions, purchases = cursor.fetchone()
    finally:
        connection.close()
    return {"events": int(events), "sessions": sessions, "purchases": purchases}


def main(url: str, order: dict[str, Any]) -> dict[str, Any]:
    """Load the recorded answers; what it took."""
    with tempfile.TemporaryDirectory(dir=order["scratch"]) as work:
        os.environ |= {
            "RUNTIME__DLTHUB_TELEMETRY": "false",
            "RUNTIME__LOG_LEVEL": "ERROR",
            "DLT_DATA_DIR": work,
            **order["environment"],
        }
        import dlt  # noqa: PLC0415 - it reads its settings when it is imported
        import pyarrow as pa  # noqa: PLC0415 - as above

        def tables() -> Iterator[Any]:
            for path in sorted(Path(order["answers"]).glob("*.arrow")):
                with pa.OSFile(str(path)) as file:
                    reader = pa.ipc.open_file(file)
                    if order["items"] == "days":
                        yield reader.read_all()
                        continue
                    for number in range(reader.num_record_batches):
                        table = pa.Table.from_batches([reader.get_batch(number)])
                        yield table.to_pylist() if order["items"] == "rows" else table

        pipeline = dlt.pipeline(
            "ingest_benchmark",
            destination=dlt.destinations.postgres(url),
            dataset_name="peer",
            pipelines_dir=work,
        )
        resource_ = dlt.resource(tables, name="events", write_disposition="append")
        cpu, began = time.process_time(), time.monotonic()
        pipeline.run(resource_, loader_file_format=order["format"])
        rows_seconds = time.monotonic() - began
        derived = derive(url, order["zone"], order["currency"])
        seconds, cpu = time.monotonic() - began, time.process_time() - cpu
        steps = {
            step.step: (step.finished_at - step.started_at).total_seconds()
            for step in pipeline.last_trace.steps
        }
    return {
        "seconds": seconds,
        "rows_seconds": rows_seconds,
        "derived": derived,
        "cpu_seconds": cpu,
        "peak_bytes": peak_bytes(),
        "steps": steps,
    }


if __name__ == "__main__":
    print(json.dumps(main(os.environ["INGEST_BENCH_URL"], json.loads(sys.argv[1]))))
