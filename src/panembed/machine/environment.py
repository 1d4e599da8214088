"""What a result depends on beside data and settings: versions of packages, and the machine."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = (
    "onnxruntime",
    "torch",
    "torchvision",
    "segmentation-models-pytorch",
    "accelerate",
    "numpy",
    "scipy",
    "scikit-image",
    "pillow",
)


_MEMORY_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Where Linux keeps the limit of a container, in its second and first way."""


def environment() -> dict[str, Any]:
    """Versions and machine, for environment.json and `panembed info`.

    >>> environment()["packages"]["numpy"][0].isdigit()
    True
    """
    packages = {}
    for name in _PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "not installed"
    return {
        "panembed": version("panembed"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "packages": packages,
    }


def memory() -> int:
    """Bytes of memory that this process may use: the machine's, or what a container or a cluster's job is given.

    >>> memory() > 1 << 20
    True
    """
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")] if hasattr(os, "sysconf") else [8 << 30]
    for path in _MEMORY_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # there is none, or it is `max`
            limits.append(int(Path(path).read_text()))
    return min(limits)


def available_cores() -> int:
    """Cores that this process may use, which a container or a cluster's job may be given few of."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def may_have_accelerator() -> bool:
    """Whether asking PyTorch for a GPU can pay; importing it to ask takes seconds.

    True where a driver of NVIDIA's or AMD's is to be seen, and on Apple's own processors.
    """
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    drivers = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/kfd", "/dev/dxg")
    return any(Path(path).exists() for path in drivers) or shutil.which("nvidia-smi") is not None
