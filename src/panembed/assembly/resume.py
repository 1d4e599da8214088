"""What `--resume` checks: a run goes on with the settings, classes and images that it began with, or not at all."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from panembed.datasets.sample import Dataset
from panembed.datasets.splits import SPLIT_FILE, Split
from panembed.errors import InputError, SettingsError
from panembed.labels.categories import LabelSet
from panembed.settings.schema import Settings

CLASSES_FILE = "classes.json"
"""In a run folder: the classes that it began with."""


def check_resumable(settings: Settings, dataset: Dataset, run: Path) -> Split:
    """Check that a run can go on with these settings and data, and give the split that it began with.

    Raises:
        SettingsError: there is no run, or it began with other settings.
        InputError: it began with other data.
    """
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


def rows_of_ended(settings: Settings, run: Path) -> list[dict[str, Any]] | None:
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


def _flat(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in data.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {prefix + key: value})
    return flat
