"""Rows of plain values as CSV."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping
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
