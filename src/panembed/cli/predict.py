"""`panembed predict`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from panembed.cli.options import Device, ModelName, OutputFolder, Overwrite, PredictionSettings


def predict(
    model: ModelName,
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="images, or folders of images")],
    output: OutputFolder,
    device: Device = "auto",
    overwrite: Overwrite = False,
    pixel_size: Annotated[
        float | None,
        typer.Option(
            metavar="LENGTH",
            help="side of a pixel, say 0.25 for micrometres: objects.csv also has area_physical and perimeter_physical",
        ),
    ] = None,
    write: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FORMAT,...",
            help="also write rois (ImageJ), geojson (QuPath), coco, coco-rle, labels (TIFF), yolo, or all of these; "
            "cvppp (the leaf challenge's HDF5)",
        ),
    ] = None,
    set_: PredictionSettings = None,
) -> None:
    """Segment images.

    For each: NAME_instances.png, NAME_semantic.png and NAME_overlay.png. For all: objects.csv, summary.csv,
    panoptic.json with panoptic/NAME.png (COCO panoptic). Files that can't be read are named in failed.csv.

    Example: panembed predict --model runs/leaf photos --output results

    Example: panembed predict --model nuclei tissue --output results --set input.scale=0.6 --pixel-size 0.25

    Example: panembed predict --model nuclei tissue --output results --write rois,geojson
    """
    from panembed.assembly import trained_model
    from panembed.cli.console import bar, messages
    from panembed.errors import SettingsError
    from panembed.io.image_files import find_images, left_aside
    from panembed.io.output_folder import claim_folder
    from panembed.report.tables import counted
    from panembed.results.exports.exporter import parse_formats
    from panembed.results.prediction_folder import PredictionFolder

    if pixel_size is not None and not 0 < pixel_size < float("inf"):
        raise SettingsError(f"--pixel-size {pixel_size:g}: expected the length of a pixel's side, above 0")
    formats = parse_formats(write or ())
    files = find_images(inputs)
    loaded = trained_model.load(model, device=device, overrides=set_ or ())
    folder = claim_folder(output, overwrite=overwrite, inputs=files)
    if others := left_aside(inputs):
        names = ", ".join(path.name for path in others[:3]) + (", ..." if len(others) > 3 else "")
        messages().print(f"note: {counted(len(others), 'file')} of other kinds left aside: {names}")
    started = time.monotonic()
    predictions = PredictionFolder(folder, loaded.label_set, pixel_size, formats)
    try:
        with bar() as progress, predictions:
            task = progress.add_task("predicting", total=len(files), note="")
            for path, result in loaded.predict_files(files):
                error = predictions.add(path, result)
                if error is not None:
                    progress.console.print(f"panembed: {error}", style="red", soft_wrap=True)
                progress.advance(task)
    except KeyboardInterrupt as error:
        if not predictions.has_tables:
            raise
        done = f"{predictions.num_images} of {len(files)} images are done, and {folder} tells of these"
        raise KeyboardInterrupt(done) from error
    messages().print(
        f"{counted(predictions.num_images, 'image')}, {counted(predictions.num_objects, 'object')} in "
        f"{time.monotonic() - started:.1f} s; written to {folder}"
    )
    if predictions.failed:
        messages().print(f"{len(predictions.failed)} of {len(files)} images failed; see {folder / 'failed.csv'}")
        raise typer.Exit(3)
