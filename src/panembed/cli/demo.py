"""`panembed demo`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from panembed.cli.options import Device, Overwrite


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="where everything goes")] = Path("demo"),
    seed: Annotated[int, typer.Option(metavar="N", help="of the training")] = 0,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Train on the nuclei images that come with panembed, score and predict images held out; some minutes on a CPU.

    Example: panembed demo --output demo
    """
    from panembed.assembly import build

    build.require_torch()
    from rich.console import Console

    from panembed.assembly import run, trained_model
    from panembed.cli.console import TrainingProgress, messages, quality_table
    from panembed.cli.predict import predict
    from panembed.datasets.part import choose_ids
    from panembed.datasets.samples import sample_nuclei
    from panembed.evaluation.scores import evaluate_model
    from panembed.io.output_folder import claim_folder
    from panembed.labels.panoptic_map import PanopticMap
    from panembed.machine.allocator import keep_freed_memory
    from panembed.report.figures import Comparison, comparison
    from panembed.settings.schema import Settings

    started = time.monotonic()
    console = messages()
    settings = Settings.load("demo", overrides=[f"training.seed={seed}"])
    dataset = sample_nuclei()
    claim_folder(output, overwrite=overwrite)
    keep_freed_memory()
    console.print("1 of 3: training on 36 images of cell nuclei")
    with TrainingProgress(settings.training.epochs) as progress:
        run.train(settings, dataset, output / "run", overwrite=overwrite, device=device, progress=progress)
    console.print("2 of 3: scoring images held out")
    model = trained_model.load(output / "run", device=device)
    ids = choose_ids(dataset, "test", trained_model.split_of(output / "run"))
    predictions: dict[str, PanopticMap] = {}
    evaluation = evaluate_model(model, dataset, ids, predictions.__setitem__)
    evaluation.write(claim_folder(output / "test", overwrite=overwrite))
    rows = [
        Comparison(
            id,
            dataset.read_image(id),
            dataset.read_truth(id),
            predictions[id],
            f"things PQ {100 * row['pq_things']:.0f}",
        )
        for id, row in ((row["id"], row) for row in evaluation.rows)
    ]
    half = (len(rows) + 1) // 2
    for name, part in (("comparison_1.png", rows[:half]), ("comparison_2.png", rows[half:])):
        comparison(part, dataset.label_set, output / "test" / name)
    console.print("3 of 3: predicting the same images, as for your own photographs")
    predict(output / "run", [dataset.image_path(id) for id in ids], output / "predictions", device, overwrite)
    Console(highlight=False).print(quality_table(evaluation.quality_result(), evaluation.metrics(), dataset.label_set))
    console.print(f"done in {time.monotonic() - started:.0f} s. Look at:")
    for path, what in (
        ("test/comparison_1.png", "input, truth, prediction and errors"),
        ("predictions", "overlays, instance maps, objects.csv"),
        ("run/curves.png", "loss and scores over the training"),
        ("test/metrics.json", "all scores"),
    ):
        typer.echo(f"{output / path}  ({what})")
