"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    pass

DataFolder = Annotated[Path, typer.Option("--data", metavar="DIR", help="data set folder; its layout is recognised")]
DataFormat = Annotated[
    str,
    typer.Option(
        "--format", help="layout of the data, if auto guesses wrong: cvppp, cityscapes, coco-panoptic, folder"
    ),
]
LabelsFile = Annotated[
    Path | None,
    typer.Option("--labels", metavar="FILE", help="labels.yaml naming the classes, if the data folder holds none"),
]
OutputFolder = Annotated[
    Path, typer.Option("--output", "-o", metavar="DIR", help="where results go; made where missing")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="write into a folder that holds files")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps")]
ModelName = Annotated[Path, typer.Option("--model", "-m", metavar="M", help="run folder or model folder")]


def open_data(data: Path, format: str, labels: Path | None):  # type: ignore[no-untyped-def]
    """The data set that --data, --format and --labels name."""
    from panembed.datasets.layout import open_dataset

    return open_dataset(data, format, **({} if labels is None else {"labels_file": labels}))
