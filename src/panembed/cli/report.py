"""`panembed report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from panembed.cli.options import DataFormat, Device, LabelsFile

if TYPE_CHECKING:
    from panembed.datasets.source import DataSource
    from panembed.report.html import Report


def report(
    folder: Annotated[
        Path, typer.Argument(metavar="RUN|PREDICTIONS|SCORES", help="what train, predict or evaluate wrote")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="the page; by default FOLDER/report.html")
    ] = None,
    images: Annotated[
        Path | None, typer.Option("--images", metavar="DIR", help="where the photographs are now, if they were moved")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="where the data set is now, if it was moved; of RUN and SCORES"),
    ] = None,
    format: DataFormat = "auto",
    labels: LabelsFile = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            "--seconds",
            min=0,
            metavar="N",
            help="how long the network may take to draw what it gives for some images of RUN; 60 by default, 0 leaves "
            "it out",
        ),
    ] = None,
    device: Device = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace a report that is there")] = False,
) -> None:
    """Make one HTML page of a run, of predictions, or of scores, to look at without a network.

    All images with input, truth, prediction and errors, worst or least certain first; counts of errors, sizes, scores
    and how far they can be trusted; of a run its curves, and what the network gives for some validation images.

    Example: panembed report results

    Example: panembed report runs/leaf --output leaf.html
    """
    from panembed.cli.console import messages
    from panembed.errors import InputError, OutputError
    from panembed.report.evaluation_report import is_evaluation_folder
    from panembed.report.html import REPORT_FILE, write_report
    from panembed.report.prediction_report import is_prediction_folder, report_of_predictions
    from panembed.report.run_report import is_run_folder

    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected one that panembed train, predict or evaluate wrote")
    path = output or folder / REPORT_FILE
    if path.suffix.lower() not in (".html", ".htm"):
        raise OutputError(f"{path}: expected a name that ends in .html; choose another for --output")
    if path.exists() and not overwrite:
        raise OutputError(f"{path}: is there already; choose another name with --output, or allow it with --overwrite")
    source = _source(data, format, labels)
    is_run = is_run_folder(folder)
    _check_options(folder, is_run, is_prediction_folder(folder), source, seconds, device)
    if is_run:
        page = _of_run(folder, source, images, 60.0 if seconds is None else seconds, device)
    elif is_prediction_folder(folder):
        page = report_of_predictions(folder, images=images)
    elif is_evaluation_folder(folder):
        page = _of_scores(folder, source, images)
    else:
        raise InputError(
            f"{folder}: holds neither a run (config.yaml), nor predictions (prediction.jsonl), nor scores "
            "(metrics.json and per_image.csv); expected a folder that panembed train, predict or evaluate wrote"
        )
    write_report(page, path)
    for note in page.notes:
        messages().print(f"note: {note}")
    messages().print(f"{len(page.images)} images, {path.stat().st_size / 1e6:.1f} MB; written to {path}")


def _source(data: Path | None, format: str, labels: Path | None) -> DataSource | None:
    from panembed.datasets.source import DataSource
    from panembed.errors import SettingsError

    if data is not None:
        return DataSource(data, format, labels)
    for option, given in (("--format", format != "auto"), ("--labels", labels is not None)):
        if given:
            raise SettingsError(f"{option} has no effect without --data; leave it out, or give the data")
    return None


def _check_options(
    folder: Path, is_run: bool, is_predictions: bool, source: DataSource | None, seconds: float | None, device: str
) -> None:
    from panembed.errors import SettingsError

    unused = {"--data": source is not None and is_predictions and not is_run}
    if not is_run:
        unused |= {"--seconds": seconds is not None, "--device": device != "auto"}
    for option, given in unused.items():
        if given:
            kind = "predictions" if is_predictions else "scores"
            raise SettingsError(f"{option} has no effect on the {kind} in {folder}; leave it out")


def _of_scores(folder: Path, source: DataSource | None, images: Path | None) -> Report:
    from panembed.cli.console import bar
    from panembed.report.evaluation_report import report_of_scores

    with bar() as progress:
        task = progress.add_task("drawing", total=None, note="")
        return report_of_scores(folder, source=source, images=images, each=lambda: progress.advance(task))


def _of_run(folder: Path, source: DataSource | None, images: Path | None, seconds: float, device: str) -> Report:
    from panembed.assembly.network_examples import add_network
    from panembed.report.html import Report
    from panembed.report.run_report import add_run, scores_in

    scores = scores_in(folder)
    if scores is None:
        page = Report("", "")
        page.notes.append(
            f"This run has no scores yet; panembed evaluate --model {folder} --data DIR --output {folder / 'test'} "
            "makes them, and the report shows their images then."
        )
    else:
        page = _of_scores(scores, source, images)
        page.facts.append(("scores of", scores.name))
    page.title, page.kind = f"Run: {folder.resolve().name}", "What panembed train wrote"
    add_run(page, folder)
    if seconds > 0:
        add_network(page, folder, source, seconds=seconds, device=device)
    return page
