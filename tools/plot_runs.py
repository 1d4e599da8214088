"""Draw the runs that a table of the documentation is made of: a dot for each.

python tools/plot_runs.py docs/tables/table-b-runs.csv docs/images/table-b.png --least 45
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from panembed.report.experiment_table import Row, plot_runs


def main() -> None:
    """Read the runs, draw them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, help="CSV with the columns variant, seed and things_pq, in percent")
    parser.add_argument("output", type=Path, help="PNG to write")
    parser.add_argument("--least", type=float, default=0, help="variants with a lower mean are left out, for the scale")
    arguments = parser.parse_args()
    records: dict[str, list[dict[str, float]]] = {}
    with arguments.runs.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            records.setdefault(row["variant"], []).append({"things.pq": float(row["things_pq"]) / 100})
    rows = [Row(name, "", runs) for name, runs in records.items()]
    rows = [row for row in rows if (row.mean("things.pq") or 0) >= arguments.least / 100]
    plot_runs(rows, [], "things.pq", arguments.output)


if __name__ == "__main__":
    main()
