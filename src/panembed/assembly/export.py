"""A trained model as an ONNX file, which predicts without PyTorch."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from panembed.assembly import build, trained_model
from panembed.errors import ModelError, OutputError
from panembed.inference.model_config import ModelConfig, config_data, read_config
from panembed.inference.model_folder import is_shipped, resolve_model_folder
from panembed.inference.onnx_backend import OnnxBackend
from panembed.inference.onnx_file import (
    CONFIG_KEY,
    GRAPH,
    NETWORK_KEY,
    WEIGHTS,
    WeightPlace,
    exported_network,
    external_tensor,
    network_beside,
    weight_places,
)
from panembed.inference.onnx_messages import FLOAT, FLOAT16, Node, Tensor
from panembed.io.atomic import atomic_path

if TYPE_CHECKING:
    from panembed.models.panoptic_net import PanopticNet

_CHECKED: tuple[tuple[int, int], ...] = ((96, 192), (224, 160))
"""Heights and widths at which a file is compared with PyTorch; not those that `panembed.models.onnx_graph` looks at."""

_TOLERANCE = 1e-3
"""Largest difference to PyTorch, as a share of an output's largest value; rounding gives some 1e-5."""


_ATTRIBUTE_INT = 2
"""Number of a whole number among ONNX's kinds of attributes."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Attributes:
        path: the file.
        difference: largest difference to PyTorch, as a share of an output's largest value.
        sizes: heights and widths at which the two were compared.
    """

    path: Path
    difference: float
    sizes: tuple[tuple[int, int], ...]


def export(
    name: str | os.PathLike[str], output: str | os.PathLike[str] | None = None, *, overwrite: bool = False
) -> Exported:
    """Write a model as ONNX, for images of any size.

    Args:
        name: a run folder, a model folder, or the name of a shipped model.
        output: the file, which then holds all: network, weights, settings, classes, split. None writes the graph alone
            to model.onnx in the model's own folder, for the weights beside it; that folder then needs no PyTorch.
        overwrite: replace a file.

    Raises:
        ModelError: the model can't be read, PyTorch can't export it, or what was written doesn't compute what PyTorch
            does: then there is no file.
        OutputError: the place can't be written, or there is a file.
        MissingExtraError: PyTorch is not installed.
    """
    build.require_torch()
    from panembed.models.onnx_export import trace
    from panembed.models.onnx_graph import simplify

    folder = resolve_model_folder(name)
    path = folder / GRAPH if output is None else Path(output)
    if output is None and is_shipped(folder):
        raise OutputError(f"{folder}: comes with the package and stays as it is; give --output FILE.onnx")
    if path.suffix.lower() != ".onnx":
        raise OutputError(f"{path}: expected the name of a file that ends in .onnx")
    if path.exists() and not overwrite:
        raise OutputError(f"{path}: is there already; choose another name, or replace it with --overwrite")
    config = read_config(folder)
    settings, label_set = trained_model.read_settings(folder, config)
    channels = trained_model.output_channels(settings, label_set)
    network = trained_model.network(folder, settings, label_set)
    model = trace(network)
    simplify(model)
    data = (folder / WEIGHTS).read_bytes()
    _attach_weights(model.graph, weight_places(folder / WEIGHTS, data), None if output is None else data)
    _describe(model, config, whole=output is not None)
    with atomic_path(path) as temporary:
        temporary.write_bytes(model.SerializeToString())
        if output is None:
            made = network_beside(folder, channels=channels, network=config.settings["model"], graph=temporary)
        else:
            made = exported_network(temporary, channels=channels)
        difference = _compare(OnnxBackend(made, channels), network, path)
    return Exported(path, difference, _CHECKED)


def _attach_weights(graph: Any, places: Mapping[str, WeightPlace], data: bytes | None) -> None:
    """Give a graph the weights of model.safetensors instead of those that it was traced with.

    Half-precision weights stay so, and are cast where they are used; ONNX Runtime does that once, when it loads them.

    Args:
        graph: whose tensors have the names of the weights.
        places: of the weights in the file.
        data: content of the file; None lets the graph point into it.
    """
    casts = []
    for tensor in graph.initializer:
        place = places.get(tensor.name)
        if place is None:
            continue  # a constant of the graph
        if data is None:
            tensor.CopyFrom(external_tensor(tensor.name, place))
        else:
            tensor.CopyFrom(Tensor(name=tensor.name, data_type=place.data_type, dims=place.shape))
            tensor.raw_data = data[place.offset : place.offset + place.length]
        if place.data_type == FLOAT16:
            cast = Node(op_type="Cast", input=[tensor.name], output=[f"{tensor.name}:float32"])
            cast.attribute.add(name="to", i=FLOAT, type=_ATTRIBUTE_INT)
            casts.append(cast)
    cast_names = {cast.input[0]: cast.output[0] for cast in casts}
    for node in graph.node:
        node.input[:] = [cast_names.get(name, name) for name in node.input]
    nodes = [*casts, *(Node.FromString(node.SerializeToString()) for node in graph.node)]
    del graph.node[:]
    graph.node.extend(nodes)


def _describe(model: Any, config: ModelConfig, *, whole: bool) -> None:
    """Say in a file what it is; with `whole` also all that a model folder's config.json says."""
    model.producer_name, model.producer_version = "panembed", version("panembed")
    model.doc_string = (
        "Panoptic segmentation by pixel embeddings. Input: RGB images, normalised as settings.input of the metadata "
        f"{CONFIG_KEY} says, height and width multiples of 32. Outputs: class scores before softmax, embeddings, seeds."
    )
    del model.metadata_props[:]
    model.metadata_props.add(key=NETWORK_KEY, value=json.dumps(config.settings["model"]))
    if whole:
        model.metadata_props.add(key=CONFIG_KEY, value=json.dumps(config_data(config)))


def _compare(exported: OnnxBackend, network: PanopticNet, path: Path) -> float:
    """The largest difference to PyTorch, as a share of an output's largest value; ModelError if that is much."""
    import torch

    from panembed.models.torch_backend import TorchBackend

    original = TorchBackend(network, torch.device("cpu"))
    random = np.random.default_rng(0)
    worst = 0.0
    for batch, (height, width) in enumerate(_CHECKED, 1):
        images = random.standard_normal((batch, 3, height, width)).astype(np.float32)
        for ours, theirs in zip(exported(images), original(images), strict=True):
            if ours.shape != theirs.shape:
                raise ModelError(f"{path}: not written, as it gives {ours.shape} where PyTorch gives {theirs.shape}")
            difference = float(np.abs(ours - theirs).max() / max(1e-6, np.abs(theirs).max()))
            worst = max(worst, difference) if difference == difference else float("nan")
    if not worst <= _TOLERANCE:
        raise ModelError(
            f"{path}: not written, as its outputs differ from PyTorch's by {worst:.2g} of their largest value; "
            f"expected at most {_TOLERANCE:g}; predict with the run folder instead"
        )
    return worst
