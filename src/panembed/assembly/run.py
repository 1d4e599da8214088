"""A training run in a folder: begin it, go on with it.

A run folder holds config.yaml, environment.json, classes.json, split.json, train.log, metrics.csv, curves.png,
checkpoints/last.pt and model/ (model.safetensors, config.json, README.md); skipped.csv where batches were left out,
learned_from.json if it began with a model.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from panembed.assembly import build
from panembed.assembly.calibration import calibrate_model
from panembed.assembly.resume import CLASSES_FILE, check_resumable, rows_of_ended
from panembed.assembly.start import LEARNED_FROM_FILE, learned_before
from panembed.assembly.trainer import trainer as build_trainer
from panembed.datasets.sample import Dataset
from panembed.datasets.source import SOURCE_FILE, DataSource
from panembed.datasets.splits import SPLIT_FILE, Split, choose_split
from panembed.errors import OutputError, TrainingError, is_lack_of_memory
from panembed.io.atomic import write_json, write_text
from panembed.io.lock import folder_lock
from panembed.io.output_folder import claim_folder
from panembed.machine.environment import environment
from panembed.settings.schema import Settings

if TYPE_CHECKING:
    from panembed.training.trainer import Progress


_LOCK_SECONDS = 10.0
"""Workers outlive a training that was killed by some seconds, and hold its lock."""

_OUTGROWN = (
    "metrics.csv",
    "skipped.csv",
    "train.log",
    "curves.png",
    "checkpoints/last.pt",
    "model/config.json",
    "model/model.onnx",
    LEARNED_FROM_FILE,
    "scores.json",
    "failure.txt",
)
"""Files of a run that another in its place doesn't write at once; the last two are what an experiment notes of it."""


def train(
    settings: Settings,
    dataset: Dataset,
    folder: str | os.PathLike[str],
    *,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    tensorboard: bool = False,
    progress: Progress | None = None,
    source: DataSource | None = None,
) -> list[dict[str, Any]]:
    """Train into a run folder.

    Args:
        settings: of the run; with `resume` they must be those that it began with.
        dataset: images with truth.
        folder: of the run; made where missing.
        resume: go on from the last checkpoint.
        overwrite: begin anew in a folder that holds an earlier run.
        device: auto, cpu, cuda, ...
        tensorboard: also write TensorBoard events.
        progress: told of every step.
        source: of the data set, noted for a report.

    Returns:
        The figures of each epoch.

    Raises:
        OutputError: the folder is in use, or can't be written.
        SettingsError: `resume` with other settings, or without a run.
        InputError: data that can't be used, or a damaged checkpoint.
        MissingExtraError: PyTorch, or TensorBoard if it is asked for, is not installed.
        TrainingError: the loss is no number any more, or memory ran out.
        Interrupted: stopped by Ctrl-C or SIGTERM; all is saved.
    """
    build.require_torch()
    if tensorboard:
        from panembed.training.run_log import require_tensorboard

        require_tensorboard()
    run = Path(folder)
    if resume:
        split = check_resumable(settings, dataset, run)
    else:
        claim_folder(run, overwrite=overwrite, instead="--overwrite, or go on with it by --resume")
        split = choose_split(dataset, **settings.split.model_dump())
    with folder_lock(run, seconds=_LOCK_SECONDS) as ours:
        if not ours:
            raise OutputError(f"{run}: another process trains there; wait for its end, or choose another folder")
        if resume and (rows := rows_of_ended(settings, run)) is not None:
            return rows
        return _train(
            settings,
            dataset,
            split,
            run,
            resume=resume,
            device=device,
            tensorboard=tensorboard,
            progress=progress,
            source=source,
        )


def rehearse(settings: Settings, dataset: Dataset) -> Split:
    """Go the way of `train` as far as it reads no image and fetches no weight, and give the split that it would take.

    Raises:
        SettingsError: settings that don't go together.
        InputError: the data's own split doesn't fit.
        ModelError: there is no model to start from.
        MissingExtraError: PyTorch is not installed.
    """
    build.parts(settings, dataset.label_set, weights="check")
    return choose_split(dataset, **settings.split.model_dump())


def _train(
    settings: Settings,
    dataset: Dataset,
    split: Split,
    run: Path,
    *,
    resume: bool,
    device: str,
    tensorboard: bool,
    progress: Progress | None,
    source: DataSource | None,
) -> list[dict[str, Any]]:
    from panembed.training.run_log import read_rows

    # First what can fail by settings or data: then an earlier run is untouched, and a new folder still free.
    with _collected() as said:
        trainer = build_trainer(
            settings, dataset, split, run, resume=resume, device_name=device, tensorboard=tensorboard, progress=progress
        )
    done = len(read_rows(run)) if resume else 0
    if resume:
        for leftover in (run / "checkpoints").glob(".last.*.pt"):
            leftover.unlink()  # of a process that was killed while it wrote
        if source is not None and (run / SOURCE_FILE).exists():
            source.write(run)  # the data may have moved; a run that knew of none is left as it is
    else:
        for stale in (*map(run.joinpath, _OUTGROWN), *run.glob("tensorboard/events.out.*")):
            stale.unlink(missing_ok=True)
        for former in ("test", "tune"):
            if (run / former).is_dir():
                logging.getLogger("panembed").warning(
                    "%s is of the run that was here before; evaluate and tune the new model anew", run / former
                )
        write_text(run / "config.yaml", settings.to_yaml())
        write_json(run / "environment.json", environment())
        write_json(run / CLASSES_FILE, dataset.label_set.to_list())
        if source is not None:
            source.write(run)
        split.write(run / SPLIT_FILE)
        if settings.model.start_from is not None:
            write_json(run / LEARNED_FROM_FILE, list(learned_before(settings)))
    with _log_to(run / "train.log") as handler:
        for record in said:
            handler.handle(record)
        # Killed before the first checkpoint, a run resumes from its beginning.
        try:
            rows = trainer.fit(resume=resume and trainer.checkpoint_path.exists())
        except (RuntimeError, MemoryError) as error:
            if not is_lack_of_memory(error):
                raise
            raise TrainingError(
                f"memory ran out in training ({str(error).partition(chr(10))[0][:160]}); take a smaller "
                "training.batch_size, or a smaller input.size or augmentation.window"
            ) from error
        except KeyboardInterrupt:
            if trainer.log.rows:
                with contextlib.suppress(OutputError):
                    _draw_curves(trainer.log.rows, run)
            raise
    _draw_curves(rows, run)
    if split.val and (run / "model" / "config.json").is_file() and (len(rows) > done or not _is_calibrated(run)):
        calibrate_model(run, dataset, split.val, "val", device=device)
    return list(rows)


def _is_calibrated(run: Path) -> bool:
    from panembed.inference.model_config import read_config

    return read_config(run / "model").calibration is not None


def _draw_curves(rows: Sequence[dict[str, Any]], run: Path) -> None:
    # Only here: Matplotlib comes with the extra for training.
    from panembed.inference.model_config import read_config
    from panembed.report.figures import loss_curves

    kept = None
    if (run / "model" / "config.json").is_file():
        kept = read_config(run / "model").metrics.get("epoch")
    loss_curves(rows, run / "curves.png", kept=kept)


class _Collector(logging.Handler):
    """Keeps what is logged; warnings are also said at once."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        if record.levelno >= logging.WARNING and logging.lastResort is not None:
            logging.lastResort.handle(record)


@contextmanager
def _collected() -> Iterator[list[logging.LogRecord]]:
    """What is logged before there is a place for it."""
    collector = _Collector()
    with _logging_to(collector):
        yield collector.records


class _LogFile(logging.FileHandler):
    """A log that a full disk leaves shorter: the files that matter tell of the disk in a sentence of their own."""

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            super().close()


@contextmanager
def _log_to(path: Path) -> Iterator[logging.Handler]:
    handler = _LogFile(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    with _logging_to(handler):
        yield handler


@contextmanager
def _logging_to(handler: logging.Handler) -> Iterator[None]:
    logger = logging.getLogger("panembed")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        handler.close()
