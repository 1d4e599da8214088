"""A simplified graph computes what it did."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from panembed.models.onnx_export import trace
from panembed.models.onnx_graph import simplify
from panembed.models.panoptic_net import PanopticNet

# Sizes that `simplify` doesn't look at.
SIZES = [(1, 32, 32), (2, 64, 32), (1, 192, 96), (1, 288, 320)]


def run(model, images):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"image": images})


@pytest.mark.parametrize("encoder", ["tu-tf_efficientnet_lite0", "resnet18"])
def test_outputs_stay(encoder):
    torch.manual_seed(0)
    network = PanopticNet(
        2, 3, encoder=encoder, decoder_channels=(16, 16, 8, 8, 8), anchor_tau=9.0, coordinates=True, seed_head="series"
    ).eval()
    before, after = trace(network), trace(network)
    after.CopyFrom(before)
    simplify(after)
    onnx.checker.check_model(onnx.load_from_string(after.SerializeToString()))
    for size in SIZES:
        images = np.random.default_rng(0).standard_normal((size[0], 3, *size[1:])).astype(np.float32)
        for ours, theirs in zip(run(after, images), run(before, images)):
            assert ours.shape == theirs.shape
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())
    kinds = Counter(node.op_type for node in after.graph.node)
    assert kinds["Pad"] == 0
    assert len(after.graph.node) < len(before.graph.node)
    assert all(node.input[2] for node in after.graph.node if node.op_type == "Resize")
    weights = {name for name in network.state_dict() if not name.endswith("num_batches_tracked")}
    assert weights <= {tensor.name for tensor in after.graph.initializer}


def test_weights_keep_their_names_though_they_are_equal():
    """The exporter would make one of two equal ones, which later training tells apart."""
    network = PanopticNet(2, 3, encoder="resnet18", decoder_channels=(16, 16, 8, 8, 8)).eval()
    with torch.no_grad():
        for weight in network.state_dict().values():
            weight.fill_(1)
    weights = {name for name in network.state_dict() if not name.endswith("num_batches_tracked")}
    assert weights <= {tensor.name for tensor in trace(network).graph.initializer}
    assert float(network.class_head.weight.detach().mean()) == 1.0
