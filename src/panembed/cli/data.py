"""`panembed data`: look at a data set, and split it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from panembed.cli.options import DataFormat, LabelsFile, open_data

app = typer.Typer(no_args_is_help=True, help="Look at a data set, and split it.", rich_markup_mode=None)
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="data set folder")]


@app.command("check")
def check(folder: Folder, format: DataFormat = "auto", labels: LabelsFile = None) -> None:
    """Read every image and label, and tell what is there. Exit code 3 if some can't be used.

    Example: panembed data check cvppp
    """
    from rich.console import Console

    from panembed.cli.console import bar, messages
    from panembed.cli.tables import census_table
    from panembed.datasets.census import take_census

    dataset = open_data(folder, format, labels)
    with bar() as progress:
        task = progress.add_task("reading", total=len(dataset), note="")
        census = take_census(dataset, each=lambda id: progress.advance(task))
    Console(highlight=False).print(census_table(census, dataset.label_set))
    for id, reason in census.broken.items():
        messages().print(f"{id}: {reason}")
    if census.broken:
        raise typer.Exit(3)


@app.command("split")
def split(
    folder: Folder,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="file to write; split.json in the folder")
    ] = None,
    seed: Annotated[int, typer.Option(help="of the random draw")] = 0,
    fractions: Annotated[tuple[float, float, float], typer.Option(help="training, validation, test")] = (0.6, 0.2, 0.2),
    format: DataFormat = "auto",
    labels: LabelsFile = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace a split that is there")] = False,
) -> None:
    """Draw a training, validation and test split, and write it to split.json.

    Example: panembed data split my-images
    """
    from panembed.cli.console import messages
    from panembed.datasets.splits import SPLIT_FILE, make_split
    from panembed.errors import OutputError

    dataset = open_data(folder, format, labels)
    path = output or folder / SPLIT_FILE
    if path.exists() and not overwrite:
        raise OutputError(f"{path}: there is a split already; keep it, or replace it with --overwrite")
    drawn = make_split(dataset.ids, seed=seed, fractions=fractions)
    drawn.write(path)
    messages().print(
        f"{len(drawn.train)} training, {len(drawn.val)} validation, {len(drawn.test)} test images; written to {path}"
    )
