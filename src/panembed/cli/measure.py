"""`panembed measure`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def measure(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="what `panembed predict` wrote")],
    images: Annotated[
        Path | None,
        typer.Option("--images", metavar="DIR", help="where the photographs are now, if they were moved"),
    ] = None,
) -> None:
    """Measure and draw again what was edited in a folder of predictions.

    Edit NAME_instances.png: 0 is no object, every other number one object. With several classes, paint a new object
    in NAME_semantic.png, too. Tables, overlays, panoptic.json and the formats of --write then tell of the edited
    pictures; images whose pictures are as predicted keep their rows.

    Example: panembed measure results
    """
    from panembed.cli.console import bar, messages
    from panembed.report.tables import counted
    from panembed.results.measuring import measure_again

    with bar() as progress:
        task = progress.add_task("measuring", total=None, note="")

        def each(error: str | None) -> None:
            if error is not None:
                progress.console.print(f"panembed: {error}", style="red", soft_wrap=True)
            progress.advance(task)

        done = measure_again(folder, images=images, each=each)
    for name in done.without_image:
        messages().print(f"note: {name}: its photograph is gone, so the overlay is grey; --images says where it is")
    messages().print(
        f"{counted(done.num_edited, 'image')} of {done.num_images} edited, {counted(done.num_objects, 'object')} in "
        f"all; tables and overlays in {folder} are up to date"
    )
    if done.failed:
        messages().print(f"{counted(len(done.failed), 'picture')} can't be used; see {folder / 'failed.csv'}")
        raise typer.Exit(3)
