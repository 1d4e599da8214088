"""ONNX Runtime gives what PyTorch gives, from any number of threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import panembed
from panembed.errors import ModelError, not_segmented
from panembed.inference import onnx_backend
from panembed.inference.onnx_backend import OnnxBackend


@pytest.fixture(scope="module")
def both(tiny_graph_folder):
    return [panembed.load(tiny_graph_folder, runtime=runtime, device="cpu") for runtime in ("onnx", "torch")]


@settings(max_examples=12, deadline=None)
@given(batch=st.integers(1, 3), height=st.integers(1, 6), width=st.integers(1, 6), seed=st.integers(0, 99))
def test_outputs_are_pytorchs(both, batch, height, width, seed):
    images = np.random.default_rng(seed).standard_normal((batch, 3, 32 * height, 32 * width)).astype(np.float32)
    ours, theirs = (model.backend(images) for model in both)
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs):
        assert mine.dtype == np.float32
        np.testing.assert_allclose(mine, other, atol=1e-4, rtol=1e-4)


def test_threads_do_not_mix_images_up(both):
    backend = both[0].backend
    images = [np.full((1, 3, 64, 64), value, np.float32) for value in range(12)]
    alone = [backend(image)[1] for image in images]
    with ThreadPoolExecutor(3, initializer=backend.start_worker) as pool:
        together = list(pool.map(lambda image: backend(image)[1], images))
    for one, other in zip(alone, together):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize(
    ("cores", "wanted", "workers", "each"), [(2, None, 2, 1), (32, None, 8, 4), (32, "3", 3, 1), (4, "64", 4, 1)]
)
def test_workers(both, monkeypatch, cores, wanted, workers, each):
    monkeypatch.setattr(onnx_backend, "available_cores", lambda: cores)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if wanted is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", wanted)
    made = OnnxBackend(both[0].backend._network, {"classes": 2, "embeddings": 4})
    assert made.num_workers == workers
    assert list(made._sessions) == [each]


def test_a_lack_of_memory_is_told_as_one(both, monkeypatch):
    class Session:
        def run(self, *arguments):
            raise onnx_backend.state.Fail(
                "[ONNXRuntimeError] : 1 : FAIL : Failed to allocate memory for requested buffer"
            )

    backend = OnnxBackend(both[0].backend._network, {"classes": 2, "embeddings": 4})
    monkeypatch.setattr(backend, "_session", lambda threads: Session())
    with pytest.raises(MemoryError) as caught:
        backend(np.zeros((1, 3, 32, 64), np.float32))
    told = str(not_segmented("a.png", caught.value))
    assert told.startswith(
        "a.png: could not be segmented (MemoryError: the network needs more than there is for 32 x 64"
    )


def test_images_that_the_network_cannot_take(both):
    """Not multiples of 32, which `Preparation` makes them."""
    with pytest.raises(ModelError, match=r"model\.onnx: "):
        both[0].backend(np.zeros((1, 3, 33, 47), np.float32))
