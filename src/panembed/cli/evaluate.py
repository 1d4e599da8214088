"""`panembed evaluate`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from panembed.cli.options import (
    DataFolder,
    DataFormat,
    Device,
    LabelsFile,
    ModelName,
    OutputFolder,
    Overwrite,
    open_data,
)


def evaluate(
    model: ModelName,
    data: DataFolder,
    output: OutputFolder,
    split: Annotated[str, typer.Option(help="which images: test, val, train or all")] = "test",
    format: DataFormat = "auto",
    labels: LabelsFile = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    pictures: Annotated[int, typer.Option(min=0, max=50, help="how many of the worst images to draw")] = 6,
) -> None:
    """Score a model against truth: metrics.json, per_image.csv and pictures of the worst images.

    Example: panembed evaluate --model runs/leaf --data cvppp --output runs/leaf/test
    """
    from rich.console import Console

    from panembed import build
    from panembed.cli.console import bar, messages, quality_table
    from panembed.evaluation import evaluate_model
    from panembed.io.output_folder import claim_folder
    from panembed.labels import PanopticMap
    from panembed.report.figures import Comparison, comparison

    dataset = open_data(data, format, labels)
    loaded = build.load(model, device=device)
    ids = build.choose_ids(dataset, split, build.model_split(model))
    folder = claim_folder(output, overwrite=overwrite)
    predictions: dict[str, PanopticMap] = {}
    with bar() as progress:
        task = progress.add_task("evaluating", total=len(ids), note="")

        def each(id, prediction):  # type: ignore[no-untyped-def]
            predictions[id] = prediction
            progress.advance(task)

        evaluation = evaluate_model(loaded, dataset, ids, each)
    evaluation.write(folder)
    by_id = {row["id"]: row for row in evaluation.rows}
    worst = [
        Comparison(id, dataset.read_image(id), dataset.read_truth(id), predictions[id], _caption(by_id[id]))
        for id in evaluation.ranked()[:pictures]
    ]
    if worst:
        comparison(worst, dataset.label_set, folder / "worst.png")
    Console(highlight=False).print(quality_table(evaluation.quality_result(), evaluation.metrics()))
    messages().print(f"{split} split; written to {folder}")


def _caption(row: dict[str, Any]) -> str:
    quality = "-" if row["pq_things"] is None else f"{100 * row['pq_things']:.0f}"
    return f"things PQ {quality}, {row['objects_predicted']} of {row['objects_true']} objects"
