"""Options that several verbs share."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

DataFolder = Annotated[Path, typer.Option("--data", metavar="DIR", help="data set folder, or a COCO JSON")]
DataFormat = Annotated[
    str,
    typer.Option(
        "--format",
        metavar="LAYOUT",
        help="layout of the data, if auto guesses wrong: cvppp, cityscapes, coco-panoptic, "
        "coco-panoptic-2channel, coco, masks, stacks, labelme, yolo-seg, rois, geojson, folder",
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
Device = Annotated[str, typer.Option("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:1 or mps")]
PredictionSettings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="take another setting of input or grouping than the model's own, this time; can be repeated; "
        "`panembed info --settings` lists the keys",
    ),
]
AllowModule = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-module",
        metavar="MODULE",
        help="a Python module that a model's own network may be imported from; can be repeated",
    ),
]
ChannelName = Annotated[
    str | None,
    typer.Option(
        "--channel",
        metavar="red|green|blue|N",
        help="the channel that is the picture, by its colour or number from 1 (short for --set input.channel=...)",
    ),
]
ModelName = Annotated[
    Path,
    typer.Option(
        "--model",
        "-m",
        metavar="M",
        help="run folder, model folder, exported file, or a shipped model: leaf, nuclei",
    ),
]


def with_channel(overrides: list[str] | None, channel: str | None) -> list[str]:
    """The values of --set, with the one that --channel stands for.

    >>> with_channel(["input.scale=2"], "green")
    ['input.scale=2', 'input.channel=green']
    """
    from panembed.errors import SettingsError

    if channel is None:
        return list(overrides or [])
    if channel not in ("auto", "rgb", "red", "green", "blue") and not (channel.isascii() and channel.isdigit()):
        raise SettingsError(f"--channel {channel!r}: expected red, green, blue, or a number from 1")
    if channel.isdigit() and int(channel) < 1:
        raise SettingsError(f"--channel {channel}: channels are counted from 1; expected 1 for the first")
    return [*(overrides or []), f"input.channel={channel}"]


def whole_sentence(app: typer.Typer, name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator that makes a function a command whose line in the list of commands is never cut off.

    Args:
        app: of the commands.
        name: of the command.
    """

    def add(function: Callable[..., None]) -> Callable[..., None]:
        first = inspect.cleandoc(function.__doc__ or "").partition("\n\n")[0]
        return app.command(name, short_help=" ".join(first.split()))(function)

    return add


def open_data(  # type: ignore[no-untyped-def]
    data: Path, format: str, labels: Path | None, otherwise: Mapping[str, Any] | None = None
):
    """The data set that --data, --format and --labels name.

    Args:
        data: the folder.
        format: the name of its layout, or auto.
        labels: a labels.yaml.
        otherwise: what a labels.yaml would hold, from settings, for a folder that has none.
    """
    from panembed.datasets.source import DataSource

    return DataSource(data, format, labels, otherwise).open()
