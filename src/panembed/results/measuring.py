"""A prediction folder whose pictures were edited: measured and drawn again."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from panembed.errors import InputError
from panembed.io.channels import Channel
from panembed.io.images import read_image
from panembed.io.output_folder import held_folder, leftovers
from panembed.labels.categories import LabelSet
from panembed.results.editing import as_edited, as_predicted, from_panoptic, read_pictures
from panembed.results.prediction_folder import PredictionFolder
from panembed.results.record import Entry, PredictionRecord
from panembed.results.result import PanopticResult


@dataclass(slots=True)
class Measured:
    """What became of a folder.

    Attributes:
        num_images: in its tables.
        num_edited: of these.
        num_objects: in all of them.
        without_image: names of edited images whose photographs are not there.
        failed: one row per picture that can't be used: file, reason.
    """

    num_images: int = 0
    num_edited: int = 0
    num_objects: int = 0
    without_image: list[str] = field(default_factory=list)
    failed: list[dict[str, str]] = field(default_factory=list)


class _Edited(PredictionRecord):
    """Is written whole at the end, as the record of before is needed until then."""

    def add(self, path: Path, result: PanopticResult) -> None:
        entry = Entry.of(path, result)
        former = self.entries.get(entry.file)
        self.entries[entry.file] = entry if former is None else former.with_result_of(entry)


def measure_again(
    folder: Path, *, images: Path | None = None, each: Callable[[str | None], None] = lambda error: None
) -> Measured:
    """Bring tables, overlays, panoptic.json and exports of a folder up to date with its pictures.

    An image whose picture can't be used keeps the rows of before, and is named in failed.csv; the rest go on. Each
    table is replaced in one step at the end, so that a failure leaves the former ones.

    Args:
        folder: that `panembed predict` wrote.
        images: folder of the photographs, where they are not any more where they were.
        each: told of every image: why its picture can't be used, or None.

    Raises:
        InputError: no such folder.
        OutputError: another process writes there, or a file can't be written.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected one that `panembed predict` wrote")
    done = Measured()
    with held_folder(folder):
        record = PredictionRecord.read(folder)
        for path in leftovers(folder):
            path.unlink()
        label_set, call = record.label_set(), record.call
        edited = _Edited(folder, call, record.entries)
        predictions = PredictionFolder(
            folder,
            label_set,
            formats=call["write"],
            record=edited,
            numbered=call["numbers"],
            dialect=call["csv_dialect"],
        )
        with predictions:
            predictions.failed += [row for row in _failures(folder) if _is_of_input(row, folder)]
            for entry in record.entries.values():
                error = _take(folder, entry, label_set, images, call["channel"], predictions, done)
                if error is not None:
                    row = {"file": str(_picture(folder, entry)), "reason": str(error)}
                    predictions.failed.append(row)
                    done.failed.append(row)
                each(None if error is None else str(error))
        edited.write()
    done.num_images, done.num_objects = predictions.num_images, predictions.num_objects
    return done


def _take(
    folder: Path,
    entry: Entry,
    label_set: LabelSet,
    images: Path | None,
    channel: Channel,
    predictions: PredictionFolder,
    done: Measured,
) -> InputError | None:
    """Give one image to the tables; the error of its picture, if it can't be used."""
    path = Path(entry.file)
    try:
        pictures = read_pictures(folder, entry, label_set)
        if not pictures.changed:
            predictions.add(path, as_predicted(pictures, entry, label_set), drawn=True)
            return None
        image = _photograph(path, images, entry, channel)
        result = as_edited(folder, pictures, entry, label_set, image)
    except InputError as error:
        if (former := from_panoptic(folder, entry, label_set)) is not None:
            predictions.add(path, former, drawn=True)
        return error
    if image is None:
        done.without_image.append(entry.name)
    done.num_edited += 1
    predictions.add(path, result)
    return None


def _picture(folder: Path, entry: Entry) -> Path:
    return folder / f"{entry.name}_instances.png"


def _photograph(path: Path, images: Path | None, entry: Entry, channel: Channel) -> NDArray[np.uint8] | None:
    for place in (path,) if images is None else (images / path.name, path):
        try:
            image = read_image(place, channel=channel)
        except InputError:
            continue
        if image.shape[:2] == tuple(entry.shape):
            return image
    return None


def _failures(folder: Path) -> list[dict[str, str]]:
    try:
        with (folder / "failed.csv").open(newline="", encoding="utf-8") as file:
            return [{"file": row["file"], "reason": row["reason"]} for row in csv.DictReader(file)]
    except (OSError, KeyError, ValueError):
        return []


def _is_of_input(row: dict[str, str], folder: Path) -> bool:
    """Whether a failure was one of `panembed predict`, not of an edited picture, which is looked at anew."""
    return Path(row["file"]).parent.resolve() != folder.resolve()
