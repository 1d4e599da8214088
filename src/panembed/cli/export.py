"""`panembed export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from panembed.cli.options import AllowModule, ModelName


def export(
    model: ModelName,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE.onnx",
            help="file to write, with everything in it; without, the model's folder gets a graph beside its weights",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace a file that is there")] = False,
    allow_module: AllowModule = None,
) -> None:
    """Write a model as ONNX: it then predicts without PyTorch, and on a CPU faster than with it.

    The file is compared with PyTorch before it is kept. It is a model like any other: predict, evaluate and tune take
    it as --model.

    Example: panembed export --model runs/leaf --output leaf.onnx

    Example: panembed export --model runs/leaf
    """
    from panembed.assembly.export import export as write
    from panembed.cli.console import messages
    from panembed.inference.own_code import allowing

    with allowing(allow_module or ()):
        written = write(model, output, overwrite=overwrite)
    sizes = " and ".join(f"{height} x {width}" for height, width in written.sizes)
    messages().print(
        f"{written.path}: {written.path.stat().st_size / 1e6:.2g} MB; outputs for {sizes} pixels are PyTorch's within "
        f"{written.difference:.0e} of their largest value"
    )
