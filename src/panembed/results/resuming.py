"""Going on with a prediction that was stopped."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from panembed.errors import InputError, OutputError, PanembedError
from panembed.io.output_folder import leftovers
from panembed.labels.categories import LabelSet
from panembed.results.editing import as_predicted, read_pictures
from panembed.results.record import RECORD_FILE, Entry, PredictionRecord
from panembed.results.result import PanopticResult

Outcome = PanopticResult | PanembedError


def begin(folder: Path, call: Mapping[str, Any], *, resume: bool) -> PredictionRecord:
    """The record of a prediction that begins, or goes on; what a killed process had half written is removed.

    Args:
        folder: that exists.
        call: what the results depend on.
        resume: go on with what is there; a folder without files begins.

    Raises:
        OutputError: there are files, but no prediction.
        SettingsError: the prediction there was made otherwise.
        InputError: its record is damaged.
    """
    half_written = leftovers(folder)
    record = PredictionRecord(folder, call)
    if resume and (folder / RECORD_FILE).is_file():
        record = PredictionRecord.read(folder)
        record.check(call)
    elif resume and len(half_written) < sum(path.is_file() for path in folder.rglob("*")):
        raise OutputError(
            f"--resume: {folder} holds no prediction to go on with (no {RECORD_FILE}); start it without --resume"
        )
    for path in half_written:
        path.unlink()
    record.write()
    return record


def outcomes(
    files: Sequence[Path],
    record: PredictionRecord,
    label_set: LabelSet,
    predict: Callable[[Iterable[Path]], Iterator[tuple[Path, Outcome]]],
) -> Iterator[tuple[Path, Outcome, bool]]:
    """What becomes of files, in their order: those that are done come from their pictures, the rest are predicted.

    Args:
        files: to segment.
        record: of what is done.
        label_set: the classes.
        predict: segments files, in their order.

    Yields:
        The file, its result or error, and whether its pictures are there already.

    Raises:
        InputError: a picture was edited since, or an image is done that is none of `files`.
    """
    paths = {os.path.abspath(path): path for path in files}
    if strange := [file for file in record.entries if file not in paths]:
        raise InputError(
            f"--resume: {strange[0]} is done in {record.folder}, but none of the images now; give it the same images, "
            "and more if you like, or predict anew with --overwrite"
        )
    done = {file: entry for file, entry in record.entries.items() if _is_done(record.folder, entry, paths[file])}
    predicted = predict([path for file, path in paths.items() if file not in done])
    for file, path in paths.items():
        if file not in done:
            yield *next(predicted), False
            continue
        pictures = read_pictures(record.folder, done[file], label_set)
        if pictures.changed:
            raise InputError(
                f"--resume: the pictures of {path.name} in {record.folder} are not as they were predicted; have them "
                "measured first (`panembed measure`), or remove them to predict the image again"
            )
        yield path, as_predicted(pictures, done[file], label_set), True


def _is_done(folder: Path, entry: Entry, path: Path) -> bool:
    """Whether all pictures of an image are there, and the image is the one that they were made of."""
    pictures = (f"{entry.name}_semantic.png", f"{entry.name}_overlay.png")
    instances = (folder / f"{entry.name}_instances{suffix}" for suffix in (".png", ".tif"))
    return entry.is_of(path) and any(p.is_file() for p in instances) and all((folder / p).is_file() for p in pictures)
