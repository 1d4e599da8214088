"""Runs a network by ONNX Runtime, for prediction without PyTorch."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as state

from panembed.errors import ModelError
from panembed.inference.onnx_file import INPUT, WEIGHTS, Network
from panembed.machine.environment import available_cores, memory

_MOST_WORKERS = 8

_FAILURES = (
    *(state.Fail, state.InvalidArgument, state.InvalidGraph, state.InvalidProtobuf, state.NoModel, state.NoSuchFile),
    *(state.NotImplemented, state.RuntimeException, state.EngineError, state.EPFail, RuntimeError, ValueError),
)
"""What ONNX Runtime raises; its classes share no base."""

_LACK_OF_MEMORY = ("Failed to allocate memory", "Available memory of", "bad_alloc", "bad allocation")
"""Words of its messages."""

_SHARE_OF_MEMORY = 0.8
"""How much of its memory the process gives to networks; an image too large for that fails by itself, and no more."""

_LARGE = 1 << 21
"""Pixels of a batch beyond which the memory it needed is given back at once; kept for the next, it saves time."""


class OnnxBackend:
    """Calls a network in ONNX Runtime, on the CPU; in float32.

    Args:
        network: as `panembed.inference.onnx_file` reads it.
        channels: of the outputs that it should have, by their names.

    Raises:
        ModelError: ONNX Runtime can't take it.
    """

    def __init__(self, network: Network, channels: Mapping[str, int]) -> None:
        self._network = network
        self._channels = dict(channels)
        self._cores = _cores()
        self._sessions: dict[int, Any] = {}
        self._making = threading.Lock()
        self._worker = threading.local()
        # Now, as a network that can't run should be told of when it is loaded.
        self._session(self._threads_of_worker)

    @property
    def num_workers(self) -> int:
        """One per core, 8 at most: whole images side by side wait less than parts of one image."""
        return min(self._cores, _MOST_WORKERS)

    @property
    def _threads_of_worker(self) -> int:
        return max(1, self._cores // _MOST_WORKERS)

    def start_worker(self) -> None:
        """See `panembed.inference.backend.Backend`."""
        self._worker.threads = self._threads_of_worker

    def __call__(self, images: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        """See `panembed.inference.backend.Backend`.

        Raises:
            MemoryError: the images are too large.
            ModelError: the network can't run on images of this size, or gives something else than it says.
        """
        session = self._session(getattr(self._worker, "threads", self._cores))
        batch, _, height, width = images.shape
        run = onnxruntime.RunOptions()
        if batch * height * width > _LARGE:
            run.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        try:
            outputs = session.run(list(self._channels), {INPUT: images}, run)
        except _FAILURES as error:
            if any(words in str(error) for words in _LACK_OF_MEMORY):
                raise MemoryError(f"the network needs more than there is for {height} x {width} pixels") from error
            raise ModelError(
                f"{self._network.source}: the network can't run on {height} x {width} pixels ({_reason(error)})"
            ) from error
        for output, channels in zip(outputs, self._channels.values()):
            if output.shape != (batch, channels, height, width) or output.dtype != np.float32:
                raise ModelError(
                    f"{self._network.source}: gives {output.dtype} {output.shape}; expected float32 "
                    f"{(batch, channels, height, width)}; export the model again"
                )
        return tuple(outputs)

    def _session(self, threads: int) -> Any:
        """One that spreads an image over so many threads; a session's number of them is fixed."""
        with self._making:
            if threads not in self._sessions:
                self._sessions[threads] = _session(self._network, threads)
            return self._sessions[threads]


def _session(network: Network, threads: int) -> Any:
    _limit_memory()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # what it would print is raised, too
    # Threads that wait by running in circles take the cores from others, and win nothing here.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.use_env_allocators", "1")
    if network.weights is not None:
        # By the file's name and content, so that nothing on the disk is looked for.
        options.add_external_initializers_from_files_in_memory([WEIGHTS], [network.weights], [len(network.weights)])
    try:
        return onnxruntime.InferenceSession(network.graph, options, providers=["CPUExecutionProvider"])
    except _FAILURES as error:
        raise ModelError(
            f"{network.source}: ONNX Runtime can't take this network ({_reason(error)}); export the model again"
        ) from error


@cache
def _limit_memory() -> None:
    """Once in a process: networks get no more memory than there is, else a huge image would end it without a word."""
    limits = onnxruntime.OrtArenaCfg(
        {
            "max_mem": int(_SHARE_OF_MEMORY * memory()),
            "arena_extend_strategy": 1,  # as much as is asked for, not twice the last
            "initial_chunk_size_bytes": -1,
            "max_dead_bytes_per_chunk": -1,
        }
    )
    place = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    onnxruntime.create_and_register_allocator(place, limits)


def _cores() -> int:
    """Those that this process may use; fewer where OMP_NUM_THREADS says so, as for PyTorch and NumPy."""
    wanted = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    cores = available_cores()
    return max(1, min(cores, int(wanted))) if wanted.isdigit() else cores


def _reason(error: Exception) -> str:
    """The first line of what ONNX Runtime says, without its prefix, cut short."""
    text = " ".join(str(error).partition("\n")[0].split()).rpartition("] : ")[2]
    return text[:200]
