"""``python -m ops.bench.ingest.contenders.dlt_load ORDER``: dlt, in a process of the peers' own.

Knows dlt, pyarrow and the standard library only. The clock runs during `Pipeline.run`: libraries
are loaded before, as for everybody.
"""

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


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
        seconds, cpu = time.monotonic() - began, time.process_time() - cpu
        steps = {
            step.step: (step.finished_at - step.started_at).total_seconds()
            for step in pipeline.last_trace.steps
        }
    return {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "steps": steps,
    }


if __name__ == "__main__":
    print(json.dumps(main(os.environ["INGEST_BENCH_URL"], json.loads(sys.argv[1]))))
