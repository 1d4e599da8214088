"""What a result depends on beside data and settings: versions of packages, and the machine."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

_PACKAGES = (
    "torch",
    "torchvision",
    "segmentation-models-pytorch",
    "accelerate",
    "numpy",
    "scipy",
    "scikit-image",
    "pillow",
)


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


def available_cores() -> int:
    """Cores that this process may use, which a container or a cluster's job may be given few of."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
