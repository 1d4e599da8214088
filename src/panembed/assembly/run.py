"""A training run in a folder: begin it, go on with it.

A run folder holds config.yaml, environment.json, classes.json, split.json, train.log, metrics.csv, curves.png,
checkpoints/last.pt and model/ (model.safetensors, config.json, README.md); learned_from.json if it began with a model.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from panembed.assembly import build
from panembed.assembly.start import LEARNED_FROM_FILE, learned_before
from panembed.assembly.trainer import trainer as build_trainer
from panembed.datasets.sample import Dataset
from panembed.datasets.splits import SPLIT_FILE, Split, choose_split
from panembed.errors import InputError, OutputError, SettingsError, TrainingError, is_lack_of_memory
from panembed.io.atomic import write_json, write_text
from panembed.io.lock import folder_lock
from panembed.io.output_folder import claim_folder
from panembed.labels.categories import LabelSet
from panembed.machine.environment import environment
from panembed.report.figures import loss_curves
from panembed.settings.schema import Settings

if TYPE_CHECKING:
    from panembed.training.trainer import Progress


CLASSES_FILE = "classes.json"

_LOCK_SECONDS = 10.0
"""Workers outlive a training that was killed by some seconds, and hold its lock."""

_OUTGROWN = (
    "metrics.csv",
    "train.log",
    "curves.png",
    "checkpoints/last.pt",
    "model/config.json",
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
        split = _check_resumable(settings, dataset, run)
    else:
        claim_folder(run, overwrite=overwrite, instead="--overwrite, or go on with it by --resume")
        split = choose_split(dataset, **settings.split.model_dump())
    with folder_lock(run, seconds=_LOCK_SECONDS) as ours:
        if not ours:
            raise OutputError(f"{run}: another process trains there; wait for its end, or choose another folder")
        if resume and (rows := _rows_of_ended(settings, run)) is not None:
            return rows
        return _train(
            settings, dataset, split, run, resume=resume, device=device, tensorboard=tensorboard, progress=progress
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


def _rows_of_ended(settings: Settings, run: Path) -> list[dict[str, Any]] | None:
    """The epochs of a run that has ended, and whose checkpoint, which takes space, is gone since; else None."""
    from panembed.inference.model_config import WEIGHTS
    from panembed.training.early_stopping import EarlyStopping
    from panembed.training.run_log import read_rows

    if (run / "checkpoints/last.pt").exists() or not (run / "model" / WEIGHTS).is_file():
        return None
    rows, training = read_rows(run), settings.training
    stopping = EarlyStopping(training.patience, maximize=not training.monitor.endswith("loss"))
    for row in rows:
        stopping.update(row.get(training.monitor, math.nan), int(row["epoch"]))
    last = int(rows[-1]["epoch"]) if rows else 0
    exhausted = last % training.validate_every == 0 and stopping.exhausted(last)
    return rows if last == training.epochs or exhausted else None


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
) -> list[dict[str, Any]]:
    # First what can fail by settings or data: then an earlier run is untouched, and a new folder still free.
    with _collected() as said:
        trainer = build_trainer(
            settings, dataset, split, run, resume=resume, device_name=device, tensorboard=tensorboard, progress=progress
        )
    if resume:
        for leftover in (run / "checkpoints").glob(".last.*.pt"):
            leftover.unlink()  # of a process that was killed while it wrote
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
                    loss_curves(trainer.log.rows, run / "curves.png")
            raise
    loss_curves(rows, run / "curves.png")
    return list(rows)


def _check_resumable(settings: Settings, dataset: Dataset, run: Path) -> Split:
    path = run / "config.yaml"
    if not path.is_file():
        raise SettingsError(f"--resume: {run} holds no run to go on with (no config.yaml); start it without --resume")
    began = Settings.load(config=path)
    if began != settings:
        ours, theirs = _flat(settings.model_dump()), _flat(began.model_dump())
        # What is within by_class, labels or options may be on one side only.
        pairs = {key: [repr(s[key]) if key in s else "nothing" for s in (ours, theirs)] for key in ours | theirs}
        key, (asked, found) = next((key, pair) for key, pair in pairs.items() if pair[0] != pair[1])
        raise SettingsError(
            f"--resume: {key} is {asked}, but the run in {run} began with {found}; "
            "resume with the same settings, or start a new run"
        )
    check_classes(dataset, run)
    split = Split.read(run / SPLIT_FILE)
    try:
        split.check(dataset.ids)
    except InputError as error:
        raise InputError(f"--resume: {dataset.root} is not the data that the run began with: {error}") from error
    return split


def check_classes(dataset: Dataset, run: Path) -> None:
    """Check that the channels of a run go on meaning the same classes; colours may change.

    Raises:
        InputError: the data have other classes than the run began with, or its list of them is damaged.
    """
    path = run / CLASSES_FILE
    if not path.is_file():
        return
    try:
        began = LabelSet.from_list(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: is damaged; copy the run again, or start a new one") from error
    ours, theirs = ([(c.id, c.name, c.is_thing) for c in label_set] for label_set in (dataset.label_set, began))
    if ours != theirs:
        names = [", ".join(f"{id} {name}" for id, name, _ in classes) for classes in (ours, theirs)]
        raise InputError(
            f"{run}: the classes of {dataset.root} are {names[0]}, but the run began with {names[1]}; give it "
            "the same data, or start a new run"
        )


def _flat(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in data.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {prefix + key: value})
    return flat


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


@contextmanager
def _log_to(path: Path) -> Iterator[logging.Handler]:
    handler = logging.FileHandler(path, encoding="utf-8")
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
