"""`panembed predict`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from panembed.cli.options import Device, ModelName, OutputFolder, Overwrite

OBJECT_COLUMNS = ("file", "instance_id")
SUMMARY_COLUMNS = ("file", "width", "height", "objects")


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
    from panembed.errors import InputError, PanembedError
    from panembed.io.coco_panoptic import CocoPanopticWriter
    from panembed.io.images import find_images
    from panembed.io.output_folder import claim_folder
    from panembed.io.tables import write_csv

    files = find_images(inputs)
    loaded = build.load(model, device=device)
    folder = claim_folder(output, overwrite=overwrite)
    objects: list[dict[str, Any]] = []
    summary: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    names: dict[str, Path] = {}
    started = time.monotonic()
    coco = CocoPanopticWriter(folder, loaded.label_set)
    with bar() as progress:
        task = progress.add_task("predicting", total=len(files), note="")
        for path, result in loaded.predict_files(files):
            progress.advance(task)
            if path.stem in names and not isinstance(result, PanembedError):
                result = InputError(
                    f"{path}: its results would replace those of {names[path.stem]}; rename one of them"
                )
            if isinstance(result, PanembedError):
                failed.append({"file": str(path), "reason": str(result)})
                progress.console.print(f"panembed: {result}", style="red")
                continue
            names[path.stem] = path
            result.save(folder)
            coco.add(path.name, result.panoptic)
            rows = result.measure()
            objects += [{"file": path.name, "instance_id": n, **row} for n, row in enumerate(rows, start=1)]
            height, width = result.panoptic.shape
            summary.append(
                {"file": path.name, "width": width, "height": height, "objects": len(rows), **result.counts()}
            )
    coco.close()
    write_csv(folder / "objects.csv", objects, columns=OBJECT_COLUMNS)
    write_csv(folder / "summary.csv", summary, columns=SUMMARY_COLUMNS)
    if failed:
        write_csv(folder / "failed.csv", failed, columns=("file", "reason"))
    seconds = time.monotonic() - started
    messages().print(f"{len(summary)} images, {len(objects)} objects in {seconds:.1f} s; written to {folder}")
    if failed:
        messages().print(f"{len(failed)} of {len(files)} images failed; see {folder / 'failed.csv'}")
        raise typer.Exit(3)
