"""What a report tells of a folder that `panembed predict` wrote."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from panembed.errors import InputError
from panembed.io.channels import Channel
from panembed.io.images import read_image
from panembed.labels.categories import LabelSet
from panembed.labels.panoptic_map import PanopticMap
from panembed.report.charts import histogram
from panembed.report.html import PictureBudget, Report, ReportImage, Table, ranked
from panembed.report.pictures import label_layer, photograph
from panembed.report.tables import counted
from panembed.results.editing import as_predicted, read_pictures
from panembed.results.record import RECORD_FILE, Entry, PredictionRecord

LEAST_CERTAIN, FEWEST, MOST = "least certain first", "fewest objects first", "most objects first"


def is_prediction_folder(folder: Path) -> bool:
    """Whether `panembed predict` wrote there."""
    return (folder / RECORD_FILE).is_file()


def report_of_predictions(folder: Path, *, images: Path | None = None) -> Report:
    """Read a folder of predictions.

    Args:
        folder: that `panembed predict` wrote.
        images: folder of the photographs, where they are not any more where they were.

    Raises:
        InputError: its record or a table is damaged.
    """
    record = PredictionRecord.read(folder)
    label_set = record.label_set()
    rows = _objects(folder)
    by_file: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        by_file.setdefault(row.get("file", ""), []).append(row)
    entries = list(record.entries.values())
    report = Report(f"Predictions: {folder.resolve().name}", "What panembed predict found")
    scores = {entry.file: _scores(by_file.get(Path(entry.file).name, [])) for entry in entries}
    certainty = [_certainty(scores[entry.file]) for entry in entries]
    has_scores = any(value is not None for value in certainty)
    order = ranked(certainty, 1)
    if not has_scores:
        order = sorted(range(len(entries)), key=lambda index: Path(entries[index].file).name)
    budget = PictureBudget(len(entries))
    gone, channel = 0, _channel(record)
    for index in order:
        entry = entries[index]
        own = by_file.get(Path(entry.file).name, [])
        image, is_gone = _image(folder, entry, label_set, images, budget, channel)
        gone += is_gone
        image.values = {LEAST_CERTAIN: certainty[index], FEWEST: float(len(own)), MOST: float(len(own))}
        image.facts = [("objects", str(len(own)))]
        if (value := certainty[index]) is not None:
            image.facts.append(("mean score", f"{value:.2f}"))
            image.facts.append(("lowest", f"{scores[entry.file].min():.2f}"))
        report.images.append(image)
    report.orders = ({LEAST_CERTAIN: 1} if has_scores else {}) | {FEWEST: 1, MOST: -1}
    if not has_scores:
        report.notes.append("The objects have no scores, so images are in the order of their names.")
    if gone:
        report.notes.append(
            f"{counted(gone, 'photograph')} of {len(entries)} can't be read where it was when it was segmented; "
            "--images says where they are now. Predictions are shown without."
        )
    failed = _failed(folder)
    if failed:
        report.notes.append(f"{counted(len(failed), 'file')} could not be segmented; see the table.")
        report.tables.append(Table("Files that could not be segmented", ["file", "reason"], failed))
    report.notes += budget.notes()
    _summarise(report, record, rows, label_set)
    return report


def _summarise(report: Report, record: PredictionRecord, rows: list[dict[str, str]], label_set: LabelSet) -> None:
    call = record.call
    areas, scores = _numbers(rows, "area"), _numbers(rows, "score")
    report.headline = [("images", str(len(record.entries))), ("objects", str(len(rows)))]
    if len(rows):
        report.headline.append(("median area", f"{np.median(areas):.0f} px"))
    if len(scores):
        report.headline.append(("mean score", f"{scores.mean():.2f}"))
    report.facts = [("model", str(call.get("model"))), ("panembed", str(call.get("panembed")))]
    if call.get("set"):
        report.facts.append(("settings changed", ", ".join(call["set"])))
    if call.get("pixel_size") is not None:
        report.facts.append(("side of a pixel", f"{call['pixel_size']} {call.get('unit') or ''}".strip()))
    names = [label_set[index].name for index in label_set.things]
    if len(names) > 1:
        report.tables.append(
            Table(
                "Objects of each class",
                ["class", "objects", "median area, px"],
                [_class_row(name, [row for row in rows if row.get("class") == name]) for name in names],
            )
        )
    charts = (
        histogram("Scores of objects", {"objects": ("c0", scores)}, x_label="score", edges=np.linspace(0, 1, 21)),
        histogram("Sizes of objects", {"objects": ("c0", areas)}, x_label="area, pixels", log=True),
    )
    report.charts = [chart for chart in charts if chart is not None]


def _class_row(name: str, rows: list[dict[str, str]]) -> list[str]:
    areas = _numbers(rows, "area")
    return [name, str(len(rows)), f"{np.median(areas):.0f}" if len(areas) else "-"]


def _image(
    folder: Path, entry: Entry, label_set: LabelSet, images: Path | None, budget: PictureBudget, channel: Channel
) -> tuple[ReportImage, bool]:
    """The pictures of an image, and whether its photograph is not at hand."""
    image = ReportImage(Path(entry.file).name, (1, 1))
    notes = []
    pixels = find_photograph(Path(entry.file), images, entry.shape, channel)
    if pixels is None:
        notes.append(f"Its photograph {entry.file} can't be read.")
    panoptic = None
    try:
        panoptic = _map(folder, entry, label_set)
    except InputError as error:
        notes.append(f"{error}.")

    def draw(shape: tuple[int, int]) -> dict[str, str]:
        pictures = {} if pixels is None else {"input": photograph(pixels, shape)}
        return pictures if panoptic is None else pictures | {"prediction": label_layer(panoptic, label_set, shape)}

    image.shape, image.pictures = budget.fit(entry.shape, draw)
    image.note = " ".join(notes)
    return image, pixels is None


def _channel(record: PredictionRecord) -> Channel:
    """What was taken for the picture of files of many channels: what --channel said, or the default."""
    said = [str(value).partition("=")[2] for value in record.call.get("set") or () if "input.channel=" in str(value)]
    return (int(said[-1]) if said[-1].isdecimal() else cast(Channel, said[-1])) if said else "auto"


def find_photograph(
    path: Path, images: Path | None, shape: tuple[int, int], channel: Channel
) -> NDArray[np.uint8] | None:
    """The photograph of that height and width, in the folder `images` or where it was; None where it isn't there."""
    for place in (path,) if images is None else (images / path.name, path):
        try:
            pixels = read_image(place, channel=channel)
        except InputError:
            continue
        if pixels.shape[:2] == tuple(shape):
            return pixels
    return None


def _map(folder: Path, entry: Entry, label_set: LabelSet) -> PanopticMap:
    """As predicted, or as somebody has edited it since: the numbers and classes in the pictures."""
    pictures = read_pictures(folder, entry, label_set)
    if not pictures.changed:
        return as_predicted(pictures, entry, label_set).panoptic
    thing = label_set.things[0] if label_set.things else 0
    is_thing = np.isin(pictures.semantic, label_set.things)
    semantic = np.where((pictures.ids > 0) & ~is_thing, thing, pictures.semantic)
    return PanopticMap(semantic, pictures.ids)


def _certainty(scores: NDArray[np.float64]) -> float | None:
    return float(scores.mean()) if len(scores) else None


def _scores(rows: list[dict[str, str]]) -> NDArray[np.float64]:
    return _numbers(rows, "score")


def _numbers(rows: list[dict[str, str]], column: str) -> NDArray[np.float64]:
    """Those of a column that are numbers."""
    found = []
    for row in rows:
        try:
            found.append(float(row.get(column) or "nan"))
        except ValueError:
            continue
    numbers = np.array(found, dtype=np.float64)
    return numbers[np.isfinite(numbers)]


def _objects(folder: Path) -> list[dict[str, str]]:
    return read_table(folder / "objects.csv") if (folder / "objects.csv").is_file() else []


def _failed(folder: Path) -> list[list[str]]:
    path = folder / "failed.csv"
    rows: list[Mapping[str, str]] = list(read_table(path)) if path.is_file() else []
    return [[row.get("file") or "", row.get("reason") or ""] for row in rows]


def read_table(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV that panembed wrote; InputError where it can't be read."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path}: can't be read ({str(error)[:120]}); expected a table that panembed wrote") from error
