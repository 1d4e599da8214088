"""Rows of plain values as CSV."""

from __future__ import annotations

import contextlib
import csv
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from panembed.io.atomic import atomic_path


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
