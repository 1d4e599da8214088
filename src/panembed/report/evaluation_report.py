"""What a report tells of a folder that `panembed evaluate` wrote."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from panembed.datasets.sample import Dataset, choose_channel
from panembed.datasets.source import DataSource, read_source
from panembed.errors import InputError, PanembedError
from panembed.evaluation.predictions.coco import CocoPredictions
from panembed.io.images import read_image
from panembed.labels.categories import LabelSet
from panembed.labels.panoptic_map import PanopticMap
from panembed.metrics.error_census import PREDICTED_LABELS, TRUE_LABELS
from panembed.report.charts import histogram, reliability
from panembed.report.error_colors import PREDICTED_NAMES, TRUE_NAMES, error_name
from panembed.report.html import PictureBudget, Report, ReportImage, Table, ranked
from panembed.report.matching_colors import match_colors
from panembed.report.pictures import error_layer, label_layer, photograph, shrunk
from panembed.report.prediction_report import read_table
from panembed.report.tables import counted

WORST = "worst first"
_QUALITIES = (("pq_things", "things PQ"), ("pq", "PQ"), ("pq_stuff", "stuff PQ"))


def is_evaluation_folder(folder: Path) -> bool:
    """Whether `panembed evaluate` wrote there."""
    return (folder / "metrics.json").is_file() and (folder / "per_image.csv").is_file()


def report_of_scores(
    folder: Path,
    *,
    source: DataSource | None = None,
    images: Path | None = None,
    each: Callable[[], None] = lambda: None,
) -> Report:
    """Read a folder of scores.

    Args:
        folder: that `panembed evaluate` wrote.
        source: of the truth, where it isn't any more where it was.
        images: folder of the photographs, where they are not with the truth.
        each: called after every image.

    Raises:
        InputError: a file is damaged; or the data that were given don't have the images.
    """
    metrics = _read_metrics(folder / "metrics.json")
    rows = read_table(folder / "per_image.csv")
    noted = read_source(folder)
    about = {} if noted is None else noted[1]
    report = Report(f"Scores: {about.get('scored') or folder.resolve().name}", "What panembed evaluate measured")
    dataset, predictions = None, None
    if noted is None and source is None:
        report.notes.append(
            f"{folder.name} was written by an older panembed, which doesn't note where its images are: there are no "
            "pictures. Evaluate again to have them."
        )
    else:
        dataset = _open(source, None if noted is None else noted[0], report)
    if dataset is not None:
        if about.get("channel") is not None:
            choose_channel(dataset, about["channel"])
        predictions = _Predictions.open(folder, dataset.label_set, report)
    qualities = [_first(row, [key for key, _ in _QUALITIES]) for row in rows]
    budget = PictureBudget(len(rows))
    areas: dict[str, list[int]] = {"true": [], "predicted": []}
    missing = 0
    for index in ranked(qualities, 1):
        image = _image(rows[index], dataset, predictions, images, budget, areas)
        image.values = {WORST: qualities[index]}
        if "objects_true" in rows[index]:
            lost, spare = _differences(rows[index])
            image.values |= {"most lost first": lost, "most false first": spare}
        missing += dataset is not None and "input" not in image.pictures and bool(image.pictures)
        report.images.append(image)
        each()
    report.orders = {WORST: 1}
    if any("most lost first" in image.values for image in report.images):
        report.orders |= {"most lost first": -1, "most false first": -1}
    if missing:
        report.notes.append(
            f"{counted(missing, 'photograph')} can't be read; truth and predictions are shown without. "
            "--images says where they are."
        )
    report.notes += budget.notes()
    _summarise(report, metrics, about, areas)
    return report


class _Predictions:
    """The predictions that were scored, by the ids of the images."""

    def __init__(self, stored: CocoPredictions) -> None:
        self._stored = stored
        self._place = {names[0]: place for place, names in enumerate(stored.names)}

    @classmethod
    def open(cls, folder: Path, label_set: LabelSet, report: Report) -> _Predictions | None:
        path = folder / "panoptic.json"
        if not path.is_file():
            report.notes.append(f"{path.name} is missing, so predictions are not shown; evaluate again to have them.")
            return None
        try:
            return cls(CocoPredictions(path, label_set))
        except InputError as error:
            report.notes.append(f"Predictions are not shown: {error}")
            return None

    def read(self, id: str) -> PanopticMap:
        if id not in self._place:
            raise InputError(f"{self._stored.source}: has no prediction for {id}; evaluate again")
        return self._stored.read(self._place[id])


def _open(given: DataSource | None, noted: DataSource | None, report: Report) -> Dataset | None:
    if given is not None:
        return given.open()
    assert noted is not None
    try:
        return noted.open()
    except PanembedError as error:
        report.notes.append(f"The images are not where they were: {error}. --data says where they are now.")
        return None


def _image(
    row: Mapping[str, str],
    dataset: Dataset | None,
    predictions: _Predictions | None,
    images: Path | None,
    budget: PictureBudget,
    areas: dict[str, list[int]],
) -> ReportImage:
    id = row["id"]
    image = ReportImage(id, (1, 1), facts=_facts(row))
    image.errors = {label: _count(row, f"census_predicted_{label}") for label in PREDICTED_LABELS}
    image.lost = sum(_count(row, f"census_{label}") for label in TRUE_LABELS if label != "found")
    if dataset is None:
        return image
    truth = prediction = None
    notes = []
    try:
        truth = dataset.read_truth(id)
    except InputError as error:
        notes.append(f"Its truth can't be read: {error}.")
    if predictions is not None:
        try:
            prediction = predictions.read(id)
        except InputError as error:
            notes.append(f"Its prediction can't be read: {error}.")
    if truth is not None and prediction is not None and truth.shape != prediction.shape:
        notes.append("Its truth has another size now than when it was evaluated.")
        truth = None
    known = truth if truth is not None else prediction
    for name, panoptic in (("true", truth), ("predicted", prediction)):
        if panoptic is not None:
            areas[name] += [
                s.area
                for s in panoptic.segments(dataset.label_set)[1]
                if dataset.label_set[s.category].is_thing and not s.is_crowd
            ]
    image.note = " ".join(notes)
    if known is None:
        return image
    pixels = _photograph(dataset, id, images)
    if pixels is not None and pixels.shape[:2] != known.shape:
        pixels = None

    def draw(shape: tuple[int, int]) -> dict[str, str]:
        pictures = {}
        if pixels is not None:
            pictures["input"] = photograph(pixels, shape)
        colored = None if prediction is None else shrunk(prediction, shape)
        if truth is not None and colored is not None:
            # Of the shrunk maps, as on large ones it takes longer than all the rest.
            colored = match_colors(colored, shrunk(truth, shape), dataset.label_set)
        for view, panoptic in (("truth", truth), ("prediction", colored)):
            if panoptic is not None:
                pictures[view] = label_layer(panoptic, dataset.label_set, shape)
        if truth is not None and prediction is not None and dataset.label_set.things:
            pictures["errors"], image.errors, image.lost = error_layer(prediction, truth, dataset.label_set, shape)
        return pictures

    image.shape, image.pictures = budget.fit(known.shape, draw)
    return image


def _photograph(dataset: Dataset, id: str, images: Path | None) -> Any:
    """HxWx3 uint8; None where it can't be read."""
    path = dataset.image_path(id)
    if images is not None:
        for place in (images / f"{id}{path.suffix}", images / path.name):
            try:
                return read_image(place)
            except InputError:
                continue
    try:
        return dataset.read_image(id)
    except InputError:
        return None


def _facts(row: Mapping[str, str]) -> list[tuple[str, str]]:
    facts = []
    for key, name in _QUALITIES:
        if (value := _number(row, key)) is not None:
            facts.append((name, f"{100 * value:.0f}"))
    for key, name in (("objects_true", "true"), ("objects_predicted", "predicted")):
        if key in row:
            facts.append((name, str(_count(row, key))))
    return facts


def _differences(row: Mapping[str, str]) -> tuple[float, float]:
    """True objects that are lost, and predicted ones that match none."""
    found = _count(row, "census_found")
    ignored = _count(row, "census_predicted_ignored")
    return (
        float(_count(row, "objects_true") - found),
        float(_count(row, "objects_predicted") - _count(row, "census_predicted_found") - ignored),
    )


def _first(row: Mapping[str, str], keys: list[str]) -> float | None:
    return next((value for key in keys if (value := _number(row, key)) is not None), None)


def _number(row: Mapping[str, str], key: str) -> float | None:
    try:
        value = float(row.get(key) or "nan")
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def _count(row: Mapping[str, str], key: str) -> int:
    return int(_number(row, key) or 0)


def _summarise(
    report: Report, metrics: Mapping[str, Any], about: Mapping[str, Any], areas: Mapping[str, list[int]]
) -> None:
    report.headline = [
        (name, text)
        for name, text in (
            ("things PQ", _percent(metrics.get("things", {}).get("pq"))),
            ("stuff PQ", _percent(metrics.get("stuff", {}).get("pq"))),
            ("SBD", _percent(metrics.get("sbd"))),
            ("|DiC|", _decimal(metrics.get("abs_dic"))),
            ("AP50", _percent(metrics.get("coco_ap50", metrics.get("ap50")))),
            ("mIoU", _percent(metrics.get("miou"))),
            ("images", str(metrics.get("images", len(report.images)))),
        )
        if text != "-"
    ]
    for key, name in (
        ("scored", "scored"),
        ("part", "part"),
        ("data", "data"),
        ("model", "model"),
        ("predictions", "predictions"),
        ("panembed", "panembed"),
    ):
        if about.get(key):
            report.facts.append((name, str(about[key])))
    if metrics.get("overrides"):
        report.facts.append(("settings changed", ", ".join(map(str, metrics["overrides"]))))
    report.tables.append(_quality_table(metrics))
    census = metrics.get("census")
    if isinstance(census, Mapping):
        report.tables += _census_tables(census)
    charts = [
        histogram(
            "Sizes of objects",
            {"true": ("c0", areas["true"]), "predicted": ("c1", areas["predicted"])},
            x_label="area, pixels",
            log=True,
        )
    ]
    scored = metrics.get("score_reliability")
    if isinstance(scored, Mapping):
        charts += _score_charts(scored)
    report.charts = [chart for chart in charts if chart is not None]


def _score_charts(scored: Mapping[str, Any]) -> list[Any]:
    bins = [b for b in scored.get("bins") or () if isinstance(b, Mapping)]
    error, area = scored.get("expected_calibration_error"), scored.get("auc")
    note = f"Expected calibration error {_decimal(error, 3)}, area under the ROC curve {_decimal(area, 3)}."
    values = {"match a true object": ("c2", list[float]()), "match none": ("c1", list[float]())}
    for b in bins:
        middle, count = (b["from"] + b["to"]) / 2, int(b.get("objects") or 0)
        matched = round(count * float(b.get("matched") or 0))
        values["match a true object"][1].extend([middle] * matched)
        values["match none"][1].extend([middle] * (count - matched))
    edges = [b["from"] for b in bins] + [bins[-1]["to"]] if bins else None
    return [histogram("Scores of objects", values, x_label="score", edges=edges), reliability(bins, note)]


def _quality_table(metrics: Mapping[str, Any]) -> Table:
    groups = [(name, metrics.get(name) or {}) for name in ("all", "things", "stuff")]
    groups += list((metrics.get("per_class") or {}).items())
    rows = []
    for name, score in groups:
        shares = [_percent(score.get(key)) for key in ("pq", "sq", "rq", "iou")]
        rows.append([name, *shares, *(str(score.get(key, "-")) for key in ("tp", "fp", "fn"))])
    return Table(
        "Panoptic Quality, in percent",
        ["", "PQ", "SQ", "RQ", "IoU", "matched", "unmatched predicted", "unmatched true"],
        rows,
    )


def _census_tables(census: Mapping[str, Any]) -> list[Table]:
    tables = []
    for side, labels, names in (("true", TRUE_LABELS, TRUE_NAMES), ("predicted", PREDICTED_LABELS, PREDICTED_NAMES)):
        counts = {"all": census.get(side) or {}}
        if len(census.get("per_class") or {}) > 1:
            counts |= {name: both.get(side) or {} for name, both in census["per_class"].items()}
        rows = [[name, *(str(row.get(key, 0)) for key in ("objects", *labels))] for name, row in counts.items()]
        columns = ["", "objects", *(error_name(label, names) for label in labels)]
        tables.append(Table(f"What became of {side} objects", columns, rows))
    groups = census.get("by_size") or []
    if len(groups) > 1:
        shares = [
            [f"{g['area_from']} to {g['area_to']} px", str(g["objects"])]
            + [f"{100 * g.get(label, 0) / max(g['objects'], 1):.0f} %" for label in TRUE_LABELS]
            for g in groups
        ]
        columns = ["size", "objects", *(error_name(label, TRUE_NAMES) for label in TRUE_LABELS)]
        tables.append(Table("True objects by size", columns, shares))
    return tables


def _percent(value: Any) -> str:
    return "-" if not isinstance(value, int | float) else f"{100 * value:.1f}"


def _decimal(value: Any, digits: int = 2) -> str:
    return "-" if not isinstance(value, int | float) else f"{value:.{digits}f}"


def _read_metrics(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: can't be read; expected what `panembed evaluate` wrote; evaluate again") from error
    if not isinstance(data, dict):
        raise InputError(
            f"{path}: holds {type(data).__name__}; expected what `panembed evaluate` wrote; evaluate again"
        )
    return data
