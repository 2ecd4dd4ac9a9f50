"""What is stored: projects, datasets and tables as directories and Parquet files.

A table is ``ROOT/<project>/<dataset>/<table>.parquet``. Whoever writes tables writes a file beside
it and renames it into place: the rename is the moment at which the table is rewritten. A reader
must then not see half of each file, and DuckDB opens a file more than once per query. So every
query and every read session works on a ``Snapshot``: hard links to the files as they were when it
first looked, in a directory that goes away with it. A link costs microseconds and no space.
"""

import hashlib
import os
import re
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from troupe_demo.bigquery.errors import BigQueryError
from troupe_demo.bigquery.types import Field, Kind, Type, is_native, type_of_arrow

LOCATION = "US"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_:.-]*")
_BATCH = 65_536  # rows decoded at a time while text is measured
# Bytes that BigQuery counts for a value that is not NULL; text costs 2 more than its UTF-8.
_WIDTH = {Kind.BOOL: 1, Kind.NUMERIC: 16}
_KNOWN_FILES = 10_000


class Stored:
    """What one file holds; kept as long as the file is the same one."""

    def __init__(self, path: Path, identity: tuple[int, int, int]) -> None:
        with pq.ParquetFile(path) as file:
            self.metadata: pq.FileMetaData = file.metadata
            self.arrow_schema: pa.Schema = file.schema_arrow
            self._paths = [
                file.schema.column(i).path for i in range(len(self.metadata.schema.names))
            ]
        self.columns = tuple(Field(f.name, type_of_arrow(f.type)) for f in self.arrow_schema)
        self.native = frozenset(f.name for f in self.arrow_schema if is_native(f.type))
        self.signature = str(self.arrow_schema.remove_metadata())
        self.etag = hashlib.sha256(repr(identity).encode()).hexdigest()[:32]
        self.modified = identity[1] // 1_000_000  # milliseconds
        self._path = path
        self._leaves: dict[tuple[str, ...], int] | None = None
        self._lock = threading.Lock()

    @cached_property
    def leaf_types(self) -> dict[tuple[str, ...], Type]:
        """The kind of each leaf, in the order in which Parquet stores them."""
        return dict(
            leaf for column in self.columns for leaf in _leaves((column.name,), column.type)
        )

    def leaf_bytes(self, path: Path) -> dict[tuple[str, ...], int]:
        """Logical bytes of each leaf; ``path`` is where the file can be read now."""
        with self._lock:
            if self._leaves is None:
                self._leaves = self._measure(path)
            return self._leaves

    def _measure(self, path: Path) -> dict[tuple[str, ...], int]:
        sizes, texts = {}, {}
        for place, (leaf, type_) in enumerate(self.leaf_types.items()):
            present = self._present(place)
            if type_.kind not in (Kind.STRING, Kind.BYTES):
                sizes[leaf] = present * _WIDTH.get(type_.kind, 8)
            else:
                sizes[leaf] = present * 2
                if present:
                    texts[self._paths[place]] = leaf
        with pq.ParquetFile(path) as file:
            for stored, leaf in texts.items():
                sizes[leaf] += sum(
                    _text_bytes(batch.column(0))
                    for batch in file.iter_batches(_BATCH, columns=[stored])
                )
        return sizes

    def _present(self, place: int) -> int:
        """Values of a leaf that are not NULL, from the file's own statistics."""
        present = 0
        for group in range(self.metadata.num_row_groups):
            chunk = self.metadata.row_group(group).column(place)
            nulls = chunk.statistics.null_count if chunk.statistics is not None else None
            present += chunk.num_values - (nulls or 0)
        return present


def _leaves(path: tuple[str, ...], type_: Type) -> Iterator[tuple[tuple[str, ...], Type]]:
    inner = type_.element or type_
    if inner.kind is not Kind.STRUCT:
        yield path, inner
    for part in inner.fields:
        yield from _leaves((*path, part.name), part.type)


def _text_bytes(array: pa.Array) -> int:
    """UTF-8 bytes of the one leaf inside nested arrays."""
    while pa.types.is_nested(array.type) or pa.types.is_dictionary(array.type):
        if pa.types.is_struct(array.type):
            array = array.flatten()[0]
        elif pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        else:
            array = array.flatten()
    return pc.sum(pc.binary_length(array)).as_py() or 0


@dataclass(frozen=True, slots=True)
class Table:
    """One table as one reader sees it.

    Attributes:
        path: A file that stays what it is for as long as the reader's snapshot lives.
        created: Milliseconds since 1970; survives a rewrite.
    """

    project: str
    dataset: str
    name: str
    path: Path
    created: int
    stored: Stored

    @property
    def columns(self) -> tuple[Field, ...]:
        """The columns, in order."""
        return self.stored.columns

    @property
    def native(self) -> frozenset[str]:
        """Columns that DuckDB reads in the type in which they are wanted."""
        return self.stored.native

    @property
    def signature(self) -> str:
        """Equal for tables that can be read in one go."""
        return self.stored.signature

    @property
    def modified(self) -> int:
        """Milliseconds since 1970."""
        return self.stored.modified

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self.stored.metadata.num_rows)

    @property
    def size(self) -> int:
        """Logical bytes, as BigQuery counts them."""
        return sum(self.stored.leaf_bytes(self.path).values())

    def bytes_under(self, paths: set[tuple[str, ...]]) -> int:
        """Logical bytes of the leaves under any of these paths."""
        wanted = {tuple(part.lower() for part in path) for path in paths}
        return sum(
            size
            for leaf, size in self.stored.leaf_bytes(self.path).items()
            if any(tuple(p.lower() for p in leaf[:n]) in wanted for n in range(1, len(leaf) + 1))
        )


class Catalogue:
    """The tree of tables under one directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._known: dict[Path, tuple[tuple[int, int, int], Stored]] = {}
        self._created: dict[Path, int] = {}
        self._lock = threading.Lock()

    def projects(self) -> list[str]:
        """Names of the projects."""
        return _directories(self.root)

    def project(self, project: str) -> Path:
        """The directory of a project.

        Raises:
            BigQueryError: ``notFound``.
        """
        path = self.root / project
        if not _NAME.fullmatch(project) or not path.is_dir():
            raise BigQueryError.not_found(f"Project {project}")
        return path

    def datasets(self, project: str) -> list[str]:
        """Names of a project's datasets."""
        return _directories(self.project(project))

    def dataset(self, project: str, dataset: str) -> Path:
        """The directory of a dataset.

        Raises:
            BigQueryError: ``notFound``.
        """
        path = self.project(project) / dataset
        if not _NAME.fullmatch(dataset) or not path.is_dir():
            raise BigQueryError.not_found(f"Dataset {project}:{dataset}")
        return path

    def tables(self, project: str, dataset: str) -> list[str]:
        """Names of a dataset's tables."""
        directory = self.dataset(project, dataset)
        return sorted(
            entry.name.removesuffix(".parquet")
            for entry in os.scandir(directory)
            if entry.name.endswith(".parquet") and not entry.name.startswith(".")
        )

    def table(self, project: str, dataset: str, name: str, path: Path | None = None) -> Table:
        """A table; ``path`` is a reader's own link to its file.

        Raises:
            BigQueryError: ``notFound``.
        """
        home = self.file(project, dataset, name)
        try:
            status = (path or home).stat()
        except FileNotFoundError:
            raise _no_table(project, dataset, name) from None
        identity = (status.st_ino, status.st_mtime_ns, status.st_size)
        with self._lock:
            known = self._known.get(home)
            created = self._created.setdefault(home, identity[1] // 1_000_000)
        if known is None or known[0] != identity:
            known = (identity, Stored(path or home, identity))
            with self._lock:
                if len(self._known) >= _KNOWN_FILES:
                    self._known.pop(next(iter(self._known)))
                self._known[home] = known
        return Table(project, dataset, name, path or home, created, known[1])

    def file(self, project: str, dataset: str, name: str) -> Path:
        """Where a table's file is, if there is one."""
        directory = self.dataset(project, dataset)
        if not _NAME.fullmatch(name):
            raise _no_table(project, dataset, name)
        return directory / f"{name}.parquet"


class Snapshot:
    """Tables as they were when first asked for; a context manager that forgets them at the end.

    It is also where access is decided: a caller of one project sees that project alone.
    """

    def __init__(self, catalogue: Catalogue, caller: str, directory: Path) -> None:
        self._catalogue = catalogue
        self._caller = caller
        self._directory = directory
        self._tables: dict[tuple[str, str, str], Table] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files."""
        shutil.rmtree(self._directory, ignore_errors=True)

    def names(self, project: str, dataset: str) -> list[str]:
        """Names of a dataset's tables.

        Raises:
            BigQueryError: ``accessDenied`` or ``notFound``.
        """
        if project != self._caller:
            raise BigQueryError.access_denied(
                f"Dataset {project}:{dataset}",
                f"Permission bigquery.tables.list denied on dataset {project}:{dataset} "
                "(or it may not exist).",
            )
        return self._catalogue.tables(project, dataset)

    def table(self, project: str, dataset: str, name: str) -> Table:
        """A table that stays what it is.

        Raises:
            BigQueryError: ``accessDenied`` or ``notFound``.
        """
        if project != self._caller:
            raise BigQueryError.access_denied(
                f"Table {project}:{dataset}.{name}",
                f"User does not have permission to query table {project}:{dataset}.{name}, "
                "or perhaps it does not exist.",
            )
        key = (project, dataset, name)
        if key not in self._tables:
            self._tables[key] = self._catalogue.table(*key, path=self._link(*key))
        return self._tables[key]

    def _link(self, project: str, dataset: str, name: str) -> Path:
        # The name is kept: a wildcard tells tables apart by it.
        link = self._directory / dataset / f"{name}.parquet"
        link.parent.mkdir(parents=True, exist_ok=True)
        home = self._catalogue.file(project, dataset, name)
        try:
            os.link(home, link)
        except FileNotFoundError:
            raise _no_table(project, dataset, name) from None
        except OSError:
            shutil.copyfile(home, link)  # a file system without hard links
            shutil.copystat(home, link)
        return link


def _directories(path: Path) -> list[str]:
    return sorted(
        entry.name
        for entry in os.scandir(path)
        if entry.is_dir() and not entry.name.startswith(".")
    )


def _no_table(project: str, dataset: str, name: str) -> BigQueryError:
    return BigQueryError.not_found(
        f"Table {project}:{dataset}.{name} was not found in location {LOCATION}"
    )


def reference(project: str, dataset: str, table: str) -> dict[str, Any]:
    """A ``TableReference`` of the REST API."""
    return {"projectId": project, "datasetId": dataset, "tableId": table}
