"""Each request as a row of a file, written as it ends: CSV, or Parquet where pyarrow is installed. Windows as CSV."""

from __future__ import annotations

import csv
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any, Self

from reference_nodes.simulator.plan.row import Row
from reference_nodes.simulator.plan.schema import ScenarioError

COLUMNS = tuple(field.name for field in fields(Row))
GROUP = 10_000
"""Rows of Parquet that are written together."""
NUMBERS = ("arrived", "ttft", "tpot", "itl", "itl_p95", "itl_max", "e2e")
TEXTS = ("node", "leader", "status", "reason")
TRUTHS = ("within_slo",)


class RowWriter:
    """A context manager; :meth:`write` takes one row. Without a path there is nothing to write to.

    Raises ScenarioError for a .parquet path without pyarrow.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: Any = None
        self._csv: Any = None
        self._parquet: _Parquet | None = None

    def __enter__(self) -> Self:
        if self._path is None:
            return self
        if self._path.suffix == ".parquet":
            self._parquet = _Parquet(self._path)
            return self
        self._file = self._path.open("w", newline="", encoding="utf-8")
        self._csv = csv.writer(self._file)
        self._csv.writerow(COLUMNS)
        return self

    def write(self, row: Row) -> None:
        if self._parquet is not None:
            self._parquet.write(row)
        else:
            self._csv.writerow(["" if value is None else value for value in astuple(row)])

    def __exit__(self, *_: object) -> None:
        if self._parquet is not None:
            self._parquet.close()
        if self._file is not None:
            self._file.close()


class _Parquet:
    def __init__(self, path: Path) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            text = "Parquet needs pyarrow: pip install 'dsdp[parquet]', or write .csv"
            raise ScenarioError("--rows", text, str(path)) from None
        self._pyarrow = pyarrow
        kinds = dict.fromkeys(COLUMNS, pyarrow.int64())
        kinds |= dict.fromkeys(NUMBERS, pyarrow.float64())
        kinds |= dict.fromkeys(TEXTS, pyarrow.string()) | dict.fromkeys(TRUTHS, pyarrow.bool_())
        self._schema = pyarrow.schema(list(kinds.items()))
        self._writer = pyarrow.parquet.ParquetWriter(path, self._schema)
        self._rows: list[Row] = []

    def write(self, row: Row) -> None:
        self._rows.append(row)
        if len(self._rows) >= GROUP:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._rows:
            columns = {name: [getattr(row, name) for row in self._rows] for name in COLUMNS}
            self._writer.write_table(self._pyarrow.table(columns, schema=self._schema))
            self._rows.clear()


def write_series(path: Path, series: dict[str, Any]) -> None:
    """A report's figures over time, a line for each window: when it begins, its width, its figures. Raises OSError."""
    names = [name for name, values in series.items() if isinstance(values, list)]
    width = series["width"]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["from", "seconds", *names])
        for number, values in enumerate(zip(*(series[name] for name in names))):
            writer.writerow([number * width, width, *("" if value is None else value for value in values)])
