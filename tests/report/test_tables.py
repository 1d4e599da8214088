"""Scores as Markdown and LaTeX."""

from __future__ import annotations

import json

from panembed.evaluation.scores import Evaluation
from panembed.labels.categories import Category, LabelSet
from panembed.labels.panoptic_map import PanopticMap
from panembed.report.tables import latex_rows, percent, scores_markdown, write_tables

LABEL_SET = LabelSet([Category(0, "soil", False), Category(1, "leaf|small", True), Category(2, "pot", False)])


def some_metrics():
    evaluation = Evaluation(LABEL_SET)
    truth = PanopticMap([[0, 0, 1, 1, 1, 1]], [[0, 0, 1, 1, 2, 2]])
    evaluation.add("a", PanopticMap([[0, 0, 1, 1, 1, 1]], [[0, 0, 8, 8, 8, 3]]), truth)
    return evaluation.metrics()


def score(*values):
    return dict(zip(("pq", "sq", "rq"), values))


def test_markdown():
    lines = scores_markdown(some_metrics()).splitlines()
    table = [[cell.strip() for cell in line.replace(r"\|", "!").strip("|").split("|")] for line in lines if "|" in line]
    assert len({len(row) for row in table}) == 1
    assert table[0][1:] == ["PQ", "SQ", "RQ", "AP", "AP50", "IoU", "matched", "unmatched predicted", "unmatched true"]
    rows = {row[0]: row[1:] for row in table[2:]}
    assert list(rows) == ["**all**", "**things**", "**stuff**", "soil", "leaf!small", "pot"]
    assert rows["**all**"][:6] == ["66.7", "83.3", "75.0", "-", "-", "100.0"]
    assert rows["leaf!small"] == ["33.3", "66.7", "50.0", "15.0", "37.5", "100.0", "1", "1", "1"]
    assert rows["**things**"][3:5] == ["15.0", "37.5"]
    assert rows["pot"] == ["-"] * 6 + ["0", "0", "0"]
    assert "1 image; objects: 2 true, 2 predicted." in lines[-1]
    assert "SBD" in lines[-1]
    assert lines[-1].endswith("(every confidence 1).")
    ignoring = scores_markdown({**some_metrics(), "ap_min_area": 100}).splitlines()
    assert ignoring[-1].endswith("(every confidence 1), objects below 100 px ignored.")


def test_latex_is_the_thesis_table():
    """Table 4.3, row by row as it is printed."""
    metrics = {
        "all": score(0.814, 0.916, 0.879), "things": score(0.636, 0.839, 0.758), "stuff": score(0.993, 0.993, 1.0),
    }  # fmt: skip
    lines = latex_rows({"U-Net": metrics, "A & B_1 100%": {**metrics, "stuff": score(None, None, None)}}).splitlines()
    assert lines[-2] == r"U-Net & 81.4 & 91.6 & 87.9 & 63.6 & 83.9 & 75.8 & 99.3 & 99.3 & 100.0 \\"
    assert lines[-1] == r"A \& B\_1 100\% & 81.4 & 91.6 & 87.9 & 63.6 & 83.9 & 75.8 & - & - & - \\"
    assert all(line.startswith("%") for line in lines[:-2])
    heading = lines[-3]
    assert heading.count("&") == lines[-1].replace(r"\&", "").count("&") == 9
    assert r"$\mathrm{PQ}^{Th}$" in heading


def test_files_from_metrics_json(tmp_path):
    """Tables can be made again from the file, and a set without things or scores has them, too."""
    metrics = some_metrics()
    write_tables(tmp_path, "unet", json.loads(json.dumps(metrics)))
    assert (tmp_path / "scores.md").read_text() == scores_markdown(metrics)
    assert (tmp_path / "scores.tex").read_text().splitlines()[-1].startswith("unet & 66.7 & ")
    stuff = Evaluation(LabelSet([Category(0, "soil", False)])).metrics()
    assert "AP as" not in scores_markdown(stuff)


def test_percent():
    assert [percent(value) for value in (0.0, 0.12349, 1.0, None)] == ["0.0", "12.3", "100.0", "-"]
