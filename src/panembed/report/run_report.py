"""What a report tells of a run folder: its curves, its settings, and the scores that lie in it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from panembed.report.charts import Chart, lines
from panembed.report.evaluation_report import is_evaluation_folder
from panembed.report.html import Report
from panembed.report.prediction_report import read_table

_PARTS = (("loss", "", "total"), ("semantic_loss", " thin", "semantic"), ("instance_loss", " dotted", "instance"))


def is_run_folder(folder: Path) -> bool:
    """Whether `panembed train` wrote there."""
    return (folder / "config.yaml").is_file()


def scores_in(folder: Path) -> Path | None:
    """Where a run has been evaluated: its `test`, or its `val`."""
    return next((folder / part for part in ("test", "val") if is_evaluation_folder(folder / part)), None)


def add_run(report: Report, folder: Path) -> None:
    """Put what a run folder holds into a report.

    Raises:
        InputError: metrics.csv is damaged.
    """
    rows = _epochs(folder)
    report.charts = [*curves(rows), *report.charts]
    if not rows:
        report.notes.append("No epoch has ended yet, so there are no curves.")
    else:
        report.facts.append(("epochs", str(len(rows))))
        report.facts.append(("minutes", f"{sum(row.get('seconds', 0) for row in rows) / 60:.1f}"))
        best = [row for row in rows if np.isfinite(row.get("val_loss", np.nan))]
        if best:
            lowest = min(best, key=lambda row: row["val_loss"])
            report.facts.append(("lowest validation loss", f"{lowest['val_loss']:.3f}, epoch {lowest['epoch']:.0f}"))
    split = _json(folder / "split.json")
    if isinstance(split, Mapping):
        sizes = {part: len(split[part]) for part in ("train", "val", "test") if isinstance(split.get(part), Sequence)}
        report.facts.append(("images", ", ".join(f"{count} {part}" for part, count in sizes.items())))
    for title, name in (("Settings", "config.yaml"), ("Machine and packages", "environment.json")):
        path = folder / name
        if path.is_file():
            report.folded.append((title, path.read_text(encoding="utf-8", errors="replace")))


def curves(rows: Sequence[Mapping[str, float]]) -> list[Chart]:
    """Losses (figure 4.3 of the thesis) and validation scores over epochs.

    Args:
        rows: of metrics.csv.
    """
    losses = {}
    for stage, style, stage_name in (("train", "c0", "training"), ("val", "c1", "validation")):
        for part, dash, name in _PARTS:
            losses[f"{stage_name} {name}"] = (f"{style}{dash}", *_series(rows, f"{stage}_{part}"))
    scores = {}
    for key, style, name in (
        ("val_pq_things", "c2", "PQ of things"),
        ("val_pq_stuff", "c0", "PQ of stuff"),
        ("val_sbd", "c3", "SBD"),
    ):
        x, y = _series(rows, key)
        scores[name] = (style, x, 100 * y)
    charts = (
        lines("Loss", losses, x_label="epoch", y_label="loss"),
        lines("Validation scores", scores, x_label="epoch", y_label="percent", top=100),
    )
    return [chart for chart in charts if chart is not None]


def _series(rows: Sequence[Mapping[str, float]], key: str) -> tuple[Any, Any]:
    pairs = [(row["epoch"], row[key]) for row in rows if key in row and "epoch" in row]
    array = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    return array[:, 0], array[:, 1]


def _epochs(folder: Path) -> list[dict[str, float]]:
    path = folder / "metrics.csv"
    if not path.is_file():
        return []
    rows = []
    for row in read_table(path):
        numbers = {}
        for key, value in row.items():
            try:
                numbers[key] = float(value)
            except (TypeError, ValueError):
                continue
        rows.append(numbers)
    return rows


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
