"""The table of ideas in docs/accuracy.md says what its runs say, row by row."""

from __future__ import annotations

import csv
import re
import statistics
from pathlib import Path

import pytest

from panembed.experiments.plan import Experiment

DOCS = Path(__file__).parents[2] / "docs"
FIGURES = {"things_pq": 1, "things_sq": 1, "things_rq": 1, "sbd": 1, "abs_dic": 2}


def runs() -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    with (DOCS / "tables/table-b-runs.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["variant"], []).append(row)
    return found


def printed() -> dict[str, list[str]]:
    page = (DOCS / "accuracy.md").read_text(encoding="utf-8")
    section = page.partition("\n## Which idea gave what\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([\w.-]+)`.*?\| (.*) \|$", section, re.MULTILINE)
    return {name: [cell.strip(" *") for cell in cells.split("|")] for name, cells in rows}


RUNS = runs()


@pytest.mark.parametrize("variant", RUNS)
def test_rows_are_means_of_their_runs(variant: str) -> None:
    cells = printed()[variant]
    for cell, (name, decimals) in zip(cells, FIGURES.items()):
        values = [float(row[name]) for row in RUNS[variant] if row[name]]
        if len(values) < len(RUNS[variant]):
            continue  # of some runs only things PQ was kept
        shown = [float(part) for part in cell.split(" ± ")]
        known = [statistics.fmean(values), *([statistics.stdev(values)] if len(values) > 1 else [])]
        assert len(shown) == len(known), cell
        # Seed 0 is known to one decimal.
        assert shown == pytest.approx(known, abs=0.51 * 10**-decimals + 0.03 * (decimals == 1)), (name, cell)


def test_every_variant_has_a_row_and_runs() -> None:
    experiment = Experiment.load(DOCS.parent / "experiments/table-b.yaml")
    names = [variant.name for variant in experiment.variants]
    assert list(RUNS) == names
    assert sorted(printed()) == sorted(names)
