"""`panembed predict`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, get_args

import typer

from panembed.cli.options import (
    AllowModule,
    ChannelName,
    Device,
    ModelName,
    OutputFolder,
    Overwrite,
    PredictionSettings,
    with_channel,
)

_INSTEAD = "--overwrite, or go on with a prediction by --resume"


def predict(
    model: ModelName,
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="images, or folders of images")],
    output: OutputFolder,
    device: Device = "auto",
    overwrite: Overwrite = False,
    pixel_size: Annotated[
        str | None,
        typer.Option(
            metavar="LENGTH|CSV",
            help="side of a pixel, such as 0.25um: tables also have area_um2, perimeter_um, ...; or a CSV with columns "
            "file and pixel_size; none ignores the files' own, which ImageJ and OME TIFFs have",
        ),
    ] = None,
    unit: Annotated[
        str | None, typer.Option(metavar="UNIT", help="nm, um, mm, cm or m: of the pixel size, and of the tables")
    ] = None,
    csv_dialect: Annotated[
        str,
        typer.Option(
            metavar="point|comma",
            help="numbers in tables: 1.5 between commas, or 1,5 between semicolons for spreadsheets that expect it",
        ),
    ] = "point",
    write: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FORMAT,...",
            help="also write rois (ImageJ), geojson (QuPath), coco, coco-rle, labels (TIFF), colors (PNG), "
            "yolo, or all of these; "
            "cvppp (the leaf challenge's HDF5)",
        ),
    ] = None,
    set_: PredictionSettings = None,
    channel: ChannelName = None,
    numbers: Annotated[
        bool, typer.Option("--numbers", help="write each object's number (instance_id of objects.csv) on the overlays")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="go on with the prediction in the output folder that was stopped")
    ] = False,
    allow_module: AllowModule = None,
) -> None:
    """Segment images.

    For each: NAME_instances.png, NAME_semantic.png and NAME_overlay.png. For all: objects.csv, summary.csv,
    panoptic.json with panoptic/NAME.png (COCO panoptic). Files that can't be read are named in failed.csv. What was
    done is noted in prediction.jsonl, by which --resume goes on; `panembed measure` measures pictures that you edited.

    Example: panembed predict --model runs/leaf photos --output results

    Example: panembed predict --model nuclei tissue --output results --set input.scale=0.6 --pixel-size 0.25

    Example: panembed predict --model nuclei tissue --output results --write rois,geojson

    Example: panembed predict --model nuclei two-channel.tif --output results --channel 1

    Example: panembed predict --model leaf trays --output results --pixel-size 0.1mm --csv-dialect comma
    """
    import panembed
    from panembed.assembly import trained_model
    from panembed.cli.console import bar, messages
    from panembed.errors import InputError, PanembedError, SettingsError
    from panembed.inference.model_folder import fingerprint
    from panembed.io.image_files import find_images, left_aside, unread, unread_pictures, without_results
    from panembed.io.output_folder import claim_folder, held_folder
    from panembed.io.pixel_scales import choose_scales
    from panembed.io.tables import CsvDialect
    from panembed.report.html import REPORT_FILE
    from panembed.report.tables import counted
    from panembed.results.exports.exporter import parse_formats
    from panembed.results.prediction_folder import PredictionFolder
    from panembed.results.remarks import sentences
    from panembed.results.resuming import begin, outcomes

    if resume and overwrite:
        raise SettingsError("--resume goes on with a prediction and --overwrite begins it anew; give one of them")
    if csv_dialect not in get_args(CsvDialect):
        raise SettingsError(f"--csv-dialect {csv_dialect!r} is unknown; expected {' or '.join(get_args(CsvDialect))}")
    dialect: CsvDialect = "comma" if csv_dialect == "comma" else "point"
    formats = parse_formats(write or ())
    photographs, results = without_results(inputs)
    if results and not photographs:
        raise InputError(f"{results[0]}: holds what predict wrote, no photographs; give the images themselves")
    inputs = photographs
    if results:
        messages().print(f"note: {counted(len(results), 'input')} of earlier results skipped: {results[0]}")
    files, overrides = find_images(inputs), with_channel(set_, channel)
    scales = choose_scales(files, pixel_size, unit)
    loaded = trained_model.load(model, device=device, overrides=overrides, allow_modules=allow_module or ())
    folder = claim_folder(output, overwrite=overwrite or resume, instead=_INSTEAD, inputs=files, stale=(REPORT_FILE,))
    odd = [path for place in inputs for path in unread_pictures(place)]
    if others := [path for path in left_aside(inputs) if path not in odd]:
        names = ", ".join(path.name for path in others[:3]) + (", ..." if len(others) > 3 else "")
        messages().print(f"note: {counted(len(others), 'file')} of other kinds left aside: {names}")
    call = {
        "panembed": panembed.__version__,
        "model": str(model),
        "weights": fingerprint(model),
        "classes": loaded.label_set.to_list(),
        "set": overrides,
        "channel": loaded.preparation.channel,
        "pixel_size": pixel_size,
        "unit": unit,
        "csv_dialect": csv_dialect,
        "write": list(formats),
        "numbers": numbers,
    }
    for note in scales.notes:
        messages().print(f"note: {note}")
    started = time.monotonic()
    with held_folder(folder):
        record = begin(folder, call, resume=resume)
        predictions = PredictionFolder(
            folder, loaded.label_set, formats=formats, record=record, numbered=numbers, dialect=dialect
        )
        try:
            with bar() as progress, predictions:
                task = progress.add_task("predicting", total=len(files), note="")
                for path, result, drawn in outcomes(files, record, loaded.label_set, loaded.predict_files):
                    if not isinstance(result, PanembedError):
                        result.pixel_size = scales.of(path)
                    error = predictions.add(path, result, drawn=drawn)
                    if error is not None:
                        progress.console.print(f"panembed: {error}", style="red", soft_wrap=True)
                    progress.advance(task)
                for path in odd:
                    predictions.add(path, InputError(unread(path)))
                    progress.console.print(f"panembed: {unread(path)}", style="red", soft_wrap=True)
        except KeyboardInterrupt as error:
            if not predictions.has_tables:
                raise
            done = f"{predictions.num_images} of {len(files)} images are done, and {folder} tells of these"
            raise KeyboardInterrupt(f"{done}; --resume goes on") from error
    for sentence in sentences(predictions.remarks, predictions.num_images):
        messages().print(f"note: {sentence}")
    messages().print(
        f"{counted(predictions.num_images, 'image')}, {counted(predictions.num_objects, 'object')} in "
        f"{time.monotonic() - started:.1f} s; written to {folder}"
    )
    if predictions.failed:
        messages().print(
            f"{len(predictions.failed)} of {len(files) + len(odd)} images failed; see {folder / 'failed.csv'}"
        )
        raise typer.Exit(3)
