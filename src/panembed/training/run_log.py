"""What a run says of itself: metrics.csv, skipped.csv, train.log, and TensorBoard where it is installed."""

from __future__ import annotations

import csv
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from panembed.errors import InputError, MissingExtraError, printable
from panembed.io.atomic import atomic_path

LOGGER = logging.getLogger("panembed")


def require_tensorboard() -> None:
    """Check that events can be written.

    Raises:
        MissingExtraError: names the extra to install.
    """
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            "--tensorboard needs TensorBoard, which is not installed; "
            "install it with: pip install 'panembed[tensorboard]', or leave --tensorboard out"
        ) from error


def told_of(row: Mapping[str, float | int]) -> dict[str, str]:
    """Figures of an epoch as the screen has them: qualities in percent; metrics.csv has them as fractions.

    >>> told_of({"epoch": 3, "val_loss": 0.25, "val_pq_things": 0.8643, "val_abs_dic": 1.5})
    {'epoch': '3', 'val_loss': '0.25', 'val_pq_things': '86.4 %', 'val_abs_dic': '1.5'}
    """
    told = {}
    for name, value in row.items():
        percent = name.startswith("val_pq") or name == "val_sbd"
        if not isinstance(value, float):
            told[name] = str(value)
        else:
            told[name] = "-" if math.isnan(value) else f"{100 * value:.1f} %" if percent else f"{value:.4g}"
    return told


def read_rows(folder: Path) -> list[dict[str, float]]:
    """The figures of each epoch of a run, from its metrics.csv; none where that is missing.

    Raises:
        InputError: it is damaged.
    """
    path = folder / "metrics.csv"
    if not path.is_file():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]
        if not all({"epoch", "seconds"} <= row.keys() for row in rows):
            raise ValueError
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: is damaged; expected a row of numbers for each epoch; copy the run again") from error
    return rows


class RunLog:
    """One row per epoch.

    Rows are kept in memory and in checkpoints, and metrics.csv is written whole each time, so that a resumed run has
    each epoch once.

    Args:
        folder: of the run.
        tensorboard: also write events to `folder/tensorboard`; needs the extra panembed[tensorboard].

    Raises:
        MissingExtraError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path, *, tensorboard: bool = False) -> None:
        self.path = folder / "metrics.csv"
        self.rows: list[dict[str, float | int]] = []
        self.skipped_path = folder / "skipped.csv"
        self.skipped: list[dict[str, Any]] = []
        self._writer: Any = None
        if tensorboard:
            require_tensorboard()
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(folder / "tensorboard"))

    def add(self, row: dict[str, float | int]) -> None:
        """Append the figures of an epoch."""
        self.rows.append(row)
        self.write()
        LOGGER.info(", ".join(f"{name} {told}" for name, told in told_of(row).items()))
        if self._writer is not None:
            for name, value in row.items():
                if name != "epoch":
                    self._writer.add_scalar(name, value, row["epoch"])
            self._writer.flush()

    def write(self) -> None:
        """Write all rows to metrics.csv."""
        _write_table(self.path, self.rows)

    def add_skipped(self, epoch: int, step: int, loss: float, gradient: float, images: list[str]) -> None:
        """Keep a batch that was left out, a row for each of its images, in skipped.csv.

        Args:
            epoch: it was in, from 1.
            step: of the epoch, from 1.
            loss: of the batch.
            gradient: its norm.
            images: ids.

        Raises:
            OutputError: the disk is full or not writable.
        """
        batch = {"epoch": epoch, "step": step, "loss": loss, "gradient": gradient}
        self.skipped += [{**batch, "image": printable(image)} for image in images]
        _write_table(self.skipped_path, self.skipped)
        LOGGER.warning(
            "epoch %d, step %d: the loss is %g and its gradient %g, so the batch is left out; its images are in %s",
            *(epoch, step, loss, gradient, self.skipped_path),
        )

    def restore_skipped(self, rows: list[dict[str, Any]]) -> None:
        """Have skipped.csv say what a checkpoint does; what came after it comes again."""
        self.skipped = rows
        if rows:
            _write_table(self.skipped_path, rows)
        else:
            self.skipped_path.unlink(missing_ok=True)

    def num_skipped(self, epoch: int | None = None) -> int:
        """How many batches of an epoch, counted from 1, or of all were left out."""
        return len({(row["epoch"], row["step"]) for row in self.skipped if epoch in (None, row["epoch"])})


def _write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
