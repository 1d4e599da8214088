"""Tables and progress bars. Bars are drawn on a terminal only; NO_COLOR is obeyed."""

from __future__ import annotations

import math
import time
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from panembed.labels.categories import LabelSet
from panembed.metrics.panoptic_quality import PanopticQualityResult, Score
from panembed.report.tables import counted

_SECONDS_BETWEEN_LINES = 60
"""Of a training that draws no bar."""


def messages() -> Console:
    """Where messages go: stderr, each as it is; long lines are left to the terminal."""
    return Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)


def bar() -> Progress:
    """A progress bar with time spent and time left; silent where stderr is no terminal."""
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        disable=not console.is_terminal,
    )


class TrainingProgress:
    """Draws a bar over all steps of a run, and says a line per validated epoch; without a bar one a minute at least.

    Use as a context manager around the training.
    """

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self.progress = bar()
        self.console = self.progress.console
        self.task = self.progress.add_task("training", total=epochs, note="")
        self._said = -math.inf

    def __enter__(self) -> TrainingProgress:
        self.progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.progress.stop()

    def step(self, epoch: int, step: int, loss: float) -> None:
        """See `panembed.training.trainer.Progress`."""
        self.progress.update(self.task, note=f"loss {loss:.3f}")

    def epoch(self, row: dict[str, float | int]) -> None:
        """See `panembed.training.trainer.Progress`."""
        self.progress.update(self.task, completed=row["epoch"])
        told = f"epoch {row['epoch']}/{self.epochs}: loss {row['train_loss']:.3f}"
        if "val_loss" in row:
            qualities = f"PQ {_in_percent(row['val_pq'])}, things PQ {_in_percent(row['val_pq_things'])}"
            told += f", validation loss {row['val_loss']:.3f}, {qualities}"
        elif not self.progress.disable or time.monotonic() - self._said < _SECONDS_BETWEEN_LINES:
            return
        self._said = time.monotonic()
        self.console.print(f"{told}, {row['seconds']:.0f} s", soft_wrap=True)


def _in_percent(share: float) -> str:
    """As tables have it; things or stuff may not occur."""
    return "-" if math.isnan(share) else f"{100 * share:.1f}"


def quality_table(result: PanopticQualityResult, metrics: dict[str, Any], label_set: LabelSet) -> Table:
    """PQ, SQ and RQ in percent for all, things, stuff and each class, then what else was measured.

    Objects are counted of things only, as a stuff class is one segment an image. A group of one class is one row.

    Args:
        result: of all classes.
        metrics: what `panembed.evaluation.scores.Evaluation.metrics` gives.
        label_set: the classes.
    """
    heads = ("", "PQ", "SQ", "RQ", "true", "predicted", "matched")
    table = Table(*heads, caption=_caption(metrics), caption_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    table.add_row("all", *_percent(result.all), style="bold", end_section=True)
    for group, score, members in (
        ("things", result.things, label_set.things),
        ("stuff", result.stuff, label_set.stuff),
    ):
        names = [label_set[index].name for index in members]
        count = _counts if group == "things" else _no_counts
        title = f"{group}: {escape(names[0])}" if len(names) == 1 else group
        table.add_row(title, *_percent(score), *count(score), style="bold", end_section=len(names) <= 1)
        for number, name in enumerate(names if len(names) > 1 else [], start=1):
            own = result.per_class[name]
            table.add_row(f"  {escape(name)}", *_percent(own), *count(own), end_section=number == len(names))
    return table


def _percent(score: Score) -> list[str]:
    return ["-" if value is None else f"{100 * value:.1f}" for value in (score.pq, score.sq, score.rq)]


def _counts(score: Score) -> list[str]:
    return [str(score.tp + score.fn), str(score.tp + score.fp), str(score.tp)]


def _no_counts(score: Score) -> list[str]:
    return []


def _caption(metrics: dict[str, Any]) -> str:
    images, objects = counted(metrics["images"], "image"), counted(metrics["objects_true"], "object")
    parts = [f"{images}, {objects}, {metrics['objects_predicted']} predicted"]
    if metrics.get("sbd") is not None:
        parts.append(f"SBD {100 * metrics['sbd']:.1f}, |DiC| {metrics['abs_dic']:.2f}, FBD {100 * metrics['fbd']:.1f}")
    if metrics.get("ap") is not None:
        parts.append(f"AP {100 * metrics['ap']:.1f}, AP50 {100 * metrics['ap50']:.1f}")
    if metrics.get("miou") is not None:
        parts.append(f"mIoU {100 * metrics['miou']:.1f}")
    return "; ".join(parts)
