"""Mean and deviation as NumPy has them; bold only where the spread allows; both tables hold the same cells."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from panembed.report.experiment_table import COLUMNS, PublishedRow, Row, best, latex_table, markdown_table, plot_runs

SHARES = st.lists(st.floats(0, 1), min_size=2, max_size=5)


def row(name, column, values):
    return Row(name, "", [{"seed": seed, column: value} for seed, value in enumerate(values)])


@settings(deadline=None)
@given(SHARES)
def test_statistics(values):
    some = row("a", "sbd", values)
    assert some.mean("sbd") == pytest.approx(np.mean(values))
    assert some.deviation("sbd") == pytest.approx(np.std(values, ddof=1), abs=1e-12)


@settings(deadline=None)
@given(st.lists(SHARES, min_size=2, max_size=4), st.sampled_from(["sbd", "abs_dic"]))
def test_best_differs_by_more_than_the_spread(table, column):
    rows = [row(str(i), column, values) for i, values in enumerate(table)]
    sign = {"sbd": 1, "abs_dic": -1}[column]
    found = best(rows, column)
    # By how much each is ahead of the spread; where the two are equal, rounding decides.
    ahead = [
        min(
            sign * (np.mean(mine) - np.mean(other)) - max(np.std(mine, ddof=1), np.std(other, ddof=1))
            for j, other in enumerate(table)
            if j != i
        )
        for i, mine in enumerate(table)
    ]
    if found is None:
        assert max(ahead) < 1e-9
    else:
        assert ahead[int(found.name)] > -1e-9


def test_nothing_wins_in_time_or_alone():
    assert best([row("a", "train_seconds", [1, 1]), row("b", "train_seconds", [9, 9])], "train_seconds") is None
    assert best([row("a", "sbd", [0.9, 0.9])], "sbd") is None
    assert best([row("a", "sbd", [0.9, 0.9]), row("b", "sbd", [0.1])], "sbd") is None


TABLE = [
    Row("few_s", "", [{"things.pq": 0.60, "abs_dic": 1.5}, {"things.pq": 0.62, "abs_dic": 1.5}]),
    Row("many", "", [{"things.pq": 0.70, "abs_dic": 1.0}, {"things.pq": 0.74, "abs_dic": None}]),
    Row("open", "", []),
]
PUBLISHED = [PublishedRow("U-Net | them", "Somebody (2022), Table 1 & 2", {"things.pq": 63.6})]


def test_markdown():
    lines = markdown_table(TABLE, PUBLISHED, ["things.pq", "abs_dic", "train_seconds"]).replace(r"\|", "!").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells == [
        ["", "runs", "PQ things", "abs. DiC", "training, min"],
        ["---", "---:", "---:", "---:", "---:"],
        ["*U-Net ! them*", "", "*63.6*", "*-*", "*-*"],
        ["few_s", "2", "61.0 ± 1.4", "1.50 ± 0.00", "-"],
        ["many", "2", "**72.0 ± 2.8**", "1.00", "-"],
        ["open", "0", "-", "-", "-"],
    ]


def test_latex_has_the_cells_of_markdown():
    columns = ["things.pq", "abs_dic"]
    text = latex_table(TABLE, PUBLISHED, columns)
    rows = [line for line in text.splitlines() if "&" in line]
    assert rows[0] == r"Model & $n$ & $\mathrm{PQ}^{Th}$ & abs. DiC \\"
    plain = [
        re.sub(r"\\text(?:it|bf)\{([^}]*)\}", r"\1", line.split(r" \\")[0]).replace(r"\_", "_").replace(r"$\pm$", "±")
        for line in rows[1:]
    ]
    theirs = markdown_table(TABLE, PUBLISHED, columns).replace("*", "").replace(r"\|", "!").splitlines()[2:]
    assert [[c.strip() for c in line.split("&")] for line in plain] == [
        [c.strip().replace("!", "|") for c in line.strip("|").split("|")] for line in theirs
    ]
    assert rows[1].endswith(r"% Somebody (2022), Table 1 \& 2")
    assert r"\textbf{72.0 $\pm$ 2.8}" in text
    assert text.startswith("\\begin{tabular}{l*{3}{r}}\n")
    assert text.endswith("\\end{tabular}\n")


def test_odd_letters_break_no_row():
    odd = "per_class.$a_{$|[/b].pq"
    published = [PublishedRow("Net\nwork", "Somebody (2022),\nTable 1", {odd: 1.0})]
    markdown = markdown_table(TABLE, published, [odd]).replace(r"\|", "!").splitlines()
    assert {line.count("|") for line in markdown} == {4}
    latex = latex_table(TABLE, published, [odd]).splitlines()
    assert len(latex) == len(latex_table(TABLE, PUBLISHED, ["things.pq"]).splitlines())
    assert any(line.startswith(r"\textit{Net work}") and line.endswith("% Somebody (2022), Table 1") for line in latex)


@pytest.mark.parametrize("column", ["things.pq", "abs_dic"])
def test_plot_shows_runs_means_and_what_was_published(tmp_path: Path, column):
    plot_runs(TABLE, PUBLISHED, column, tmp_path / "plot.png")
    plot_runs([TABLE[2]], [], column, tmp_path / "empty.png")
    with Image.open(tmp_path / "plot.png") as full, Image.open(tmp_path / "empty.png") as empty:
        pixels, nothing = np.asarray(full.convert("RGB")), np.asarray(empty.convert("RGB"))
    green, orange = (44, 160, 44), (255, 127, 14)
    assert (pixels == orange).all(2).sum() > 50
    assert (nothing == orange).all(2).sum() == 0
    # The hollow diamond, where the column has a published figure.
    assert ((pixels == green).all(2).sum() > 10) == (column == "things.pq")


def test_dollar_signs_are_no_formulas(tmp_path: Path):
    rows = [row(r"U-Net $\foo$", "things.pq", [0.5])]
    plot_runs(rows, [PublishedRow(r"$\bar{", "a paper", {"things.pq": 50.0})], "things.pq", tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_dollar_signs_in_the_class_that_is_drawn(tmp_path: Path):
    odd = "per_class.$a_{$.pq"
    plot_runs([row("a", odd, [0.5])], [], odd, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_plot_leaves_out_variants_without_runs(tmp_path: Path):
    done = row("done", "things.pq", [0.5])
    plot_runs([done], [], "things.pq", tmp_path / "one.png")
    plot_runs([row("to do", "things.pq", []), done], [], "things.pq", tmp_path / "two.png")
    with Image.open(tmp_path / "one.png") as one, Image.open(tmp_path / "two.png") as two:
        assert np.array_equal(np.asarray(one), np.asarray(two))


def test_columns_name_what_metrics_hold():
    """Every share is in what an evaluation gives."""
    from panembed.datasets.synthetic import SyntheticDataset
    from panembed.evaluation.scores import Evaluation

    plants = SyntheticDataset(1, size=64)
    evaluation = Evaluation(plants.label_set)
    evaluation.add("a", plants.read_truth(plants.ids[0]), plants.read_truth(plants.ids[0]))
    metrics = evaluation.metrics()
    for name in COLUMNS.keys() - {"train_seconds", "predict_seconds", "parameters", "trained_parameters"}:
        group, _, figure = name.partition(".")
        assert isinstance(metrics[group][figure] if figure else metrics[name], float), name
