"""From a PyTorch network to an ONNX graph with weights under the names of PyTorch's, for images of any size."""

from __future__ import annotations

import contextlib
import copy
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from panembed.errors import ModelError
from panembed.inference.onnx_file import INPUT, OUTPUTS
from panembed.inference.onnx_messages import Model
from panembed.models.panoptic_net import PanopticNet

_OPSET = 18
"""Version of ONNX's operators: read by ONNX Runtime since 1.14 (2023)."""

_EXAMPLE = (2, 3, 64, 96)
"""Batch, channels, height and width of the image that is traced; sizes stay open."""


def trace(network: PanopticNet) -> Any:
    """The network's graph as PyTorch's exporter writes it, with weights of no use under the names of the network's.

    The exporter that traces (`dynamo=False`) is taken: it ends in seconds. `torch.export` with open sizes had not ended
    after 15 minutes.

    Returns:
        A `ModelProto` with one input and two or three outputs of open batch, height and width.

    Raises:
        ModelError: PyTorch can't export this architecture.
    """
    made = copy.deepcopy(network).float().cpu().eval().to(memory_format=torch.contiguous_format)
    with torch.no_grad():
        for tensor in made.state_dict().values():
            # All different: the exporter would make one of equal weights, which later training tells apart.
            if tensor.is_floating_point():
                tensor.uniform_(0.5, 1.5)
    with torch.inference_mode():
        outputs = made(torch.zeros(_EXAMPLE))
    names = list(OUTPUTS[: len(outputs)])
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), _quiet():
        # It warns of itself, and of what becomes a constant, which the comparison with PyTorch afterwards would show.
        warnings.simplefilter("ignore")
        path = Path(folder) / "traced.onnx"
        try:
            torch.onnx.export(
                made,
                (torch.zeros(_EXAMPLE),),
                path,
                dynamo=False,
                opset_version=_OPSET,
                input_names=[INPUT],
                output_names=names,
                dynamic_axes={name: {0: "batch", 2: "height", 3: "width"} for name in (INPUT, *names)},
                do_constant_folding=False,
                # Else batch norm would be computed into the weights, which then were others than PyTorch's.
                training=torch.onnx.TrainingMode.PRESERVE,
            )
        except (torch.onnx.errors.OnnxExporterError, RuntimeError, ValueError, TypeError) as error:
            reason = str(error).strip().partition("\n")[0][:200]
            raise ModelError(
                f"PyTorch can't export this network to ONNX ({reason}); predict with PyTorch, or train another "
                "model.architecture"
            ) from error
        model = Model.FromString(path.read_bytes())
    for node in model.graph.node:
        node.ClearField("doc_string")
    for value, output in zip(model.graph.output, outputs):
        # Some architectures hide how many channels there are.
        value.type.tensor_type.shape.dim[1].Clear()
        value.type.tensor_type.shape.dim[1].dim_value = output.shape[1]
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter would print the whole graph that it can't export; its own switch for that is always on (2.14)."""
    log = torch._C._jit_onnx_log
    torch._C._jit_onnx_log = lambda *arguments: None
    try:
        yield
    finally:
        torch._C._jit_onnx_log = log
