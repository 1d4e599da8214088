"""`panembed predict`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from panembed.cli.options import Device, ModelName, OutputFolder, Overwrite


def predict(
    model: ModelName,
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="images, or folders of images")],
    output: OutputFolder,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Segment images.

    For each: NAME_instances.png, NAME_semantic.png and NAME_overlay.png. For all: objects.csv, summary.csv,
    panoptic.json with panoptic/NAME.png (COCO panoptic). Files that can't be read are named in failed.csv.

    Example: panembed predict --model runs/leaf photos --output results
    """
    from panembed import build
    from panembed.cli.console import bar, messages
    from panembed.inference.prediction_folder import PredictionFolder
    from panembed.io.images import find_images
    from panembed.io.output_folder import claim_folder

    files = find_images(inputs)
    loaded = build.load(model, device=device)
    folder = claim_folder(output, overwrite=overwrite)
    started = time.monotonic()
    with bar() as progress, PredictionFolder(folder, loaded.label_set) as predictions:
        task = progress.add_task("predicting", total=len(files), note="")
        for path, result in loaded.predict_files(files):
            error = predictions.add(path, result)
            if error is not None:
                progress.console.print(f"panembed: {error}", style="red", soft_wrap=True)
            progress.advance(task)
    messages().print(
        f"{predictions.num_images} images, {predictions.num_objects} objects in {time.monotonic() - started:.1f} s; "
        f"written to {folder}"
    )
    if predictions.failed:
        messages().print(f"{len(predictions.failed)} of {len(files)} images failed; see {folder / 'failed.csv'}")
        raise typer.Exit(3)
