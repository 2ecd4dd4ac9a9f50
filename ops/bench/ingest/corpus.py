"""The rows that everybody loads: a GA4 export, and what BigQuery answers when it is flattened.

The export is made by the demonstration's generator and flattened by the stand-in with the product's
own query, once, in a process of its own. What came out of the Storage Read API lies in one Arrow
file per day, its messages as they came. Everybody reads these files, so that neither the stand-in
nor a network takes part in a comparison.
"""

import ipaddress
import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from google.cloud.bigquery import SchemaField

from ops.bench.jobs.peers import ROOT
from troupe.actors.data.bigquery import Export, ExportTable
from troupe.actors.data.flattening import Family, flatten_query
from troupe.common.connections import BigQueryConfig
from troupe.common.outbound import OutboundGuard
from troupe.common.tenant_settings import TenantSettings
from troupe.common.units import MINUTES
from troupe_demo.bigquery import create_service_account, start
from troupe_demo.ga4 import TOOL_SHOP, generate

LOOPBACK: Final = ipaddress.ip_network("127.0.0.0/8")
PROFILE: Final = TOOL_SHOP
LAST_DAY: Final = date(2026, 9, 30)
SEED: Final = 12
QUERY_DEADLINE: Final = 5 * MINUTES
FIRST_DAY: Final = date(2020, 1, 1)
_DONE: Final = "tables.json"


@dataclass(frozen=True)
class RecordedTable:
    """What the source said about one day's table, as JSON."""

    day: str
    family: str
    name: str
    modified: str
    rows: int
    schema: list[dict[str, Any]]
    scanned_bytes: int

    def table(self) -> ExportTable:
        """The same for an ingestion."""
        return ExportTable(
            day=date.fromisoformat(self.day),
            family=Family(self.family),
            name=self.name,
            modified=datetime.fromisoformat(self.modified),
            rows=self.rows,
            schema=tuple(SchemaField.from_api_repr(field) for field in self.schema),
            settled=True,
        )


@dataclass(frozen=True)
class Corpus:
    """A recorded export.

    Attributes:
        directory: With the export below ``exports`` and the answers below ``answers``.
    """

    directory: Path

    @property
    def exports(self) -> Path:
        """What a stand-in serves."""
        return self.directory / "exports"

    @property
    def answers(self) -> Path:
        """One Arrow file per day."""
        return self.directory / "answers"

    def tables(self) -> list[RecordedTable]:
        """Every day's table, in order."""
        found = json.loads((self.directory / _DONE).read_text())
        return [RecordedTable(**table) for table in found]

    @property
    def days(self) -> list[date]:
        """The days that there are."""
        return [date.fromisoformat(table.day) for table in self.tables()]

    @property
    def rows(self) -> int:
        """Rows of all days."""
        return sum(pa.ipc.open_file(path).count_rows() for path in self.answers.glob("*.arrow"))


def recorded(place: Path, *, events: int, days: int) -> Corpus:
    """The corpus of this size; made when it is not there yet."""
    corpus = Corpus(place / f"{events}-in-{days}-days")
    if not (corpus.directory / _DONE).exists():
        print(f"recording {events:,} events of {days} days ...", flush=True)
        command = [sys.executable, "-m", "ops.bench.ingest.corpus", str(corpus.directory)]
        subprocess.run([*command, str(events), str(days)], cwd=ROOT, check=True)  # noqa: S603
    return corpus


def _record(corpus: Corpus, events: int, days: int) -> None:
    generate(corpus.exports, (PROFILE,), days=days, events=events, seed=SEED, last_day=LAST_DAY)
    corpus.answers.mkdir(parents=True, exist_ok=True)
    with start(corpus.exports) as stand_in:
        account = create_service_account(corpus.exports, PROFILE.project, stand_in.token_uri)
        config = BigQueryConfig(
            project=PROFILE.project,
            dataset=PROFILE.dataset,
            api_endpoint=stand_in.url,
            storage_endpoint=stand_in.grpc,
        )
        export = Export(
            config,
            json.dumps(account).encode(),
            labels={},
            query_deadline=QUERY_DEADLINE,
            guard=OutboundGuard([LOOPBACK]),
        )
        found = sorted(export.days(FIRST_DAY, LAST_DAY).items())
        tables = [_record_day(corpus, export, day, family) for day, family in found]
        export.close()
    (corpus.directory / _DONE).write_text(json.dumps([asdict(table) for table in tables]))


def _record_day(corpus: Corpus, export: Export, day: date, family: Family) -> RecordedTable:
    table = export.table(day, family)
    query = flatten_query(table.name, table.schema, TenantSettings())
    scanned = export.estimate(query)
    started = export.start(query, at_most=None)
    export.wait(started)
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    writer = None
    for batch in export.batches(started):
        if writer is None:
            path = corpus.answers / f"{day}.arrow"
            writer = pa.ipc.new_file(path, batch.schema, options=options)
        writer.write_batch(batch)
    if writer is not None:
        writer.close()
    return RecordedTable(
        day=day.isoformat(),
        family=family.value,
        name=table.name,
        modified=table.modified.isoformat(),
        rows=table.rows,
        schema=[field.to_api_repr() for field in table.schema],
        scanned_bytes=scanned,
    )


if __name__ == "__main__":
    _record(Corpus(Path(sys.argv[1])), int(sys.argv[2]), int(sys.argv[3]))
