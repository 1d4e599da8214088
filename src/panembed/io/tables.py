"""Rows of plain values as CSV."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal

from panembed.io.atomic import atomic_path

CsvDialect = Literal["point", "comma"]
"""Of numbers: 1.5 with commas between columns, or 1,5 with semicolons between them, as spreadsheets of most of Europe
and South America open it; these also need a mark that the file is UTF-8."""


def write_csv(path: str | os.PathLike[str], rows: Iterable[Mapping[str, Any]], columns: Iterable[str] = ()) -> None:
    """Write rows, atomically.

    Args:
        path: of the file.
        rows: each a mapping from column to value; missing values stay empty.
        columns: that come first, and are there even without rows; others follow in order of appearance.

    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_csv(pathlib.Path(folder) / "a.csv", [{"b": 1}, {"c": 2}], columns=["a"])
    ...     (pathlib.Path(folder) / "a.csv").read_text().split()
    ['a,b,c', ',1,', ',,2']
    """
    rows = list(rows)
    names = list(dict.fromkeys([*columns, *(key for row in rows for key in row)]))
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


@contextlib.contextmanager
def csv_writer(
    path: str | os.PathLike[str], columns: Iterable[str]
) -> Iterator[Callable[[Iterable[Mapping[str, Any]]], None]]:
    """Give a function that writes rows as they come, so that memory doesn't grow with their number.

    The file appears when the block ends without an error.

    Args:
        path: of the file.
        columns: all that rows may have; each is written once.

    Yields:
        The function; it takes rows as `write_csv` does, and raises ValueError for a column that isn't listed.

    Raises:
        OutputError: see `panembed.io.atomic.atomic_path`.

    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with csv_writer(pathlib.Path(folder) / "a.csv", ["a", "b"]) as write:
    ...         write([{"b": 1}, {"a": 2}])
    ...     (pathlib.Path(folder) / "a.csv").read_text().split()
    ['a,b', ',1', '2,']
    """
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(columns)), lineterminator="\n")
        writer.writeheader()
        yield writer.writerows


@contextlib.contextmanager
def growing_csv_writer(
    path: str | os.PathLike[str], columns: Iterable[str], *, last: Iterable[str] = (), dialect: CsvDialect = "point"
) -> Iterator[Callable[[Iterable[Mapping[str, Any]]], None]]:
    """`csv_writer` for rows whose columns nobody knows before: they wait in a temporary file for the heading.

    Args:
        path: of the file.
        columns: that come first, and are there even without rows; others follow in order of appearance.
        last: columns that come after all others.
        dialect: of numbers.

    Yields:
        The function that takes rows of plain values; missing ones stay empty.

    Raises:
        OutputError: see `panembed.io.atomic.atomic_path`.

    >>> import pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with growing_csv_writer(pathlib.Path(folder) / "a.csv", ["a"], dialect="comma") as write:
    ...         write([{"b": 1.5}, {"a": 2, "c": 1e-9}])
    ...     (pathlib.Path(folder) / "a.csv").read_text(encoding="utf-8-sig").split()
    ['a;b;c', ';1,5;', '2;;1e-09']
    """
    names = dict.fromkeys(columns)
    ends = dict.fromkeys(last)
    with (
        atomic_path(path) as temporary,
        tempfile.TemporaryFile("w+", encoding="utf-8", dir=temporary.parent) as waiting,
    ):

        def write(rows: Iterable[Mapping[str, Any]]) -> None:
            for row in rows:
                names.update(dict.fromkeys(row))
                waiting.write(json.dumps(dict(row), ensure_ascii=False) + "\n")

        yield write
        waiting.seek(0)
        encoding, delimiter = ("utf-8-sig", ";") if dialect == "comma" else ("utf-8", ",")
        with temporary.open("w", newline="", encoding=encoding) as file:
            heading = [*(name for name in names if name not in ends), *ends]
            writer = csv.DictWriter(file, heading, lineterminator="\n", delimiter=delimiter)
            writer.writeheader()
            for line in waiting:
                row = json.loads(line)
                writer.writerow(
                    row if dialect == "point" else {name: _with_comma(value) for name, value in row.items()}
                )


def _with_comma(value: Any) -> Any:
    return str(value).replace(".", ",") if isinstance(value, float) else value
